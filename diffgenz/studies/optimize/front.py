"""`front`: what is possible between several objectives, by one optimum for each of many limits.

All objectives but the first become limits (epsilon-constraint; Haimes et al., 1971), whose values
are one more axis of lanes beside plans. The best of each objective alone says from where to where
they go. A coarse grid with all plans shows which plans are near the front; a fine one, begun at the
coarse optima, has these alone. What another point beats is left out, exactly.

Within a plan the front of a problem that is convex in logarithms is convex in them, too. The front
over plans is not, so that weighted sums of objectives would miss parts of it.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from diffgenz.core.checks import demand
from diffgenz.core.errors import InputError, NoSolution
from diffgenz.scenario.mix import Composed, Question
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.scenario import Scenario
from diffgenz.serving.load_metrics import EVERY_METRIC
from diffgenz.studies.optimize.choices import Choices
from diffgenz.studies.optimize.optimize import problems_of
from diffgenz.studies.optimize.problem import Problem
from diffgenz.studies.optimize.quadratic import Numbers
from diffgenz.studies.optimize.slopes import slopes_of
from diffgenz.studies.optimize.sqp import BROKEN, Point, descend
from diffgenz.studies.optimize.variables import Bounds
from diffgenz.studies.pareto import front_of

POINTS, _COARSE, _STARTS = 24, 5, 2
"""Limits of each objective but the first, finely and coarsely, and starts of each plan."""
_BEHIND = np.log(1.1)
"""A plan that is nowhere nearer to the front is left out of the fine grid."""
_FREE = 50.0
"""The logarithm of a limit that limits nothing."""
_MET = 1e-5
_GOAL = "objective_{}"


class FrontPoint(NamedTuple):
    """One choice that no other beats, with smooth batches and maxima.

    Arguments:
        values: of the objectives.
        plan: choices and plan in words.
        numbers: of the variables, in SI, by name.
        kkt: the KKT residual.
    """

    values: tuple[float, ...]
    plan: str
    numbers: dict[str, float]
    kkt: float


class Front(NamedTuple):
    """What `front` found.

    Arguments:
        objectives: the formulas.
        more: of each whether more of it is better.
        units: of each, SI; "" where it is not known.
        points: the best of the first objective first.
        reference: the worst value of each objective among the best ones of the others.
        hypervolume: of what the points beat, up to the reference, in natural logarithms.
        lanes: optimizations that were solved.
        number_units: of the variables, by name.
    """

    objectives: tuple[str, ...]
    more: tuple[bool, ...]
    units: tuple[str, ...]
    points: tuple[FrontPoint, ...]
    reference: tuple[float, ...]
    hypervolume: float
    lanes: int
    number_units: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The same in SI, for JSON."""
        return self._asdict() | {"points": [point._asdict() for point in self.points]}


