"""Many small quadratic programs at once: the step of each lane of `sqp`.

Each lane solves, for a step d within a box,

    min  g d + d H d / 2 + sum_j rho_j max(0, c_j + A_j d)

by a primal-dual interior-point method. With slacks s >= 0 and t = s - c - A d >= 0, multipliers
lambda of t, rho - lambda of s, and z of the box, Newton's method is applied to

    H d + g + A' lambda - z_low + z_high = 0,    every product of a pair = tau,

tau going to zero (Nocedal and Wright, Numerical Optimization, 2006, chapters 16.6 and 18.5). All
unknowns but d are eliminated, so that a step solves one system of as many equations as there are
variables. There is always a solution: limits that cannot be met are paid for.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Numbers = Float[np.ndarray, "..."]

_STEPS = 60
_SHARE = 0.995
"""Of the way to the nearest bound, how much a step goes at most."""
_CLOSE = 1e-14
"""The mean product of pairs, over the scale of the lane, that rounding allows."""
_SMALLER, _PATIENCE = 0.5, 5
"""In so many steps the error must shrink to this share once, or the lane is done too: rounding."""
_WORTH = 0.7
"""The share of lanes still going below which the others are set aside."""


class _Program(NamedTuple):
    """The numbers of the programs, as `solve_quadratic` has them."""

    curvature: Numbers
    slope: Numbers
    rows: Numbers
    values: Numbers
    penalty: Numbers
    low: Numbers
    high: Numbers

    def at(self, lanes: np.ndarray) -> "_Program":
        """Those of some lanes."""
        return _Program(*(part[lanes] for part in self))


class _Iterate(NamedTuple):
    """What Newton's method moves, or by how much, one row for each lane."""

    d: Numbers
    s: Numbers
    lam: Numbers
    z_low: Numbers
    z_high: Numbers

    def at(self, lanes: np.ndarray) -> "_Iterate":
        """Those of some lanes."""
        return _Iterate(*(part[lanes] for part in self))

    def moved(self, step: Numbers, change: "_Iterate") -> "_Iterate":
        """These after a step, of shape (lanes, 1); a lane of step 0 stays."""
        pairs = zip(self, change, strict=True)
        return _Iterate(*(np.where(step > 0, a + step * b, a) for a, b in pairs))


class _Conditions(NamedTuple):
    """What Newton's method brings to zero: the mean product of pairs, and the rest of the slope."""

    t: Numbers
    gap: Numbers
    rest: Numbers

    def at(self, lanes: np.ndarray) -> "_Conditions":
        """Those of some lanes."""
        return _Conditions(*(part[lanes] for part in self))


@np.errstate(all="ignore")
def solve_quadratic(
    curvature: Numbers,
    slope: Numbers,
    rows: Numbers,
    values: Numbers,
    penalty: Numbers,
    low: Numbers,
    high: Numbers,
    close: Numbers | float = _CLOSE,
) -> tuple[Numbers, Numbers]:
    """The step of every lane, and the multipliers of its limits.

    Arguments:
        curvature: H, positive definite; of shape (lanes, n, n).
        slope: g, of shape (lanes, n).
        rows: A, of shape (lanes, m, n).
        values: c, of shape (lanes, m).
        penalty: rho, above 0; of shape (lanes, m).
        low, high: the box of d, low below high; of shape (lanes, n).
        close: the mean product of pairs, over the scale of the lane, at which it is done; of shape
            (lanes,), or one for all.

    Returns:
        d, of shape (lanes, n), and lambda in [0, rho], of shape (lanes, m).
    """
    program = _Program(curvature, slope, rows, values, penalty, low, high)
    now = _begin(program)
    lanes = np.arange(len(slope))
    best_d, best_lam = now.d.copy(), now.lam.copy()
    close = np.maximum(np.broadcast_to(close, len(lanes)), _CLOSE)
    least, idle = np.full(len(lanes), np.inf), np.zeros(len(lanes), int)
    for _ in range(_STEPS):
        at = _conditions(program, now)
        error = at.gap / (1 + program.penalty.max(axis=1, initial=0.0))
        error += np.abs(at.rest).max(axis=1) * 1e-3
        known = least[lanes]
        better = error < known
        best_d[lanes[better]], best_lam[lanes[better]] = now.d[better], now.lam[better]
        least[lanes] = np.where(better, error, known)
        idle = np.where(error < _SMALLER * known, 0, idle + 1)
        going = (least[lanes] >= close[lanes]) & (idle < _PATIENCE)
        if not going.any():
            break
        if going.mean() < _WORTH:
            program, now, at = program.at(going), now.at(going), at.at(going)
            lanes, idle, going = lanes[going], idle[going], going[going]
        change = _newton(program, now, at)
        if change is None:
            break
        step = _step(program, now, at, change)
        moves = going & np.isfinite(step) & np.isfinite(change.d).all(axis=1)
        if not moves.any():
            break
        step = np.where(moves, step, 0)[:, None]
        now = now.moved(step, change)
    return best_d, best_lam


