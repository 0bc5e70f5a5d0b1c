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

import numpy as np
from jaxtyping import Float

Numbers = Float[np.ndarray, "..."]

_STEPS = 60
_SHARE = 0.995
"""Of the way to the nearest bound, how much a step goes at most."""
_CLOSE = 1e-14
"""The mean product of pairs, over the scale of the lane, at which it is done."""


@np.errstate(all="ignore")
def solve_quadratic(
    curvature: Numbers,
    slope: Numbers,
    rows: Numbers,
    values: Numbers,
    penalty: Numbers,
    low: Numbers,
    high: Numbers,
) -> tuple[Numbers, Numbers]:
    """The step of every lane, and the multipliers of its limits.

    Arguments:
        curvature: H, positive definite; of shape (lanes, n, n).
        slope: g, of shape (lanes, n).
        rows: A, of shape (lanes, m, n).
        values: c, of shape (lanes, m).
        penalty: rho, above 0; of shape (lanes, m).
        low, high: the box of d, low below high; of shape (lanes, n).

    Returns:
        d, of shape (lanes, n), and lambda in [0, rho], of shape (lanes, m).
    """
    lanes, n = slope.shape
    d = (low + high) / 2
    linear = values + np.einsum("lmn,ln->lm", rows, d)
    s = np.maximum(linear, 0) + 1.0
    lam = penalty / 2
    z_low, z_high = np.ones((lanes, n)), np.ones((lanes, n))
    scale = 1 + penalty.max(axis=1, initial=0.0)
    pairs = 2 * values.shape[1] + 2 * n
    least = np.full(lanes, np.inf)
    best = d, lam
    for _ in range(_STEPS):
        t = s - values - np.einsum("lmn,ln->lm", rows, d)
        mu = penalty - lam
        below, above = d - low, high - d
        gap = ((lam * t + mu * s).sum(1) + (z_low * below + z_high * above).sum(1)) / pairs
        rest = np.einsum("lnk,lk->ln", curvature, d) + slope
        rest += np.einsum("lmn,lm->ln", rows, lam) - z_low + z_high
        error = gap / scale + np.abs(rest).max(axis=1) * 1e-3
        better = error < least
        least = np.where(better, error, least)
        best = np.where(better[:, None], d, best[0]), np.where(better[:, None], lam, best[1])
        if (least < _CLOSE).all():
            break
        tau = (np.minimum(0.1, np.maximum(gap, 1e-3)) * gap)[:, None]
        pull = t + lam * s / mu
        weight = lam / pull
        fixed = (tau - lam * t - lam * tau / mu + lam * s) / pull
        matrix = curvature + np.einsum("lmn,lm,lmk->lnk", rows, weight, rows, optimize=True)
        matrix[:, range(n), range(n)] += z_low / below + z_high / above
        right = -rest - np.einsum("lmn,lm->ln", rows, fixed)
        right += tau / below - z_low - tau / above + z_high
        try:
            dd = np.linalg.solve(matrix, right[..., None])[..., 0]
        except np.linalg.LinAlgError:
            break
        d_lam = fixed + weight * np.einsum("lmn,ln->lm", rows, dd)
        d_s = (tau - mu * s + s * d_lam) / mu
        d_t = d_s - np.einsum("lmn,ln->lm", rows, dd)
        d_low = (tau - z_low * dd) / below - z_low
        d_high = (tau + z_high * dd) / above - z_high
        primal = _room([(t, d_t), (s, d_s), (below, dd), (above, -dd)])
        dual = _room([(lam, d_lam), (mu, -d_lam), (z_low, d_low), (z_high, d_high)])
        step = np.minimum(primal, dual)
        moves = (least >= _CLOSE) & np.isfinite(step) & np.isfinite(dd).all(axis=1)
        if not moves.any():
            break
        d, s, lam, z_low, z_high = (
            np.where(moves[:, None], number + step[:, None] * change, number)
            for number, change in zip(
                (d, s, lam, z_low, z_high), (dd, d_s, d_lam, d_low, d_high), strict=True
            )
        )
    return best


def _room(pairs: list[tuple[Numbers, Numbers]]) -> Numbers:
    """How far each lane may go along its changes until a number reaches zero; at most 1."""
    room = np.ones(len(pairs[0][0]))
    for number, change in pairs:
        if number.shape[1]:
            ratio = np.where(change < 0, -number / np.minimum(change, -1e-300), np.inf)
            room = np.minimum(room, _SHARE * ratio.min(axis=1))
    return room
