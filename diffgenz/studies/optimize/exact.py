"""From the smooth optimum to an exact one: whole requests, no smoothing, hardware adapted again."""

from collections.abc import Callable, Sequence
from itertools import product

import jax
import numpy as np

from diffgenz.core import xp
from diffgenz.core.checks import enforce
from diffgenz.core.differences import in_double
from diffgenz.core.record import conditions_within
from diffgenz.core.smooth import HARD
from diffgenz.scenario.mix import Question, parts_of
from diffgenz.studies.optimize.layouts import label_of
from diffgenz.studies.optimize.optimum import Exact
from diffgenz.studies.optimize.problem import Problem
from diffgenz.studies.optimize.quadratic import Numbers
from diffgenz.studies.optimize.slopes import point_at
from diffgenz.studies.optimize.sqp import Point, Solved, descend

CANDIDATES = 3
"""The best plans that are made exact."""

_BOTH_SIDES = 3
"""Counts of which both neighbours are tried; with more of them, the nearest alone."""

_TILES = 8, 16, 32, 64
"""Multiples that kernels pad rows to: the nearest of each are tried where one count is free."""

_CLEAR = 2e-6
"""How far it stays from each limit, in the logarithm: estimates in float32 confirm it then."""

_MET = 1e-5
"""The violation in the logarithm that is still called none."""


def exact_optimum(
    problem: Problem,
    solved: Solved,
    plans: np.ndarray,
    progress: Callable[[int, int], None] | None = None,
) -> Exact | None:
    """The best exact optimum near some smooth ones; None where none meets the limits.

    Maxima are made hard first, all numbers being free, then counts whole, the others adapting.

    Arguments:
        problem: the smooth problem.
        solved: lanes at its optima, the best first.
        plans: the number of the plan of each.
        progress: as in `descend`.
    """
    solved, plans = solved.at(np.arange(len(plans))[:CANDIDATES]), plans[:CANDIDATES]
    every = np.arange(len(problem.variables))
    whole = [index for index in every.tolist() if problem.variables[index].whole]
    free = np.setdiff1d(every, np.asarray(whole, int))

    def polished(hard: Problem, x: Numbers, lanes: np.ndarray, free: np.ndarray) -> Solved:
        def evaluate(part: Numbers, which: np.ndarray) -> Point:
            full = x[which].copy()
            full[:, free] = part
            point = point_at(hard, full, plans[lanes[which]], free)
            return point._replace(c=point.c + _CLEAR)

        return descend(
            evaluate,
            x[:, free],
            problem.low[free],
            problem.high[free],
            problem.weights,
            tolerance=1e-7,
            iterations=30,
            curvature=solved.curvature[lanes][:, free][:, :, free],
            progress=progress,
        )

    smooth = problem.hardened(sharpness=HARD, smooth_batch=True)
    first = polished(smooth, solved.x, np.arange(len(plans)), every)
    rows, origin = _rounded(problem, first.x, whole, plans)
    hard = problem.hardened(sharpness=HARD, smooth_batch=False)
    second = polished(hard, rows, origin, free)
    good = np.flatnonzero(second.violation <= _MET)
    if not len(good):
        return None
    best = int(good[np.argmin(second.point.f[good])])
    lane = int(origin[best])
    x = rows[best].copy()
    x[free] = second.x[best]
    begun, middle = float(solved.point.f[lane]), float(first.point.f[lane])
    final = float(second.point.f[best])
    violation = float(np.maximum(second.point.c[best] - _CLEAR, 0).max(initial=0.0))
    plan = int(plans[lane])
    numbers = {each.name: float(n) for each, n in zip(problem.variables, np.exp(x), strict=True)}
    for index in whole:
        numbers[problem.variables[index].name] = float(round(np.exp(x[index])))
    return Exact(
        label_of(problem.layouts[plan].plan),
        problem.choices(plan),
        float(np.exp(-final if problem.maximise else final)),
        numbers,
        scenario_at(hard, list(numbers.values()), plan),
        100 * float(np.expm1(final - middle)),
        100 * float(np.expm1(middle - begun)),
        100 * float(np.expm1(violation)),
        float(second.kkt[best]),
    )


def _rounded(
    problem: Problem, x: Numbers, whole: Sequence[int], plans: np.ndarray
) -> tuple[Numbers, np.ndarray]:
    """Each point with all whole neighbours of its counts, and the number of the point of each.

    Neighbours are those that replicas, and pipeline stages, share out without a rest, too.
    """
    rows, origin = [], []
    for number, point in enumerate(x):
        choices = []
        plan = problem.layouts[int(plans[number])].plan
        shares = {float(plan.data), float(plan.data * plan.pipeline)} - {1.0}
        for index in whole:
            variable, value = problem.variables[index], float(np.exp(point[index]))
            near = {float(np.floor(value + 1e-9)), float(np.ceil(value - 1e-9))}
            near |= {float(np.floor(value / share + 1e-9) * share) for share in shares}
            if len(whole) == 1:
                near |= {
                    float(side(value / tile) * tile)
                    for tile in _TILES
                    for side in (np.floor, np.ceil)
                }
            if len(whole) > _BOTH_SIDES:
                near = {float(round(value))}
            least, most = np.ceil(variable.low), np.floor(variable.high)
            inside = {float(min(max(n, least), most)) for n in near}
            choices.append(sorted(inside))
        for combination in product(*choices):
            row = point.copy()
            row[list(whole)] = np.log(combination)
            rows.append(row)
            origin.append(number)
    return np.asarray(rows), np.asarray(origin)


def scenario_at(problem: Problem, numbers: Sequence[float], plan: int) -> Question:
    """The question with these numbers and this plan, checked.

    Arguments:
        problem: the problem, as hard as the question shall be.
        numbers: of the variables, in SI.
        plan: the number of the plan.
    """
    with in_double():
        layout = problem.layouts[plan]
        own = layout.plan, layout.numbers
        question = problem.placed(*problem.with_layout(problem.question, own, numbers))
    question = jax.tree.map(lambda leaf: xp.asarray(np.asarray(leaf), float), question)
    for part in parts_of(question):
        enforce(conditions_within(part))
    return question