def _begin(program: _Program) -> _Iterate:
    """The middle of the box, with slacks and multipliers inside their bounds."""
    d = (program.low + program.high) / 2
    linear = program.values + np.einsum("lmn,ln->lm", program.rows, d)
    ones = np.ones_like(d)
    return _Iterate(d, np.maximum(linear, 0) + 1.0, program.penalty / 2, ones, ones)


def _conditions(program: _Program, now: _Iterate) -> _Conditions:
    d, s, lam, z_low, z_high = now
    t = s - program.values - np.einsum("lmn,ln->lm", program.rows, d)
    products = (lam * t + (program.penalty - lam) * s).sum(1)
    products += (z_low * (d - program.low) + z_high * (program.high - d)).sum(1)
    rest = np.einsum("lnk,lk->ln", program.curvature, d) + program.slope
    rest += np.einsum("lmn,lm->ln", program.rows, lam) - z_low + z_high
    return _Conditions(t, products / (2 * lam.shape[1] + 2 * d.shape[1]), rest)


def _newton(program: _Program, now: _Iterate, at: _Conditions) -> _Iterate | None:
    """Newton's step; None where a system has no solution."""
    d, s, lam, z_low, z_high = now
    rows, t = program.rows, at.t
    mu, below, above = program.penalty - lam, d - program.low, program.high - d
    tau = (np.minimum(0.1, np.maximum(at.gap, 1e-3)) * at.gap)[:, None]
    pull = t + lam * s / mu
    weight = lam / pull
    fixed = (tau - lam * t - lam * tau / mu + lam * s) / pull
    matrix = program.curvature + (rows * weight[:, :, None]).swapaxes(1, 2) @ rows
    diagonal = np.arange(d.shape[1])
    matrix[:, diagonal, diagonal] += z_low / below + z_high / above
    right = -at.rest - np.einsum("lmn,lm->ln", rows, fixed)
    right += tau / below - z_low - tau / above + z_high
    try:
        dd = np.linalg.solve(matrix, right[..., None])[..., 0]
    except np.linalg.LinAlgError:
        return None
    d_lam = fixed + weight * np.einsum("lmn,ln->lm", rows, dd)
    d_s = (tau - mu * s + s * d_lam) / mu
    d_low = (tau - z_low * dd) / below - z_low
    d_high = (tau + z_high * dd) / above - z_high
    return _Iterate(dd, d_s, d_lam, d_low, d_high)


def _step(program: _Program, now: _Iterate, at: _Conditions, change: _Iterate) -> Numbers:
    """How far each lane may go along its change."""
    d, lam, moved = now.d, now.lam, change.d
    d_t = change.s - np.einsum("lmn,ln->lm", program.rows, moved)
    primal = _room(
        [
            (at.t, d_t),
            (now.s, change.s),
            (d - program.low, moved),
            (program.high - d, -moved),
        ]
    )
    dual = _room(
        [
            (lam, change.lam),
            (program.penalty - lam, -change.lam),
            (now.z_low, change.z_low),
            (now.z_high, change.z_high),
        ]
    )
    return np.minimum(primal, dual)


def _room(pairs: list[tuple[Numbers, Numbers]]) -> Numbers:
    """How far each lane may go along its changes until a number reaches zero; at most 1."""
    room = np.ones(len(pairs[0][0]))
    for number, change in pairs:
        if number.shape[1]:
            ratio = np.where(change < 0, -number / np.minimum(change, -1e-300), np.inf)
            room = np.minimum(room, _SHARE * ratio.min(axis=1))
    return room
