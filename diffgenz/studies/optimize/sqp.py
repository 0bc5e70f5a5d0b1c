"""Batched sequential quadratic programming with a trust region: many starts at once.

Each lane minimises f(x) within a box, where all c_j(x) <= 0, from a start of its own. Its merit is
f + sum_j rho_j max(0, c_j), the exact l1 penalty. A quadratic model with damped BFGS curvature
proposes a step (`active_set`); a step that does not bring what the model promises is corrected once
for the curvature of the limits (second-order correction), then the region shrinks (Nocedal and
Wright, Numerical Optimization, 2006, chapters 18.3 to 18.6). Where a lane stands still but violates
a limit, its penalty grows.

Numbers are logarithms: slopes are elasticities, of order 1, and so are all constants here.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from diffgenz.studies.optimize.active_set import solve_quadratic
from diffgenz.studies.optimize.quadratic import Numbers, Program

_REMEMBERED = 3
"""A step is taken if the merit falls below the worst of so many last ones, the present included.

Near the optimum full steps along curved limits raise the merit a little before the next brings more
than that back (Maratos effect); to insist on each costs an evaluation for a correction every time
(Chamberlain et al., The watchdog technique, 1982)."""

_PATIENCE, _ENOUGH = 8, 0.999
"""In so many steps violations must shrink to this share, or a lane stands still whose next step
does not promise to halve them."""

RUNNING, CONVERGED, INFEASIBLE, STOPPED, BROKEN, LEFT = range(6)
"""What became of a lane; stopped: it stands still, though its KKT residual is above the tolerance;
broken: something is not finite at its start; left: somebody said so (`descend`)."""

FEASIBLE = 1e-7
"""The largest violation of a limit, in its logarithm, that counts as none."""

PENALTIES = 4.0, 24.0
"""What a violation costs at first and at most: slopes are elasticities, of order 1."""
_MORE_PENALTY = 6.0
_FIRST_RADIUS, _WARM_RADIUS, _MOST_RADIUS, _LEAST_RADIUS = 1.4, 0.05, 2.0, 1e-10
_CURVATURE = 0.3
_NOISE = 1e-14
"""The difference of merits that is rounding, where they are of order 1."""
_EXACT, _COARSE = 1e-4, 1e-6
"""How exact quadratic programs are: a share of the squared KKT residual, of which order the gain of
a step is, and at least so much. Where no gain is seen they are solved to rounding."""
_NOTHING, _LITTLE = 1e-17, 1e-7
"""The gain of a step below which a lane stands still, where it meets its limits and where not."""


class Point(NamedTuple):
    """What is known at one x of every lane: f, c, their slopes g and A."""

    f: Numbers
    c: Numbers
    g: Numbers
    rows: Numbers

    def finite(self) -> np.ndarray:
        """Whether all numbers of a lane are finite."""
        return (
            np.isfinite(self.f)
            & np.isfinite(self.c).all(1)
            & np.isfinite(self.g).all(1)
            & np.isfinite(self.rows).all((1, 2))
        )

    def at(self, lanes: np.ndarray) -> "Point":
        """Those of some lanes."""
        return Point(*(part[lanes] for part in self))


Evaluate = Callable[[Numbers, np.ndarray], Point]
"""From x of some lanes, of shape (some, n), and the numbers of these lanes, to what is there."""


class Solved(NamedTuple):
    """Where the lanes ended, each array with one row for each lane.

    Arguments:
        x: of shape (lanes, n).
        point: f, c, g and A there.
        multipliers: of the limits, of shape (lanes, m).
        kkt: the KKT residual: the largest of slope of the Lagrangian, complementarity, violation.
        status: see `RUNNING` and the others.
        iterations: steps tried.
        curvature: of the Lagrangian, as far as it was learned; of shape (lanes, n, n).
    """

    x: Numbers
    point: Point
    multipliers: Numbers
    kkt: Numbers
    status: np.ndarray
    iterations: np.ndarray
    curvature: Numbers

    def at(self, lanes: np.ndarray) -> "Solved":
        """Some of the lanes."""
        return Solved(
            self.x[lanes],
            self.point.at(lanes),
            self.multipliers[lanes],
            self.kkt[lanes],
            self.status[lanes],
            self.iterations[lanes],
            self.curvature[lanes],
        )

    def with_lanes(self, lanes: np.ndarray, others: "Solved") -> "Solved":
        """The same with other ends of some lanes."""

        def replaced(whole: np.ndarray, part: np.ndarray) -> np.ndarray:
            whole = whole.copy()
            whole[lanes] = part
            return whole

        return Solved(
            replaced(self.x, others.x),
            Point(*map(replaced, self.point, others.point)),
            replaced(self.multipliers, others.multipliers),
            replaced(self.kkt, others.kkt),
            replaced(self.status, others.status),
            replaced(self.iterations, others.iterations),
            replaced(self.curvature, others.curvature),
        )

    @property
    def violation(self) -> Numbers:
        """The largest violation of each lane, in logarithms; at least 0."""
        return np.maximum(self.point.c, 0).max(axis=1, initial=0.0)


def residual(x: Numbers, point: Point, lam: Numbers, low: Numbers, high: Numbers) -> Numbers:
    """The KKT residual of each lane."""
    slope = point.g + np.einsum("lmn,lm->ln", point.rows, lam)
    moved = np.abs(x - np.clip(x - slope, low, high)).max(axis=1)
    apart = np.abs(lam * point.c).max(axis=1, initial=0.0)
    return np.maximum(np.maximum(moved, apart), np.maximum(point.c, 0).max(axis=1, initial=0.0))


def descend(
    evaluate: Evaluate,
    start: Numbers,
    low: Numbers,
    high: Numbers,
    weights: Numbers,
    *,
    tolerance: float,
    iterations: int = 100,
    first: Point | None = None,
    curvature: Numbers | None = None,
    anywhere: bool = False,
    penalties: tuple[float, float] = PENALTIES,
    progress: Callable[[int, int], None] | None = None,
    leaves: Callable[[np.ndarray, Numbers, Point, Numbers], np.ndarray] | None = None,
) -> Solved:
    """Minimise from all starts at once.

    Arguments:
        evaluate: f, c and their slopes.
        start: of shape (lanes, n), inside the box.
        low, high: the box, of shape (n,), or (lanes, n) where each lane has its own.
        weights: how much heavier than others a violation of each limit counts, of shape (m,).
        tolerance: the KKT residual at which a lane is done.
        iterations: steps of a lane, at most.
        first: what is at the starts, where it is known.
        curvature: of shape (lanes, n, n), where a descend like this one has learned it; None:
            nothing is known.
        anywhere: whether starts may be anywhere though curvature is known; else steps are small at
            first, and their programs solved exactly.
        penalties: rho at first and at most.
        progress: called with the lanes that are done and their number, after each step of all.
        leaves: called with some lanes' numbers, x, what is there and multipliers: whether each of
            them is to be left as it is.
    """
    x = np.array(start, float)
    lanes, n = x.shape
    low, high = np.broadcast_to(low, x.shape), np.broadcast_to(high, x.shape)
    first = evaluate(x, np.arange(lanes)) if first is None else first
    point = Point(*(np.array(part, float) for part in first))
    m = point.c.shape[1]
    if not n:
        return as_begun(x, point)
    exact = np.full(lanes, curvature is not None and not anywhere)
    radius = np.full(lanes, _WARM_RADIUS if exact.any() else _FIRST_RADIUS)
    if curvature is None:
        curvature = np.tile(_CURVATURE * np.eye(n), (lanes, 1, 1))
    curvature = curvature.copy()
    rho = np.full((lanes, 1), penalties[0])
    lam, kkt = np.zeros((lanes, m)), np.full(lanes, np.inf)
    corrected, shifted = np.zeros(lanes, bool), point.c.copy()
    promised = np.zeros(lanes)
    past_f = np.repeat(point.f[:, None], _REMEMBERED, axis=1)
    past_v = np.repeat(_total(point.c, weights)[:, None], _REMEMBERED, axis=1)
    before = np.full((lanes, _PATIENCE), np.inf)
    tried = np.zeros(lanes, int)
    status = np.where(point.finite(), RUNNING, BROKEN)
    for _ in range(iterations):
        run = np.flatnonzero(status == RUNNING)
        if progress is not None:
            progress(lanes - len(run), lanes)
        if not len(run):
            break
        tried[run] += 1
        here, at, h = point.at(run), x[run], curvature[run]
        penalty = rho[run] * weights
        near = np.maximum(low[run] - at, -radius[run, None])
        far = np.minimum(high[run] - at, radius[run, None])
        use = np.where(corrected[run, None], shifted[run], here.c)
        close = np.where(exact[run], 0.0, np.minimum(_EXACT * kkt[run] ** 2, _COARSE))
        program = Program(h, here.g, here.rows, use, penalty, near, far)
        d, own = solve_quadratic(program, lam[run], close)
        bent = np.einsum("ln,lnk,lk->l", d, h, d) / 2
        linear = here.c + np.einsum("lmn,ln->lm", here.rows, d)
        gain = -(here.g * d).sum(1) - bent
        gain += (penalty * (np.maximum(here.c, 0) - np.maximum(linear, 0))).sum(1)
        promised[run] = np.where(corrected[run], promised[run], gain)

        done = ~corrected[run]
        ends = residual(at, here, own, low[run], high[run])
        done &= ends < tolerance
        total = _total(here.c, weights)
        far_off = total > FEASIBLE
        promises = _total(linear, weights) < total / 2
        stuck = far_off & ~promises & (total > _ENOUGH * before[run, 0])
        before[run] = np.column_stack([before[run, 1:], total])
        enough = np.where(far_off, _LITTLE, _NOTHING)
        still = ~done & (
            (~corrected[run] & (gain < enough)) | (radius[run] < _LEAST_RADIUS) | stuck
        )
        unsure = still & (gain < enough) & ~exact[run] & ~stuck
        still &= ~unsure
        exact[run[unsure]] = True
        before[run[still]] = np.inf
        kkt[run] = np.where(corrected[run], kkt[run], ends)
        lam[run] = np.where(corrected[run, None], lam[run], own)
        status[run[done]] = CONVERGED
        _unstick(run[still], point.c, rho, penalties[1], radius, status)
        moving = ~done & ~still & ~unsure
        if leaves is not None:
            left = moving & leaves(run, at, here, own)
            status[run[left]] = LEFT
            moving &= ~left
        run, d = run[moving], d[moving]
        if not len(run):
            continue
        new = evaluate(x[run] + d, run)
        here, penalty = point.at(run), rho[run] * weights
        fine = new.finite()
        with np.errstate(all="ignore"):
            violated = _total(new.c, weights)
            merit = new.f + rho[run, 0] * violated
            gained = here.f + rho[run, 0] * _total(here.c, weights) - merit
            worst = (past_f[run] + rho[run] * past_v[run]).max(axis=1)
            noise = _NOISE * (1 + np.abs(here.f) + penalty.max(axis=1, initial=0.0))
            taken = fine & (
                (worst - merit >= 1e-3 * promised[run])
                | ((np.abs(gained) < noise) & (promised[run] < 10 * noise))
            )
            ratio = gained / promised[run]
        size = np.abs(d).max(axis=1)
        again = ~taken & ~corrected[run] & fine
        shifted[run[again]] = (new.c - np.einsum("lmn,ln->lm", here.rows, d))[again]
        shrink = ~taken & ~again
        radius[run[shrink]] = 0.3 * size[shrink]
        corrected[run] = again
        limited = size > 0.9 * radius[run]
        poor, good = taken & (ratio < 0.25) & limited, taken & (ratio > 0.7) & limited
        radius[run[poor]] = size[poor] / 2
        radius[run[good]] = np.minimum(2 * radius[run[good]], _MOST_RADIUS)

        there, mine, d = run[taken], new.at(taken), d[taken]
        past_f[there] = np.column_stack([past_f[there, 1:], mine.f])
        past_v[there] = np.column_stack([past_v[there, 1:], violated[taken]])
        change = mine.g - point.g[there]
        change += np.einsum("lmn,lm->ln", mine.rows - point.rows[there], lam[there])
        curvature[there] = _updated(curvature[there], d, change)
        x[there] = np.clip(x[there] + d, low[there], high[there])
        for whole, part in zip(point, mine, strict=True):
            whole[there] = part
        kkt[there] = residual(x[there], mine, lam[there], low[there], high[there])
        status[there[kkt[there] < tolerance]] = CONVERGED
    status = np.where(status == RUNNING, STOPPED, status)
    return Solved(x, point, lam, kkt, status, tried, curvature)


def _total(c: Numbers, weights: Numbers) -> Numbers:
    """All violations of each lane together."""
    return (np.maximum(c, 0) * weights).sum(axis=1)


def as_begun(x: Numbers, point: Point) -> Solved:
    """Lanes that have not moved.

    Arguments:
        x: where they are, of shape (lanes, n).
        point: what is there.
    """
    (lanes, n), m = x.shape, point.c.shape[1]
    violation = np.maximum(point.c, 0).max(axis=1, initial=0.0)
    none = np.zeros(lanes, int)
    curvature = np.tile(_CURVATURE * np.eye(n), (lanes, 1, 1))
    kkt = np.full(lanes, np.inf) if n else violation
    status = np.full(lanes, LEFT if n else CONVERGED)
    if not n:
        status[violation > FEASIBLE] = INFEASIBLE
    status[~point.finite()] = BROKEN
    return Solved(x, point, np.zeros((lanes, m)), kkt, status, none, curvature)


def _unstick(
    still: np.ndarray,
    c: Numbers,
    rho: Numbers,
    most: float,
    radius: Numbers,
    status: np.ndarray,
) -> None:
    """Lanes that stand still: those that violate a limit pay more for it, the others are done."""
    violated = np.maximum(c[still], 0).max(axis=1, initial=0.0) > FEASIBLE
    more = violated & (rho[still, 0] < most)
    status[still[~violated]] = STOPPED
    status[still[violated & ~more]] = INFEASIBLE
    rho[still[more]] *= _MORE_PENALTY
    radius[still[more]] = _FIRST_RADIUS


def _updated(h: Numbers, s: Numbers, y: Numbers) -> Numbers:
    """Damped BFGS (Powell): the curvature stays positive definite whatever the slopes did."""
    hs = np.einsum("lnk,lk->ln", h, s)
    shs, sy = (s * hs).sum(1), (s * y).sum(1)
    with np.errstate(all="ignore"):
        theta = np.where(sy >= 0.2 * shs, 1.0, 0.8 * shs / (shs - sy))[:, None]
        r = theta * y + (1 - theta) * hs
        sr = (s * r).sum(1)[:, None, None]
        new = h - hs[:, :, None] * hs[:, None, :] / shs[:, None, None]
        new = new + r[:, :, None] * r[:, None, :] / sr
    good = np.isfinite(new).all((1, 2)) & (shs > 1e-24)
    new = np.where(good[:, None, None], new, h)
    n = s.shape[1]
    new[:, range(n), range(n)] += 1e-10
    return new
