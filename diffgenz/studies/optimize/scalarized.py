"""Several objectives as one, in many ways at once: each way and plan is a lane.

Every objective is a row of limits, z <= a t + b, and the least t is looked for. With a = 0 for all
objectives but one that is the epsilon-constraint method (Haimes et al., 1971), whose b are the
limits; with a = distance x direction and b = the best of each objective it is Chebyshev's (Bowman,
1976; Pascoletti and Serafini, 1984), which walks from the best corner in a direction until nothing
lies further. A small share of the sum of all objectives is added, so that no point is left that
another equals in one objective and beats in the rest (augmented; Steuer and Choo, 1983).

The worst of a mix is one row for each of its parts, which has no kink where the worst changes.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from diffgenz.studies.optimize.problem import Problem
from diffgenz.studies.optimize.quadratic import Numbers
from diffgenz.studies.optimize.sqp import BROKEN, Evaluate, Point, descend

_SHARE = 1e-3
"""Of the sum of all objectives in what is minimised."""

_SCALE = 10.0
"""What t is measured in: a step of it is then as large as those of all numbers together."""

_FREE = 50.0
"""The logarithm of a limit that limits nothing."""

_MET, _SLACK = 1e-5, 1e-4
"""The violation of a limit that counts as none, and what a known best may be off, in logarithms."""

_DONE, _STEPS = 3e-4, 20
"""The KKT residual at which a lane is done, and its steps at most: the last lanes of many take as
long as all others, and where they are by then is a point like any other."""
_PATIENT = 60
"""Steps, at most, from random starts of plans that do not meet the limits by then."""


class Found(NamedTuple):
    """Optima of one scalar or another.

    Arguments:
        plan: the number of the layout, of shape (lanes,).
        x: logarithms of the variables, of shape (lanes, n).
        values: logarithms of all objectives, of which less is better, of shape (lanes, objectives).
        kkt: the KKT residual, of shape (lanes,).
        met: whether all limits are met, of shape (lanes,).
        curvature: of the Lagrangian, of x and t, of shape (lanes, n + 1, n + 1).
    """

    plan: np.ndarray
    x: Numbers
    values: Numbers
    kkt: Numbers
    met: np.ndarray
    curvature: Numbers

    def at(self, which: np.ndarray) -> "Found":
        """Some of them."""
        return Found(*(part[which] for part in self))

    def and_also(self, other: "Found") -> "Found":
        """These and others."""
        return Found(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))


class Ways(NamedTuple):
    """How objectives become one: z <= slope x t + shift, each of shape (ways, objectives)."""

    slope: Numbers
    shift: Numbers

    def reached(self, values: Numbers) -> Numbers:
        """The least t of each point in each way, of shape (points, ways); infinite: out of it."""
        apart = values[:, None] - self.shift
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.where(
                self.slope > 0, apart / self.slope, np.where(apart > 1e-9, np.inf, -np.inf)
            )
        return t.max(axis=2)

    def and_also(self, other: "Ways") -> "Ways":
        """These ways and others."""
        return Ways(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))


def alone(objectives: int) -> Ways:
    """Each objective alone, the others being whatever they are.

    Arguments:
        objectives: how many there are.
    """
    return Ways(np.eye(objectives), _FREE * (1 - np.eye(objectives)))


def within(limits: Numbers) -> Ways:
    """The first objective within limits of the others.

    Arguments:
        limits: logarithms, of shape (ways, objectives - 1).
    """
    slope = np.zeros((len(limits), 1 + limits.shape[1]))
    slope[:, 0] = 1.0
    return Ways(slope, np.column_stack([np.zeros(len(limits)), limits]))


def towards(low: Numbers, high: Numbers, count: int) -> Ways:
    """From the best corner in directions that are spread evenly.

    Arguments:
        low, high: the best and worst of each objective on the front, of shape (objectives,).
        count: of directions, of two objectives; of three there are count (count + 1) / 2.
    """
    directions = np.array(_lattice(len(low), count - 1), float) + 1 / len(low)
    directions /= directions.sum(axis=1, keepdims=True)
    return Ways(directions * (high - low), np.tile(low, (len(directions), 1)))


def _lattice(objectives: int, total: int) -> list[tuple[int, ...]]:
    """All whole numbers, one for each objective, of one sum."""
    if objectives == 1:
        return [(total,)]
    return [
        (first, *rest)
        for first in range(total + 1)
        for rest in _lattice(objectives - 1, total - first)
    ]


class Scalarized:
    """The lanes of a problem whose last limits are its objectives.

    Arguments:
        problem: the problem.
        rows: how many of its last limits belong to each objective.
        slopes: values and slopes at x of shape (lanes, n) with plans of shape (lanes,).
        progress: called with what is done, how many lanes are finished, and of how many.

    Attributes:
        lanes: optimizations that were solved.
        objectives: how many there are.
        first: the number of the first limit that is an objective's.
    """

    def __init__(
        self,
        problem: Problem,
        rows: Sequence[int],
        slopes: Callable[[Numbers, np.ndarray], Point],
        progress: Callable[[str, int, int], None] | None,
    ):
        self.problem, self.progress, self.lanes = problem, progress, 0
        self.objectives = len(rows)
        self._slopes = slopes
        self._goal_of = np.repeat(np.arange(len(rows)), rows)
        self.first = len(problem.limits) - len(self._goal_of)

    def values(self, c: Numbers) -> Numbers:
        """Logarithms of the objectives, of shape (lanes, objectives), from those of all limits."""
        rows = c[:, self.first :]
        every = [rows[:, self._goal_of == goal].max(axis=1) for goal in range(self.objectives)]
        return np.stack(every, axis=1)

    def from_random(self, ways: Ways, starts: int, rng: np.random.Generator, what: str) -> Found:
        """The best of some random starts of each plan in each way, of those that meet the limits.

        Arguments:
            ways: of making one objective of all.
            starts: of each plan and way.
            rng: draws the starts.
            what: is done, for progress.
        """
        problem, count = self.problem, len(self.problem.layouts)
        every = np.arange(len(ways.slope))
        plan, way, _ = np.meshgrid(np.arange(count), every, np.arange(starts), indexing="ij")
        plans, which = plan.ravel(), way.ravel()
        start = rng.uniform(problem.low, problem.high, (len(plans), len(problem.variables)))
        here = self.values(self._slopes(start, plans).c)
        found = self._descend(start, here, plans, Ways(*(part[which] for part in ways)), what)
        lost = np.repeat(~found.met.reshape(-1, starts).any(axis=1), starts)
        if lost.any():
            mine = Ways(*(part[which[lost]] for part in ways))
            x, values = found.x[lost], found.values[lost]
            again = self._descend(x, values, plans[lost], mine, what, _PATIENT)
            for whole, part in zip(found, again, strict=True):
                whole[lost] = part
        reached = ways.reached(found.values)[np.arange(len(plans)), which]
        score = np.where(found.met, reached, np.inf).reshape(-1, starts)
        best = np.arange(len(score)) * starts + score.argmin(axis=1)
        return found.at(best[found.met[best]])

    def from_known(
        self, ways: Ways, plans: np.ndarray, known: Found, what: str
    ) -> tuple[Found, np.ndarray]:
        """Every way for each plan, begun at the point of that plan that is best in this way.

        Where none is within the limits of a way, the one that is least beyond them. Limits below
        the best that is known of a plan are left out: it cannot meet them.

        Arguments:
            ways: of making one objective of all.
            plans: numbers of layouts, each of which is among what is known; of each the best of
                every objective.
            known: points.
            what: is done, for progress.

        Returns:
            lanes by plan, then way; and the number of the way of each.
        """
        reached = ways.reached(known.values)
        beyond = np.maximum(known.values[:, None] - ways.shift, 0) * (ways.slope == 0)
        reached = np.where(np.isfinite(reached), reached, 1e6 + beyond.sum(axis=2))
        begin, lanes, used = [], [], []
        for plan in plans:
            mine = np.flatnonzero(known.plan == plan)
            least = known.values[mine].min(axis=0) - _SLACK
            possible = np.flatnonzero(((ways.slope > 0) | (ways.shift >= least)).all(axis=1))
            begin.append(mine[reached[np.ix_(mine, possible)].argmin(axis=0)])
            lanes.append(np.full(len(possible), plan))
            used.append(possible)
        start, which = np.concatenate(begin), np.concatenate(used)
        chosen = Ways(*(part[which] for part in ways))
        plan_of = np.concatenate(lanes)
        begun = known.at(start)
        found = self._descend(
            begun.x, begun.values, plan_of, chosen, what, curvature=begun.curvature
        )
        return found, which

    def _descend(
        self,
        start: Numbers,
        values: Numbers,
        plans: np.ndarray,
        ways: Ways,
        what: str,
        steps: int = _STEPS,
        curvature: Numbers | None = None,
    ) -> Found:
        """Optima of each lane in its way, from a start at which the objectives are known."""
        problem, progress = self.problem, self.progress
        self.lanes += len(start)
        slope, shift = (np.broadcast_to(part, (len(start), self.objectives)) for part in ways)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.where(slope > 0, (values - shift) / slope, -np.inf).max(axis=1, keepdims=True)
        end = descend(
            self._evaluate(plans, slope, shift),
            np.hstack([start, t / _SCALE]),
            np.append(problem.low, -1e3),
            np.append(problem.high, 1e3),
            problem.weights,
            tolerance=_DONE,
            iterations=steps,
            curvature=curvature,
            anywhere=True,
            progress=progress and (lambda done, every: progress(what, done, every)),
        )
        x = end.x[:, :-1]
        own = self._slopes(x, plans).c
        violation = np.maximum(end.point.c, 0).max(axis=1, initial=0.0)
        met = (end.status != BROKEN) & (violation <= _MET)
        return Found(plans, x, self.values(own), end.kkt, met, end.curvature)

    def _evaluate(self, plans: np.ndarray, slope: Numbers, shift: Numbers) -> Evaluate:
        """What `descend` asks: f = t and a share of all objectives, and z - slope t - shift."""
        goal_of, first = self._goal_of, self.first
        share = _SHARE / np.bincount(goal_of)[goal_of]

        def evaluate(x: Numbers, lanes: np.ndarray) -> Point:
            point = self._slopes(x[:, :-1], plans[lanes])
            t, a = _SCALE * x[:, -1], slope[lanes][:, goal_of]
            c = point.c.copy()
            c[:, first:] -= a * t[:, None] + shift[lanes][:, goal_of]
            rows = np.concatenate([point.rows, np.zeros((*point.c.shape, 1))], axis=2)
            rows[:, first:, -1] = -_SCALE * a
            f = t + point.c[:, first:] @ share
            g = np.column_stack([point.rows[:, first:].swapaxes(1, 2) @ share, 0 * t + _SCALE])
            return Point(f, c, g, rows)

        return evaluate
