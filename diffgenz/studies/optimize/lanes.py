"""The lanes of a problem: some starts of each layout, solved together, and what comes of them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from diffgenz.studies.optimize.choices import said_of_choices
from diffgenz.studies.optimize.convexity import Convexity, convexity_of
from diffgenz.studies.optimize.layouts import label_of
from diffgenz.studies.optimize.optimum import PlanOptimum, Violation
from diffgenz.studies.optimize.prices import prices_of
from diffgenz.studies.optimize.problem import Problem
from diffgenz.studies.optimize.pruning import Pruning
from diffgenz.studies.optimize.quadratic import Numbers
from diffgenz.studies.optimize.slopes import Slopes, answered_in_numpy, slopes_of
from diffgenz.studies.optimize.sqp import BROKEN, Point, Solved, as_begun, descend
from diffgenz.studies.optimize.starts import check_starts, uninfluential

Progress = Callable[[str, int, int], None]
"""Called with what is done, how many lanes are finished, and of how many."""

_MET = 1e-5
_SEARCHED, _POLISHED = 1e-6, 1e-9
"""The KKT residual at which a lane is done, and the one that the best of each plan is taken to."""

_STEPS = 60
"""Steps of a lane, at most."""

_HIGHER = 100.0, 4000.0
"""Penalties of lanes that met their limits only when nothing else counted."""


class Ends(NamedTuple):
    """Where the lanes of a problem ended: the best of each layout.

    Arguments:
        problem: the problem.
        rows: what was found for each layout that has a value.
        layouts: the number of the layout of each row.
        ends: the lane of each row.
        order: the rows that meet all limits, the best first.
        least: those that do not, the least violation first.
        violation: of each row, all limits together.
        notes: what else to know.
    """

    problem: Problem
    rows: tuple[PlanOptimum, ...]
    layouts: np.ndarray
    ends: Solved
    order: np.ndarray
    least: np.ndarray
    violation: Numbers
    notes: tuple[str, ...]


class Lanes:
    """The lanes of a problem, and what comes of them.

    Arguments:
        problem: the smooth problem.
        starts: of each layout.
        seed: of the starts.
        progress: called with what is done, how many lanes are finished, and of how many.
        others: ln objective of the layouts of other problems; those of this one that are certain to
            be behind enough of all are left out (`pruning`). None: none is.
        slopes: values and slopes at many x with their layouts; None: of `slopes_of`.
    """

    def __init__(
        self,
        problem: Problem,
        starts: int,
        seed: int,
        progress: Progress | None,
        others: Sequence[float] | None = None,
        slopes: Slopes | None = None,
    ):
        self.problem, self.starts, self.progress, self.others = problem, starts, progress, others
        count = len(problem.layouts)
        self.plan = np.repeat(np.arange(count), starts)
        rng = np.random.default_rng(seed)
        shape = len(self.plan), len(problem.variables)
        self.start = rng.uniform(problem.low, problem.high, shape)
        self.slopes = slopes_of(problem, len(self.plan)) if slopes is None else slopes
        self.ahead = starts > 1 and not answered_in_numpy(self.slopes)
        self.notes: list[str] = []

    def solved(self) -> Ends:
        """The best of each layout."""
        problem = self.problem
        found, still, tests, pruning = self.searched()
        best, feasible = self._best(found, self._left(pruning))
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
        prices = dict(zip(kept.tolist(), self._prices(ends, best, kept), strict=True))
        rows = [
            PlanOptimum(
                label_of(problem.layouts[plan].plan),
                problem.choices(int(plan)),
                self._value(ends.point.f[row]),
                self._numbers(ends.x[row], still[plan]),
                tuple(prices.get(row, ())),
                self._violations(ends.point.c[row]) if not feasible[row] else (),
                tuple(problem.variables[i].name for i in np.flatnonzero(still[plan])),
                float(ends.kkt[row]),
                tests[plan],
                self.starts,
                self._meeting(found, int(plan), ends.point.f[row]) if feasible[row] else 0,
            )
            for row, plan in enumerate(plans)
        ]
        order = kept[np.argsort(ends.point.f[kept], kind="stable")]
        violation = self._total(ends.point.c)
        least = lost[np.argsort(violation[lost], kind="stable")]
        notes = tuple(self.notes)
        return Ends(problem, tuple(rows), plans, ends, order, least, violation, notes)

    def searched(self) -> tuple[Solved, np.ndarray, list[Convexity], Pruning | None]:
        """Every lane to its end, unless its layout is left out.

        Where an evaluation costs as much as there are lanes, one lane of each layout goes first.
        The others know then what curvature it has learned, and need fewer steps; those of layouts
        that are left out are not begun.

        Returns:
            the lanes; which variables move nothing, of shape (layouts, n); the test of convexity of
            each layout; and what is known of layouts that are left out.
        """
        problem, plans = self.problem, len(self.problem.layouts)
        every = np.arange(len(self.plan))
        ahead = every[:: self.starts] if self.ahead else every[:0]
        lead = None
        if len(ahead):
            lead = self._descend(self.start[ahead], ahead, "searching", iterations=_STEPS)
        first = self._evaluate(self.start, every)
        self.notes += check_starts(problem, self.start, first, self.starts)
        still = uninfluential(first, plans)
        idle = np.log([min(max(v.now, v.low), v.high) for v in problem.variables])
        self.start = np.where(still[self.plan], idle, self.start)
        tests = convexity_of(problem, np.arange(plans))
        pruning = self._pruning(tests)
        if lead is None:
            options: dict[str, Any] = {"first": first, "iterations": _STEPS, "leaves": pruning}
            found = self._descend(self.start, every, "searching", **options)
            return found, still, tests, pruning
        lead = lead._replace(x=np.where(still, idle, lead.x))
        left = np.zeros(plans, bool)
        if pruning is not None:
            pruning(ahead, lead.x, lead.point, lead.multipliers)
            left = pruning.left
        rest = every[(every % self.starts > 0) & ~left[self.plan]]
        found = as_begun(self.start, first).with_lanes(ahead, lead)
        if len(rest):
            others = self._descend(
                self.start[rest],
                rest,
                "searching",
                first=first.at(rest),
                curvature=lead.curvature[self.plan[rest]],
                anywhere=True,
                iterations=_STEPS,
                leaves=pruning,
            )
            found = found.with_lanes(rest, others)
        return found, still, tests, pruning

    def _evaluate(self, x: Numbers, lanes: np.ndarray) -> Point:
        return self.slopes(x, self.plan[lanes])

    def _said(self, what: str) -> Callable[[int, int], None] | None:
        progress, labels = self.progress, said_of_choices(self.problem.labels)
        said = f"{', '.join(labels)}: {what}" if labels else what
        return None if progress is None else lambda done, every: progress(said, done, every)

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

    def _pruning(self, tests: list[Convexity]) -> Pruning | None:
        if self.others is None:
            return None
        convex = np.array([test.holds for test in tests])
        return Pruning(self.plan, convex, self.problem.low, self.problem.high, self.others)

    def _left(self, pruning: Pruning | None) -> np.ndarray:
        """Which layouts are left out, of shape (layouts,), which is noted."""
        if pruning is None:
            return np.zeros(len(self.problem.layouts), bool)
        left = pruning.left
        said = [
            f"{self.problem.label(plan)} (by {100 * np.expm1(bound - pruning.best):.0f} %)"
            for plan, bound in enumerate(pruning.bounds)
            if left[plan]
        ]
        if said:
            self.notes.append(f"left out, being behind by at least: {', '.join(said)}")
        return left

    def _best(self, found: Solved, left: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The best lane of each plan that has a number, and whether it meets the limits."""
        best, feasible = [], []
        for plan in np.flatnonzero(~left).tolist():
            mine = np.flatnonzero((self.plan == plan) & (found.status != BROKEN))
            if not len(mine):
                self.notes.append(f"{self.problem.label(plan)}: no start has a value")
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
