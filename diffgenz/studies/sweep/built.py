"""How the accelerator of a space is built, where a formula names what that takes."""

from collections.abc import Iterable, Iterator

from diffgenz.core.errors import InputError
from diffgenz.hardware.accelerator import Accelerator
from diffgenz.hardware.design import Design
from diffgenz.hardware.platform import Platform
from diffgenz.scenario.mix import Question, parts_of
from diffgenz.studies.sweep.slots import Slot
from diffgenz.studies.sweep.space import Space
from diffgenz.technology.build import QUANTITIES
from diffgenz.technology.chip import stated_design


def design_of_space(space: Space, variant: int, names: Iterable[str]) -> Design | None:
    """How the accelerator of a variant is built; None where no name asks for it.

    Arguments:
        space: the space.
        variant: which variant of it.
        names: of the numbers that its formulas come down to.

    Raises:
        InputError: its file does not say, or an axis chooses among accelerators that are built
            differently and share a program, which knows one design.
    """
    asked = sorted(set(names) & QUANTITIES.keys())
    if not asked:
        return None
    parts = parts_of(space.variant(variant))
    designs = {stated_design(part.platform) for part in parts}
    for slot in space.slots:
        if isinstance(slot, Slot):
            of_slot = {design for option in slot.options for design in _designs(option.values())}
            if of_slot - designs:
                raise InputError(
                    f"{asked[0]}: axis {slot.name} chooses among accelerators that are built "
                    "differently; sweep them one at a time"
                )
    if len(designs) > 1:
        raise InputError(
            f"{asked[0]}: the scenarios of the mix have accelerators that are built differently"
        )
    return designs.pop()


def _designs(values: Iterable[object]) -> Iterator[Design | None]:
    """The designs of the accelerators in what an option sets."""
    for value in values:
        if isinstance(value, Platform):
            yield value.accelerator.design
        elif isinstance(value, Accelerator):
            yield value.design


def platform_of(question: Question) -> Platform:
    """The platform of a scenario, or the one that the scenarios of a mix share."""
    return parts_of(question)[0].platform
