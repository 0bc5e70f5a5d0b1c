"""Several questions about one platform: scenarios that take turns on it."""

from collections.abc import Iterable
from typing import Any

from diffgenz.core.checks import Condition
from diffgenz.core.errors import InputError
from diffgenz.core.leaves import Path, find, leaf_at
from diffgenz.core.record import Record, number
from diffgenz.core.smooth import Leaf
from diffgenz.scenario.scenario import Scenario

ALIKE = "scenarios"
"""The field of a mix whose entries are alike: a name that fits each of them means all of them."""


class Mix(Record):
    """Scenarios that take turns on the same accelerators.

    Arguments:
        scenarios: the scenarios, at least one.
        shares: the part of all output tokens that each scenario makes, above 0 and in any unit:
            they are divided by their sum.

    Raises:
        InputError: no scenario, a share that is not above 0, or not as many shares as scenarios.
    """

    scenarios: tuple[Scenario, ...]
    shares: tuple[Leaf, ...] = number(above=0)

    def conditions(self) -> Iterable[Condition]:
        if not self.scenarios:
            raise InputError("scenarios: a mix needs at least one")
        if len(self.shares) != len(self.scenarios):
            raise InputError(
                f"shares: {len(self.shares)} shares for {len(self.scenarios)} scenarios; "
                "give one each"
            )
        return ()


def parts_of(question: Scenario | Mix) -> tuple[Scenario, ...]:
    """The scenarios of a mix, or the one scenario that a question is."""
    return question.scenarios if isinstance(question, Mix) else (question,)


def paths_named(question: Scenario | Mix, name: str, *, parts: bool = False) -> tuple[Path, ...]:
    """The paths of the numbers called `name`, as in `core.leaves.find`.

    A name that fits one number of each scenario of a mix means all of them.

    Arguments:
        question: the scenario or mix in which the number is.
        name: its full name, or the end of it: "memory_bandwidth", "plan.tensor".
        parts: whether whole records ("platform", "plan") are looked for too.

    Raises:
        InputError: no number has that name (the nearest names are given), or several have it.
    """
    return find(question, name, alike=ALIKE, parts=parts)


def number_named(question: Scenario | Mix, name: str) -> Any:
    """The number called `name`; the first scenario's where each scenario of a mix has one.

    Raises:
        InputError: as in `paths_named`.
    """
    return leaf_at(question, paths_named(question, name)[0])
