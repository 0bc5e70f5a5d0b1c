"""`optimize`: the numbers and the plan that serve a question best, and what each limit costs.

All plans and starts are solved together, one lane for each (`sqp`); the best are made exact
(`exact`). For a fixed plan the problem is convex in logarithms but for few parts, so that a handful
of starts for each plan is a proof of health rather than a search (`convexity`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from diffgenz.core.checks import demand
from diffgenz.core.errors import InputError
from diffgenz.scenario.mix import Mix, parts_of
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.scenario import Scenario
from diffgenz.studies.optimize.convexity import convexity_of
from diffgenz.studies.optimize.exact import exact_optimum
from diffgenz.studies.optimize.layouts import label_of, layouts_of
from diffgenz.studies.optimize.optimum import Optimum, PlanOptimum, Violation
from diffgenz.studies.optimize.prices import leaf_elasticities, prices_of
from diffgenz.studies.optimize.problem import Problem
from diffgenz.studies.optimize.quadratic import Numbers
from diffgenz.studies.optimize.slopes import slopes_of
from diffgenz.studies.optimize.sqp import BROKEN, Point, Solved, descend
from diffgenz.studies.optimize.variables import Bounds

STARTS = 8
"""Starts of each plan."""

_MET = 1e-5
_NO_SLOPE = 1e-9
_SEARCHED, _POLISHED = 1e-6, 1e-9
"""The KKT residual at which a lane is done, and the one that the best of each plan is taken to."""

_STEPS = 60
"""Steps of a lane, at most."""

_HIGHER = 100.0, 4000.0
"""Penalties of lanes that met their limits only when nothing else counted."""

Progress = Callable[[str, int, int], None]
"""Called with what is done, how many lanes are finished, and of how many."""


def optimize(
    case: Scenario | Mix,
    over: Bounds,
    objective: str,
    *,
    maximise: bool = False,
    subject_to: Sequence[str] = ("fits",),
    derived: Mapping[str, str] | None = None,
    quantities: Mapping[str, str] | None = None,
    plans: Sequence[Parallelism] | Parallelism | None = None,
    starts: int = STARTS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Optimum:
    """The least, or the most, of an objective over some numbers, within limits, for every plan.

    Kernels are timed as `estimate` times them: by the fits of the platform where it has some.

    Arguments:
        case: the question, or a mix of several that take turns on one platform.
        over: what is free: from the name of a number ("memory_bandwidth", "peak_flops[fp8]",
            "batch") to its lower and upper bound, in SI or as text with a unit. A name that fits
            every scenario of a mix means all of them.
        objective: a metric, or a formula of metrics, numbers and quantities, which is above 0.
        maximise: whether more of it is better.
        subject_to: formulas that must hold: "fits", "tpot <= 0.02", "board_power <= 1000". Both
            sides must be above 0.
        derived: numbers that follow from others: {"peak_flops[bf16]": "peak_flops[fp8] / 2"}.
        quantities: names for formulas, as a sweep has them.
        plans: the plans to try. Default: all that use all accelerators and that vLLM or SGLang
            accept.
        starts: random starts of each plan, at least 1.
        seed: of the starts.
        progress: called again and again while it works.

    Returns:
        The optimum of every plan with shadow prices and certificate, and the best one exactly:
        whole requests, hard maxima. Where nothing meets the limits, the least violation.

    Raises:
        InputError: an unknown name, bounds or formulas that cannot be used, an objective that
            nothing free moves, formulas without a value at any start.
        NoSolution: no engine accepts any plan.
    """
    demand("case", case, (Scenario, Mix), "Scenario(model, platform, workload)")
    if starts < 1:
        raise InputError(f"starts: {starts} is not allowed; it must be at least 1")
    first = parts_of(case)[0]
    problem = Problem(
        case,
        over,
        objective,
        maximise,
        subject_to,
        derived or {},
        quantities or {},
        layouts_of(case, plans),
    ).hardened(sharpness=first.sharpness, smooth_batch=True)
    lanes = _Lanes(problem, starts, seed, progress)
    return lanes.optimum()


class _Lanes:
    """The lanes of a problem, `starts` for each plan, and what comes of them."""

    def __init__(self, problem: Problem, starts: int, seed: int, progress: Progress | None):
        self.problem, self.starts, self.progress = problem, starts, progress
        count = len(problem.plans)
        self.plan = np.repeat(np.arange(count), starts)
        rng = np.random.default_rng(seed)
        shape = len(self.plan), len(problem.variables)
        self.start = rng.uniform(problem.low, problem.high, shape)
        self.slopes = slopes_of(problem, len(self.plan))
        self.notes: list[str] = []

    def optimum(self) -> Optimum:
        """What was found."""
        problem = self.problem
        first = self._evaluate(self.start, np.arange(len(self.plan)))
        self._check(first)
        still = self._uninfluential(first)
        idle = np.log([min(max(v.now, v.low), v.high) for v in problem.variables])
        self.start = np.where(still[self.plan], idle, self.start)
        every = np.arange(len(self.plan))
        found = self._descend(self.start, every, "searching", iterations=_STEPS)
        best, feasible = self._best(found)
        found, feasible = self._restored(found, best, feasible)
        kept, lost = np.flatnonzero(feasible), np.flatnonzero(~feasible)
        ends = found.at(best)
        if len(kept):
            curvature = found.curvature[best[kept]]
            polished = self._descend(
                ends.x[kept], best[kept], "polishing", tolerance=_POLISHED, curvature=curvature
            )
            ends = ends.with_lanes(kept, polished)
        plans = self.plan[best]
        tests = convexity_of(problem, plans)
        prices = dict(zip(kept.tolist(), self._prices(ends, best, kept), strict=True))
        rows = [
            PlanOptimum(
                label_of(problem.plans[plan]),
                self._value(ends.point.f[row]),
                self._numbers(ends.x[row], still[plan]),
                tuple(prices.get(row, ())),
                self._violations(ends.point.c[row]) if not feasible[row] else (),
                tuple(problem.variables[i].name for i in np.flatnonzero(still[plan])),
                float(ends.kkt[row]),
                tests[row],
                self.starts,
                self._meeting(found, int(plan), ends.point.f[row]) if feasible[row] else 0,
            )
            for row, plan in enumerate(plans)
        ]
        order = kept[np.argsort(ends.point.f[kept], kind="stable")]
        least = lost[np.argsort(self._total(ends.point.c[lost]), kind="stable")]
        exact, elasticities = None, {}
        if len(order):
            exact = exact_optimum(problem, ends.at(order), plans[order], self._said("rounding"))
            one = ends.at(order[:1])
            elasticities = leaf_elasticities(problem, one, int(plans[order[0]]))
            if exact is None:
                self.notes.append("no whole counts near the optimum meet all limits exactly")
        return Optimum(
            problem.objective.text,
            problem.maximise,
            problem.unit_of(problem.objective.text),
            {variable.name: variable.unit for variable in problem.variables},
            tuple(rows[row] for row in order),
            tuple(rows[row] for row in least),
            exact,
            elasticities,
            tuple(self.notes),
        )

    def _evaluate(self, x: Numbers, lanes: np.ndarray) -> Point:
        return self.slopes(x, self.plan[lanes])

    def _said(self, what: str) -> Callable[[int, int], None] | None:
        progress = self.progress
        return None if progress is None else lambda done, every: progress(what, done, every)

    def _descend(
        self,
        x: Numbers,
        lanes: np.ndarray,
        what: str,
        *,
        tolerance: float = _SEARCHED,
        restoring: bool = False,
        **options: Any,
    ) -> Solved:
        """Some lanes from x; `restoring`: for the sake of the limits alone."""
        problem = self.problem

        def evaluate(part: Numbers, which: np.ndarray) -> Point:
            point = self._evaluate(part, lanes[which])
            return point._replace(f=0 * point.f, g=0 * point.g) if restoring else point

        return descend(
            evaluate,
            x,
            problem.low,
            problem.high,
            problem.weights,
            tolerance=tolerance,
            progress=self._said(what),
            **options,
        )

    def _best(self, found: Solved) -> tuple[np.ndarray, np.ndarray]:
        """The best lane of each plan that has a number, and whether it meets the limits."""
        best, feasible = [], []
        for plan in range(len(self.problem.plans)):
            mine = np.flatnonzero((self.plan == plan) & (found.status != BROKEN))
            if not len(mine):
                self.notes.append(f"{label_of(self.problem.plans[plan])}: no start has a value")
                continue
            good = mine[found.violation[mine] <= _MET]
            total = self._total(found.point.c[mine])
            best.append(good[np.argmin(found.point.f[good])] if len(good) else mine[total.argmin()])
            feasible.append(len(good) > 0)
        return np.asarray(best, int), np.asarray(feasible, bool)

    def _total(self, c: Numbers) -> Numbers:
        return (np.maximum(c, 0) * self.problem.weights).sum(axis=1)

    def _restored(
        self, found: Solved, best: np.ndarray, feasible: np.ndarray
    ) -> tuple[Solved, np.ndarray]:
        """Lanes of plans without a feasible one, where they violate the limits least.

        Where that is not at all, they go on from there, with a higher penalty.
        """
        lost = np.flatnonzero(~feasible)
        if not len(lost):
            return found, feasible
        nearest = self._descend(
            found.x[best[lost]],
            best[lost],
            "least violation",
            tolerance=1e-7,
            restoring=True,
            iterations=_STEPS,
            penalties=(4.0, 4.0),
        )
        point = self._evaluate(nearest.x, best[lost])
        found = found.with_lanes(best[lost], nearest._replace(point=point))
        back = lost[nearest.violation <= _MET]
        if len(back):
            again = self._descend(found.x[best[back]], best[back], "searching", penalties=_HIGHER)
            found = found.with_lanes(best[back], again)
            feasible = feasible.copy()
            feasible[back] = again.violation <= _MET
        return found, feasible

    def _prices(self, ends: Solved, best: np.ndarray, kept: np.ndarray) -> list:
        if not len(kept):
            return []
        lanes = best[kept]
        return prices_of(
            self.problem, ends.at(kept), lambda x, which: self._evaluate(x, lanes[which])
        )

    def _check(self, first: Point) -> None:
        """Raise `InputError` where no start has a value, or none moves the objective."""
        good = first.finite()
        if not good.all():
            lane = int(np.flatnonzero(~good)[0])
            numbers = zip(self.problem.variables, np.exp(self.start[lane]), strict=True)
            where = ", ".join(f"{each.name} = {number:.4g}" for each, number in numbers)
            formula = self._without_value(first, lane)
            said = (
                f"{formula} has no positive, finite value at {int((~good).sum())} of {len(good)} "
                f"starts, such as start {lane % self.starts + 1} of "
                f"{label_of(self.problem.plans[self.plan[lane]])} ({where})"
            )
            if not good.any():
                raise InputError(f"{said}; correct the formula, or narrow the bounds")
            self.notes.append(said)
        if not (np.abs(first.g[good]) > _NO_SLOPE).any():
            names = ", ".join(variable.name for variable in self.problem.variables)
            raise InputError(
                f"objective: nothing that is free moves {self.problem.objective.text!r} (over: "
                f"{names}); free a number that it depends on"
            )

    def _without_value(self, point: Point, lane: int) -> str:
        if not (np.isfinite(point.f[lane]) and np.isfinite(point.g[lane]).all()):
            return f"objective: {self.problem.objective.text!r}"
        bad = ~(np.isfinite(point.c[lane]) & np.isfinite(point.rows[lane]).all(axis=1))
        return f"subject_to: {self.problem.limits[int(np.flatnonzero(bad)[0])].text!r}"

    def _uninfluential(self, first: Point) -> np.ndarray:
        """Which variables move nothing at any start, of shape (plans, n)."""
        with np.errstate(invalid="ignore"):
            moves = np.abs(first.g) > _NO_SLOPE
            moves |= (np.abs(first.rows) > _NO_SLOPE).any(axis=1)
        each = moves.reshape(len(self.problem.plans), self.starts, -1)
        return np.logical_not(each.any(axis=1))

    def _value(self, f: float) -> float:
        return float(np.exp(-f if self.problem.maximise else f))

    def _numbers(self, x: Numbers, still: np.ndarray) -> dict[str, float]:
        return {
            variable.name: variable.now if idle else float(np.exp(value))
            for variable, value, idle in zip(self.problem.variables, x, still, strict=True)
        }

    def _violations(self, c: Numbers) -> tuple[Violation, ...]:
        order = [int(index) for index in np.argsort(-c) if c[index] > _MET / 10]
        limits = self.problem.limits
        return tuple(
            Violation(limits[i].text, float(np.exp(c[i])), limits[i].value, limits[i].unit)
            for i in order
        )

    def _meeting(self, found: Solved, plan: int, f: float) -> int:
        """How many starts of a plan ended within 0.1 % of f."""
        mine = self.plan == plan
        near = (found.point.f[mine] < f + 1e-3) & (found.violation[mine] <= 1e-3)
        return int(near.sum())
