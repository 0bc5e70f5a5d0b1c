"""What more of one number is worth, and which limit is next: optima along a factor of it.

The factor is a choice, so that all its values are lanes of one problem beside plans. Everything
that is free adapts at each value, and the best plan may change.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from diffgenz.core.errors import InputError, NoSolution
from diffgenz.core.leaves import with_unset
from diffgenz.scenario.mix import Question, parts_of, paths_named
from diffgenz.serving.load_metrics import EVERY_METRIC
from diffgenz.studies.optimize.choices import Choices
from diffgenz.studies.optimize.lanes import Lanes, Progress
from diffgenz.studies.optimize.optimize import problems_of
from diffgenz.studies.optimize.optimum import PlanOptimum
from diffgenz.studies.optimize.variables import Bounds
from diffgenz.studies.sweep.axes import values
from diffgenz.technology.build import QUANTITIES

_FACTOR, _PREMIUM, _GOAL = "_factor", "_premium", "_goal"
_LEVELS, _HALVINGS = 9, 5
"""Factors of a path at first, and how often the gap to where limits change is halved."""

_DEARER = 1.0, 1e3
"""What multiple of its price an accelerator may cost, at least and at most."""

_SCALE = 1e-3
"""USD/s that stand for the price of an accelerator where none is stated: the unit of a premium."""


class Worth(NamedTuple):
    """What a multiple of a number is worth.

    Arguments:
        name: of the number.
        factor: what it is multiplied by.
        now: the best objective as it is.
        then: the best objective with the multiple.
        plans: the best plan of both, in words, with what is chosen.
        gain: by how much the objective gets better.
        unit: of the objective; "" where it is not known.
        premium: USD/s by which the price of an accelerator may grow for the multiple until the
            objective is what it was, all else adapting; None where prices do not count, 0 where
            the multiple gains nothing.
    """

    name: str
    factor: float
    now: float
    then: float
    plans: tuple[str, str]
    gain: float
    unit: str
    premium: float | None


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


class _Asked(NamedTuple):
    """What `optimize` is asked."""

    case: Question
    over: Bounds
    objective: str
    maximise: bool
    subject_to: Sequence[str]
    derived: Mapping[str, str]
    quantities: Mapping[str, str]
    plans: Any
    choices: Choices
    starts: int
    seed: int
    progress: Progress | None

    def scaled(self, name: str) -> "_Asked":
        """The same with a number that is multiplied by the factor."""
        if name in self.quantities:
            if name in self.over or name in self.choices:
                raise InputError(f"{name}: it is free or chosen; name a number that is not")
            formulas = dict(self.quantities) | {name: f"{_FACTOR} * ({self.quantities[name]})"}
            return self._replace(quantities=formulas)
        question = self.case
        for each in (*self.over, *self.derived, *self.choices, name):
            question = with_unset(question, each, 1.0) if each not in self.quantities else question
        paths = set(paths_named(question, name))
        for each in (*self.over, *self.choices):
            known = each not in self.quantities and _is_number(self.choices, each)
            if known and paths & set(paths_named(question, each)):
                raise InputError(f"{name}: it is free or chosen; name a number that is not")
        for each, formula in self.derived.items():
            if paths == set(paths_named(question, each)):
                return self._replace(derived={**self.derived, each: f"{_FACTOR} * ({formula})"})
        return self._replace(derived={name: f"{_FACTOR} * {name}", **self.derived})

    def along(self, factors: Sequence[float]) -> dict[float, PlanOptimum]:
        """The best of each factor that has a solution."""
        asked = (
            self.over,
            self.objective,
            self.maximise,
            self.subject_to,
            self.derived,
            {**self.quantities, _FACTOR: "1"},
        )
        choices = {**self.choices, _FACTOR: values(*factors)}
        problems, _ = problems_of(self.case, asked, self.plans, choices)
        best: dict[float, PlanOptimum] = {}
        for problem in problems:
            for row in Lanes(problem, self.starts, self.seed, self.progress).solved().rows:
                factor = float(row.choices[_FACTOR])
                before = best.get(factor)
                if row.feasible and (before is None or self._better(row.value, before.value)):
                    best[factor] = row
        return best

    def _better(self, one: float, other: float) -> bool:
        return one > other if self.maximise else one < other


def _is_number(choices: Choices, name: str) -> bool:
    return name not in choices or hasattr(choices[name], "levels")


def worth_of(
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
    starts: int = 4,
    seed: int = 0,
    progress: Progress | None = None,
) -> Worth:
    """What a multiple of a number is worth: the difference of two optima, and what it may cost.

    Arguments:
        name: of a number or quantity that is not free: "network[0].bandwidth".
        factor: what it is multiplied by; above 0 and not 1.
        case, over, objective, maximise, subject_to, derived, quantities, plans, choices: as in
            `optimize`.
        starts, seed, progress: as in `optimize`.

    Raises:
        InputError: as `optimize`; a number that is free, a factor that cannot be used.
        NoSolution: nothing meets the limits with either.
    """
    _check(name, factor)
    asked = _Asked(
        case, over, objective, maximise, subject_to, derived or {}, quantities or {}, plans,
        choices or {}, starts, seed, progress,
    ).scaled(name)  # fmt: skip
    found = asked.along((1.0, float(factor)))
    if len(found) < 2:
        lost = ", ".join(f"{each:g}" for each in (1.0, factor) if each not in found)
        raise NoSolution(f"{name}: nothing meets the limits at {lost} times as much")
    now, then = found[1.0], found[float(factor)]
    gain = (then.value - now.value) * (1 if maximise else -1)
    unit = (
        EVERY_METRIC[objective].unit if objective in EVERY_METRIC else QUANTITIES.get(objective, "")
    )
    labels = _without(now), _without(then)
    premium = _premium(asked, factor, now.value) if gain > 0 else 0.0
    return Worth(name, factor, now.value, then.value, labels, gain, unit, premium)


def _premium(asked: _Asked, factor: float, before: float) -> float | None:
    """USD/s by which an accelerator may get dearer; None where its price moves nothing."""
    price = parts_of(asked.case)[0].platform.accelerator.price
    key = next((each for each in asked.derived if each.endswith("accelerator.price")), None)
    if key is None and price is None:
        return None
    unit = _SCALE if price is None else float(np.asarray(price))
    key = key or "accelerator.price"
    formula = asked.derived.get(key, key)
    goal = f"{_GOAL} >= {before!r}" if asked.maximise else f"{_GOAL} <= {before!r}"
    inverse = asked._replace(
        over={**asked.over, _PREMIUM: _DEARER},
        objective=_PREMIUM,
        maximise=True,
        subject_to=[*asked.subject_to, goal],
        derived={**asked.derived, key: f"{formula} + ({_PREMIUM} - 1) * {unit!r}"},
        quantities={**asked.quantities, _PREMIUM: "1", _GOAL: asked.objective},
    )
    found = inverse.along((float(factor),)).get(float(factor))
    if found is None:
        return 0.0
    return None if found.value >= 0.999 * _DEARER[1] else (found.value - 1) * unit


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
    _check(name, factor)
    asked = _Asked(
        case, over, objective, maximise, subject_to, derived or {}, quantities or {}, plans,
        choices or {}, starts, seed, progress,
    ).scaled(name)  # fmt: skip
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
    return Bottleneck(run[0], run[-1], _without(first), active, first.value, last.value, slope)


def _names(row: PlanOptimum) -> list[str]:
    return [f"{each.name}, {each.bound} bound" if each.bound else each.name for each in row.prices]


def _state(row: PlanOptimum) -> tuple[str, frozenset[str]]:
    return _without(row), frozenset(_names(row))


def _without(row: PlanOptimum) -> str:
    """Plan and choices in words, but for the factor."""
    return row.label_without(_FACTOR)


def _check(name: str, factor: float) -> None:
    if not (np.isfinite(factor) and factor > 0 and factor != 1):
        raise InputError(f"{name}: a factor of {factor:g} is not allowed; give one above 0, not 1")