def front(
    case: Question,
    over: Bounds,
    objectives: Sequence[str],
    *,
    more: Sequence[bool] | None = None,
    subject_to: Sequence[str] = ("fits",),
    derived: Mapping[str, str] | None = None,
    quantities: Mapping[str, str] | None = None,
    plans: Sequence[Parallelism] | Parallelism | None = None,
    choices: Choices | None = None,
    points: int = POINTS,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Front:
    """The points between several objectives that no other beats, over some numbers and all plans.

    Arguments:
        case: the question, or a mix.
        over: what is free, as in `optimize`.
        objectives: two or more metrics or formulas, each above 0.
        more: of each whether more of it is better. Default: what the metric says; False for a
            formula.
        subject_to, derived, quantities, plans, seed, progress: as in `optimize`.
        choices: as in `optimize`, of single numbers; not of formats, models or systems.
        points: limits of each objective but the first, at least 2; of three objectives there are
            the square of it.

    Raises:
        InputError: as `optimize`; fewer than two objectives.
        NoSolution: nothing meets the limits, or no engine accepts any plan.
    """
    demand("case", case, (Scenario, Composed), "Scenario(model, platform, workload)")
    if isinstance(objectives, str) or len(objectives) < 2:
        raise InputError(f"objectives: {objectives!r} are no two; give at least two formulas")
    if points < 2:
        raise InputError(f"points: {points} is not allowed; it must be at least 2")
    names = tuple(objectives)
    up = tuple(name in EVERY_METRIC and EVERY_METRIC[name].more for name in names)
    if more is not None:
        if len(more) != len(names):
            raise InputError(f"more: {len(more)} for {len(names)} objectives; give one for each")
        up = tuple(bool(each) for each in more)
    formulas = {_GOAL.format(place): name for place, name in enumerate(names[1:], 1)}
    goals = [
        f"1 <= {goal}" if most else f"{goal} <= 1"
        for goal, most in zip(formulas, up[1:], strict=True)
    ]
    more_formulas = dict(quantities or {}) | formulas
    asked = over, names[0], up[0], [*subject_to, *goals], derived or {}, more_formulas
    problems, _ = problems_of(case, asked, plans, choices or {})
    if len(problems) > 1:
        raise InputError(
            f"choices: {', '.join(problems[0].labels)} chooses among structures, of which a front "
            "knows one; state it in the scenario, and compare the fronts"
        )
    problem = problems[0]
    grid = _Grid(problem, len(goals), seed, progress)
    found = grid.front(points)
    return Front(
        names,
        up,
        tuple(problem.unit_of(name) for name in names),
        tuple(
            FrontPoint(
                tuple(float(value) for value in np.exp(np.where(up, -row, row))),
                problem.label(int(plan)),
                {v.name: float(n) for v, n in zip(problem.variables, np.exp(x), strict=True)},
                float(kkt),
            )
            for plan, x, row, kkt in zip(*found[:4], strict=True)
        ),
        tuple(float(value) for value in np.exp(np.where(up, -grid.high, grid.high))),
        hypervolume(found.values, grid.high),
        grid.lanes,
        {variable.name: variable.unit for variable in problem.variables},
    )


def hypervolume(points: Numbers, reference: Numbers) -> float:
    """How much of the space up to a reference some points beat; all is minimised.

    It is cut into slices along the last objective, so that it is exact, and quick for two or three.

    Arguments:
        points: of shape (count, objectives).
        reference: of shape (objectives,).
    """
    inside = points[(points < reference).all(axis=1)]
    if not len(inside):
        return 0.0
    if inside.shape[1] == 1:
        return float(reference[0] - inside.min())
    inside = inside[np.argsort(inside[:, -1])]
    ends = np.append(inside[1:, -1], reference[-1])
    return sum(
        float(end - row[-1]) * hypervolume(inside[: place + 1, :-1], reference[:-1])
        for place, (row, end) in enumerate(zip(inside, ends, strict=True))
        if end > row[-1]
    )


class _Found(NamedTuple):
    """Optima: plan, x, ln of all objectives (minimised), KKT residual, whether limits are met."""

    plan: np.ndarray
    x: Numbers
    values: Numbers
    kkt: Numbers
    met: np.ndarray

    def at(self, which: np.ndarray) -> "_Found":
        """Some of them."""
        return _Found(*(part[which] for part in self))

    def and_also(self, other: "_Found") -> "_Found":
        """These and others."""
        return _Found(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))


