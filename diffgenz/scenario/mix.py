"""Questions about one platform: a scenario, or what is made of scenarios, such as several that take
turns on it."""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Self, TypeAlias

from diffgenz.core.checks import Condition
from diffgenz.core.errors import InputError
from diffgenz.core.leaves import Path, find, leaf_at, with_parts
from diffgenz.core.record import Record, number
from diffgenz.core.smooth import Leaf
from diffgenz.scenario.scenario import Scenario

ALIKE = "scenarios"
"""The field of a mix whose entries are alike: a name that fits each of them means all of them."""


class Composed(Record):
    """A question that is made of scenarios; whoever answers it knows what it asks of them."""

    @property
    @abstractmethod
    def parts(self) -> tuple[Scenario, ...]:
        """The scenarios."""

    @abstractmethod
    def with_parts_changed(self, changed: Callable[[Scenario], Scenario]) -> Self:
        """The same of other scenarios; nothing is checked."""


class Mix(Composed):
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

    @property
    def parts(self) -> tuple[Scenario, ...]:
        return self.scenarios

    def with_parts_changed(self, changed: Callable[[Scenario], Scenario]) -> Self:
        return with_parts(self, {ALIKE: tuple(changed(part) for part in self.scenarios)})


Question: TypeAlias = Scenario | Composed
"""What sweeps and `optimize` ask: one scenario, or a question made of some."""


def parts_of(question: Question) -> tuple[Scenario, ...]:
    """The scenarios that a question is made of, or the one that it is."""
    return question.parts if isinstance(question, Composed) else (question,)


def with_each_part(question: Question, changed: Callable[[Scenario], Scenario]) -> Question:
    """The question with each of its scenarios changed; nothing is checked."""
    if isinstance(question, Scenario):
        return changed(question)
    return question.with_parts_changed(changed)


def paths_named(question: Question, name: str, *, parts: bool = False) -> tuple[Path, ...]:
    """The paths of the numbers called `name`, as in `core.leaves.find`.

    A name that fits one number of each scenario of a mix means all of them.

    Arguments:
        question: the question in which the number is.
        name: its full name, or the end of it: "memory_bandwidth", "plan.tensor".
        parts: whether whole records ("platform", "plan") are looked for too.

    Raises:
        InputError: no number has that name (the nearest names are given), or several have it.
    """
    return find(question, name, alike=ALIKE, parts=parts)


def number_named(question: Question, name: str) -> Any:
    """The number called `name`; the first scenario's where each scenario of a mix has one.

    Raises:
        InputError: as in `paths_named`.
    """
    return leaf_at(question, paths_named(question, name)[0])
