"""Quadratic programs without a guess: a primal-dual interior-point method for all lanes.

With slacks s >= 0 and t = s - c - A d >= 0, multipliers lambda of t, mu = rho - lambda of s, and z
of the box, Newton's method is applied to

    H d + g + A' lambda - z_low + z_high = 0,    every product of a pair = tau,

tau going to zero, with Mehrotra's predictor and corrector (Nocedal and Wright, Numerical
Optimization, 2006, chapters 16.6 and 18.5): a step for tau = 0 says how far tau may go down, and
how the products bend. All unknowns but d are eliminated, so that a step solves systems of as many
equations as there are variables. Pairs stand side by side in two arrays: (lambda, mu, z_low,
z_high) and (t, s, d - low, high - d).
"""

from typing import NamedTuple

import numpy as np

from diffgenz.studies.optimize.quadratic import Numbers, Program

_STEPS = 60
_SHARE = 0.995
"""Of the way to the nearest bound, how much a step goes at most."""
_CLOSE = 1e-14
"""The mean product of pairs, over the scale of the lane, that rounding allows."""
_SMALLER, _PATIENCE = 0.5, 5
"""In so many steps the error must shrink to this share once, or the lane is done too: rounding."""
_WORTH = 0.7
"""The share of lanes still going below which the others are set aside."""


class _Iterate(NamedTuple):
    """What Newton's method moves, or by how much, one row for each lane."""

    d: Numbers
    dual: Numbers
    primal: Numbers

    def at(self, lanes: np.ndarray) -> "_Iterate":
        """Those of some lanes."""
        return _Iterate(*(part[lanes] for part in self))


@np.errstate(all="ignore")
def solve_interior(program: Program, close: Numbers | float = _CLOSE) -> tuple[Numbers, Numbers]:
    """The step of every lane, and the multipliers of its limits.

    Arguments:
        program: the programs.
        close: the mean product of pairs, over the scale of the lane, at which it is done; of shape
            (lanes,), or one for all.

    Returns:
        d, of shape (lanes, n), and lambda in [0, rho], of shape (lanes, m).
    """
    now, m = _begin(program), program.values.shape[1]
    lanes = np.arange(len(program.slope))
    best_d, best_lam = now.d.copy(), now.dual[:, :m].copy()
    close = np.maximum(np.broadcast_to(close, len(lanes)), _CLOSE)
    least, idle = np.full(len(lanes), np.inf), np.zeros(len(lanes), int)
    for _ in range(_STEPS):
        gap, rest = (now.dual * now.primal).mean(axis=1), _rest(program, now)
        error = gap / (1 + program.penalty.max(axis=1, initial=0.0))
        error += np.abs(rest).max(axis=1) * 1e-3
        known = least[lanes]
        better = error < known
        best_d[lanes[better]], best_lam[lanes[better]] = now.d[better], now.dual[better, :m]
        least[lanes] = np.where(better, error, known)
        idle = np.where(error < _SMALLER * known, 0, idle + 1)
        going = (least[lanes] >= close[lanes]) & (idle < _PATIENCE)
        if not going.any():
            break
        if going.mean() < _WORTH:
            program, now, gap, rest = program.at(going), now.at(going), gap[going], rest[going]
            lanes, idle, going = lanes[going], idle[going], going[going]
        change = _change(program, now, gap, rest)
        if change is None:
            break
        step = _room(now, change)
        moves = going & np.isfinite(step) & np.isfinite(change.d).all(axis=1)
        if not moves.any():
            break
        now = _moved(program, now, change, np.where(moves, _SHARE * step, 0.0)[:, None])
    return best_d, best_lam


def _begin(program: Program) -> _Iterate:
    """The middle of the box, with slacks and multipliers inside their bounds."""
    d = (program.low + program.high) / 2
    linear = program.values + _along(program, d)
    s = np.maximum(linear, 0) + 1.0
    half, ones = program.penalty / 2, np.ones_like(d)
    dual = np.concatenate([half, half, ones, ones], axis=1)
    primal = np.concatenate([s - linear, s, d - program.low, program.high - d], axis=1)
    return _Iterate(d, dual, primal)


def _parts(pairs: Numbers, m: int, n: int) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """What belongs to limits met, limits paid for, lower and upper bounds."""
    k = 2 * m + n
    return pairs[:, :m], pairs[:, m : 2 * m], pairs[:, 2 * m : k], pairs[:, k:]


def _along(program: Program, d: Numbers) -> Numbers:
    """A d of each lane, of shape (lanes, m)."""
    return (program.rows @ d[:, :, None])[:, :, 0]


def _rest(program: Program, now: _Iterate) -> Numbers:
    """What is left of the slope, of shape (lanes, n)."""
    m, n = program.rows.shape[1:]
    rest = (program.curvature @ now.d[:, :, None])[:, :, 0] + program.slope
    rest += (now.dual[:, None, :m] @ program.rows)[:, 0]
    return rest - now.dual[:, 2 * m : 2 * m + n] + now.dual[:, 2 * m + n :]


def _change(program: Program, now: _Iterate, gap: Numbers, rest: Numbers) -> _Iterate | None:
    """Newton's step towards smaller products; None where a system has no solution."""
    rows, (m, n) = program.rows, program.rows.shape[1:]
    lam, mu, z_low, z_high = _parts(now.dual, m, n)
    t, s, below, above = _parts(now.primal, m, n)
    back = s / mu
    pull = t + lam * back
    weight = lam / pull
    matrix = program.curvature + (rows * weight[:, :, None]).swapaxes(1, 2) @ rows
    diagonal = np.arange(n)
    matrix[:, diagonal, diagonal] += z_low / below + z_high / above
    try:
        inverse = np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        return None

    def towards(wanted: Numbers) -> _Iterate:
        """The step that changes products by what is wanted, to first order."""
        of_t, of_s, of_low, of_high = _parts(wanted, m, n)
        fixed = (of_t - lam * of_s / mu) / pull
        right = of_low / below - of_high / above - rest - (fixed[:, None] @ rows)[:, 0]
        d = (inverse @ right[:, :, None])[:, :, 0]
        moved = _along(program, d)
        d_lam = fixed + weight * moved
        d_s = of_s / mu + back * d_lam
        d_low, d_high = (of_low - z_low * d) / below, (of_high + z_high * d) / above
        dual = np.concatenate([d_lam, -d_lam, d_low, d_high], axis=1)
        return _Iterate(d, dual, np.concatenate([d_s - moved, d_s, d, -d], axis=1))

    products = now.dual * now.primal
    first = towards(-products)
    step = _room(now, first)[:, None]
    left = ((now.dual + step * first.dual) * (now.primal + step * first.primal)).mean(axis=1)
    tau = np.minimum((left / gap) ** 3, 1.0) * gap
    return towards(tau[:, None] - products - first.dual * first.primal)


def _moved(program: Program, now: _Iterate, change: _Iterate, step: Numbers) -> _Iterate:
    """These after a step, of shape (lanes, 1); a lane of step 0 stays."""
    still = step <= 0
    d, dual, primal = (np.where(still, a, a + step * b) for a, b in zip(now, change, strict=True))
    return _Iterate(d, dual, primal)


def _room(now: _Iterate, change: _Iterate) -> Numbers:
    """How far each lane may go along its changes until a number reaches zero; at most 1."""
    room = (change.dual / now.dual).min(axis=1), (change.primal / now.primal).min(axis=1)
    return 1 / np.maximum(-np.minimum(*room), 1.0)