class _Grid:
    """The lanes of a front: plans by values of the limits that objectives are."""

    def __init__(
        self,
        problem: Problem,
        others: int,
        seed: int,
        progress: Callable[[str, int, int], None] | None,
    ):
        self.problem, self.others, self.progress = problem, others, progress
        self.rng = np.random.default_rng(seed)
        self.lanes, self.high = 0, np.zeros(1 + others)
        lanes = len(problem.layouts) * POINTS
        self.slopes = slopes_of(problem, lanes)

    def front(self, points: int) -> _Found:
        """What no other beats, with so many limits of each objective but the first."""
        count, every = len(self.problem.layouts), np.arange(len(self.problem.layouts))
        found = self._best_alone(0)
        for goal in range(1, 1 + self.others):
            found = found.and_also(self._best_alone(goal))
        if not len(found.plan):
            raise NoSolution("front: no plan meets the limits; loosen one (`optimize` says which)")
        low = found.values.min(axis=0)
        best = found.values[found.values.argmin(axis=0)]
        self.high = np.maximum(best.max(axis=0), low + 1e-3)
        limits = self._between(low, _COARSE)
        coarse = self._solve(np.isin(every, found.plan).nonzero()[0], limits, found, "coarse front")
        least = np.full((count, len(limits)), np.inf)
        least[coarse.plan, np.tile(np.arange(len(limits)), len(coarse.plan) // len(limits))] = (
            np.where(coarse.met, coarse.values[:, 0], np.inf)
        )
        near = np.flatnonzero((least <= least.min(axis=0) + _BEHIND).any(axis=1))
        found = found.and_also(coarse.at(coarse.met))
        if len(near):
            fine = self._solve(near, self._between(low, points), found, "fine front")
            found = found.and_also(fine.at(fine.met))
        return found.at(front_of(np.arange(len(found.plan)), found.values).indices)

    def _between(self, low: Numbers, count: int) -> Numbers:
        """Limits of all objectives but the first, of shape (limits, others).

        They are closer to each other where an objective is at its best, which costs most there.
        """
        shares = np.linspace(0, 1, count + 1)[1:] ** 2
        axes = [low[k] + (self.high[k] - low[k]) * shares for k in range(1, 1 + self.others)]
        return np.array(list(product(*axes)))

    def _best_alone(self, goal: int) -> _Found:
        """The best of one objective for each plan that meets the limits."""
        count = len(self.problem.layouts)
        plans = np.repeat(np.arange(count), _STARTS)
        start = self.rng.uniform(
            self.problem.low, self.problem.high, (len(plans), len(self.problem.variables))
        )
        free = np.full((len(plans), self.others), _FREE)
        found = self._descend(start, plans, free, f"objective {goal + 1}", goal)
        score = np.where(found.met, found.values[:, goal], np.inf).reshape(count, _STARTS)
        best = np.arange(count) * _STARTS + score.argmin(axis=1)
        return found.at(best[found.met[best]])

    def _solve(self, plans: np.ndarray, limits: Numbers, known: _Found, what: str) -> _Found:
        """The best first objective of each plan within each limit, begun at what is nearest."""
        lanes, eps = np.repeat(plans, len(limits)), np.tile(limits, (len(plans), 1))
        apart = np.abs(known.values[None, :, 1:] - eps[:, None]).sum(axis=2)
        apart += np.where(known.plan[None] == lanes[:, None], 0, np.inf)
        return self._descend(known.x[apart.argmin(axis=1)], lanes, eps, what, 0)

    def _descend(
        self, start: Numbers, plans: np.ndarray, eps: Numbers, what: str, goal: int
    ) -> _Found:
        """Optima of one objective, the others being limited, each lane from a start."""
        problem, others = self.problem, self.others
        self.lanes += len(start)

        def evaluate(x: Numbers, lanes: np.ndarray) -> Point:
            point = self.slopes(x, plans[lanes])
            c = point.c.copy()
            c[:, -others:] -= eps[lanes]
            if goal:
                place = point.c.shape[1] - others + goal - 1
                point = point._replace(f=point.c[:, place], g=point.rows[:, place])
            return point._replace(c=c)

        progress = self.progress
        end = descend(
            evaluate,
            start,
            problem.low,
            problem.high,
            problem.weights,
            tolerance=1e-6,
            iterations=60,
            progress=progress and (lambda done, every: progress(what, done, every)),
        )
        point = self.slopes(end.x, plans)
        values = np.column_stack([point.f, point.c[:, -others:]])
        met = (end.status != BROKEN) & (end.violation <= _MET)
        return _Found(plans, end.x, values, end.kkt, met)
