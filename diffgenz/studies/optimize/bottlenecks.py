"""Which limit is next: the limits that are active one after another as a number grows."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from diffgenz.core.errors import InputError, NoSolution
from diffgenz.scenario.mix import Question
from diffgenz.studies.optimize.choices import Choices
from diffgenz.studies.optimize.lanes import Progress
from diffgenz.studies.optimize.optimum import PlanOptimum
from diffgenz.studies.optimize.scaled import Asked, said_without_factor
from diffgenz.studies.optimize.variables import Bounds

_LEVELS, _HALVINGS = 9, 5
"""Factors of a path at first, and how often the gap to where limits change is halved."""


class Bottleneck(NamedTuple):
    """A part of a path in which one plan is best and the same limits are active.

    Arguments:
        low, high: the first and last factor at which that was found.
        plan: in words, with what is chosen.
        active: the limits and bounds, the dearest first at `low`.
        value_low, value_high: the best objective at both ends.
        elasticity: by how many percent the objective moves for one percent more of the number, from
            one end to the other; None where both are one.
    """

    low: float
    high: float
    plan: str
    active: tuple[str, ...]
    value_low: float
    value_high: float
    elasticity: float | None


def bottlenecks(
    name: str,
    factor: float,
    case: Question,
    over: Bounds,
    objective: str,
    *,
    maximise: bool = False,
    subject_to: Sequence[str] = ("fits",),
    derived: Mapping[str, str] | None = None,
    quantities: Mapping[str, str] | None = None,
    plans: Any = None,
    choices: Choices | None = None,
    starts: int = 2,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Bottleneck, ...]:
    """Which limits are active as one number grows to a multiple of it, or shrinks to a part.

    Where the plan or the limits change between two factors, the gap is halved five times.

    Arguments:
        name: of a number or quantity that is not free.
        factor: where the path ends, which begins at 1; above 0 and not 1.
        case, over, objective, maximise, subject_to, derived, quantities, plans, choices: as in
            `optimize`.
        starts, seed, progress: as in `optimize`.

    Raises:
        InputError: as `optimize`; a number that is free, a factor that cannot be used.
        NoSolution: nothing meets the limits anywhere on the path.
    """
    if factor == 1:
        raise InputError(f"{name}: a factor of 1 changes nothing; give another")
    asked = Asked(
        case, over, objective, maximise, subject_to, derived or {}, quantities or {}, plans,
        choices or {}, starts, seed, progress,
    ).scaled(name, (factor,))  # fmt: skip
    found = asked.along(np.geomspace(1.0, factor, _LEVELS).tolist())
    if not found:
        raise NoSolution(f"{name}: nothing meets the limits from 1 to {factor:g} times as much")
    for _ in range(_HALVINGS):
        order = sorted(found)
        middles = [
            float(np.sqrt(one * other))
            for one, other in pairwise(order)
            if _state(found[one]) != _state(found[other])
        ]
        if not middles:
            break
        found |= asked.along(middles)
    order = sorted(found, reverse=factor < 1)
    runs: list[list[float]] = []
    for each in order:
        if runs and _state(found[runs[-1][-1]]) == _state(found[each]):
            runs[-1].append(each)
        else:
            runs.append([each])
    return tuple(_part(found, run) for run in runs)


def _part(found: dict[float, PlanOptimum], run: list[float]) -> Bottleneck:
    first, last = found[run[0]], found[run[-1]]
    slope = None
    if len(run) > 1:
        slope = float(np.log(last.value / first.value) / np.log(run[-1] / run[0]))
    active = tuple(_names(first))
    return Bottleneck(
        run[0], run[-1], said_without_factor(first), active, first.value, last.value, slope
    )


def _names(row: PlanOptimum) -> list[str]:
    return [f"{each.name}, {each.bound} bound" if each.bound else each.name for each in row.prices]


def _state(row: PlanOptimum) -> tuple[str, frozenset[str]]:
    return said_without_factor(row), frozenset(_names(row))
