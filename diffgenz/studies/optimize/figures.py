"""What formulas and limits of an optimization are made of, beside its own numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar
from diffgenz.hardware.design import Design
from diffgenz.inference.estimate import Estimate
from diffgenz.inference.mix import mixed_metrics
from diffgenz.studies.optimize.limits import NEEDED, ROOM
from diffgenz.studies.optimize.parts import estimates_of
from diffgenz.studies.sweep.built import platform_of
from diffgenz.technology.build import quantities_of
from diffgenz.technology.coefficients import Technology
from diffgenz.technology.files import load_technology
from diffgenz.technology.fitting import with_values

COEFFICIENT = "technology."
"""What the names of chosen coefficients of technology begin with."""


def figures_of(
    question: Any, design: Design | None, technology: Technology | None
) -> dict[str, Scalar]:
    """Every metric, what "fits" compares, and what the accelerator takes to build.

    Arguments:
        question: with all its numbers.
        design: how the accelerator is built; None where no formula asks what it takes.
        technology: of the accelerator; None: as fitted to public chips.
    """
    estimates: Sequence[Estimate] = estimates_of(question)
    found = mixed_metrics(question, estimates)
    for index, result in enumerate(estimates):
        memory = result.memory
        share = (memory.capacity - memory.margin) / memory.capacity
        if memory.draft is not None:
            own = memory.draft
            share = xp.maximum(share, (own.capacity - own.margin) / own.capacity)
        found[NEEDED.format(index)] = share * memory.capacity
        found[ROOM.format(index)] = memory.capacity
    if design is not None:
        found |= quantities_of(platform_of(question), design, technology)
    return found


def technology_with(numbers: Mapping[str, Any]) -> Technology | None:
    """The technology with the coefficients that are chosen; None where none is.

    Arguments:
        numbers: by name.
    """
    own = {
        name.removeprefix(COEFFICIENT): number
        for name, number in numbers.items()
        if name.startswith(COEFFICIENT)
    }
    return with_values(load_technology(), list(own), list(own.values())) if own else None
