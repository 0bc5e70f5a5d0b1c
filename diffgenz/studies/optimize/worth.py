"""What more of one number is worth: the difference of two optima, and what it may cost."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from diffgenz.core.errors import InputError, NoSolution
from diffgenz.core.leaves import Path, called, leaf_names, with_unset
from diffgenz.scenario.mix import Question, parts_of, paths_named
from diffgenz.serving.load_metrics import EVERY_METRIC
from diffgenz.studies.optimize.choices import Choices
from diffgenz.studies.optimize.lanes import Progress
from diffgenz.studies.optimize.scaled import Asked, said_without_factor
from diffgenz.studies.optimize.variables import Bounds
from diffgenz.technology.build import QUANTITIES

_PREMIUM, _GOAL = "_premium", "_goal"

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
    if factor == 1:
        raise InputError(f"{name}: a factor of 1 changes nothing; give another")
    asked = Asked(
        case, over, objective, maximise, subject_to, derived or {}, quantities or {}, plans,
        choices or {}, starts, seed, progress,
    ).scaled(name, (factor,))  # fmt: skip
    found = asked.along((1.0, float(factor)))
    if len(found) < 2:
        lost = ", ".join(f"{each:g}" for each in (1.0, factor) if each not in found)
        raise NoSolution(f"{name}: nothing meets the limits at {lost} times as much")
    now, then = found[1.0], found[float(factor)]
    gain = (then.value - now.value) * (1 if maximise else -1)
    unit = (
        EVERY_METRIC[objective].unit if objective in EVERY_METRIC else QUANTITIES.get(objective, "")
    )
    labels = said_without_factor(now), said_without_factor(then)
    premium = _premium(asked, factor, now.value) if gain > 0 else 0.0
    return Worth(name, factor, now.value, then.value, labels, gain, unit, premium)


def _premium(asked: Asked, factor: float, before: float) -> float | None:
    """USD/s by which an accelerator may get dearer; None where its price moves nothing."""
    price = parts_of(asked.case)[0].platform.accelerator.price
    question = with_unset(asked.case, "accelerator.price", 1.0)
    places = paths_named(question, "accelerator.price")
    key = next((each for each in asked.derived if _is_at(question, each, places)), None)
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


def _is_at(question: Question, name: str, places: tuple[Path, ...]) -> bool:
    """Whether a number is at some places."""
    return any(called(full, name) for full in leaf_names(question)) and (
        paths_named(question, name) == places
    )
