"""Quadratic programs whose active limits are nearly known: a guess, and a linear system for each.

Where it is known which limits and bounds are active in the program of `quadratic`, its solution is
that of one linear system. A wrong guess is mended by what the system says: an active limit whose
multiplier is not in [0, rho] is none, one that is exceeded is active, and bounds likewise. That is
the primal-dual active-set method (Hintermueller, Ito and Kunisch, SIAM Journal on Optimization 13,
2003), a semismooth Newton method. Near its optimum the programs of a lane hardly change, so that
the guess of the last one takes a step or two, where an interior-point method takes fifteen from
anywhere. It may also go round in circles: such lanes are told, and solved in the other way.
"""

import numpy as np

from diffgenz.studies.optimize.interior import solve_interior
from diffgenz.studies.optimize.quadratic import Numbers, Program

STEPS = 4
"""Guesses of a lane, at most."""
_SLACK = 1e-11
"""What a condition may be off and still hold, where all is of order 1."""
_SOFT = 1e-13
"""Of how much an active limit gives way to its multiplier: dependent ones share it then."""
_LITTLE = 1e-3
"""Multipliers that are nearer to rho than this share of it are guessed to be rho."""
_LOW, _FREE, _HIGH = -1, 0, 1
_SLACKENED, _ACTIVE, _PAID = 0, 1, 2
"""A limit that holds with room to spare; exactly; not at all, its multiplier being rho."""


def solve_quadratic(program: Program, guess: Numbers, close: Numbers) -> tuple[Numbers, Numbers]:
    """The step of every lane, and the multipliers of its limits.

    Arguments:
        program: the programs.
        guess: multipliers that are near, such as those of the last step; of shape (lanes, m).
        close: how exact lanes are that need the interior-point method, as there; of shape (lanes,).

    Returns:
        d, of shape (lanes, n), and lambda in [0, rho], of shape (lanes, m).
    """
    d, lam, solved = solve_active(program, guess)
    if not solved.all():
        rest = np.flatnonzero(~solved)
        d[rest], lam[rest] = solve_interior(program.at(rest), close[rest])
    return d, lam


@np.errstate(all="ignore")
def solve_active(program: Program, guess: Numbers) -> tuple[Numbers, Numbers, np.ndarray]:
    """The step of every lane and its multipliers, where guessing leads to them.

    Arguments:
        program: the programs.
        guess: multipliers of their limits, of shape (lanes, m).

    Returns:
        d and lambda, as of `solve_quadratic`, and whether each lane is solved.
    """
    lanes, m = guess.shape
    n = program.slope.shape[1]
    limits = np.where(guess + program.values > 0, _ACTIVE, _SLACKENED)
    limits[guess > (1 - _LITTLE) * program.penalty] = _PAID
    slope = program.slope + _times(guess, program.rows)
    bounds = np.where(program.low + slope > 0, _LOW, _FREE)
    bounds[program.high + slope < 0] = _HIGH
    d, lam, solved = np.zeros((lanes, n)), np.zeros((lanes, m)), np.zeros(lanes, bool)
    every = np.arange(lanes)
    for _ in range(STEPS):
        found = _solution(program, limits, bounds)
        if found is None:
            break
        now, multipliers = found
        limits_next, bounds_next = _mended(program, limits, bounds, now, multipliers)
        same = (limits_next == limits).all(axis=1) & (bounds_next == bounds).all(axis=1)
        same &= np.isfinite(now).all(axis=1) & np.isfinite(multipliers).all(axis=1)
        if same.any():
            done = every[same]
            d[done] = np.clip(now[same], program.low[same], program.high[same])
            lam[done] = np.clip(multipliers[same], 0, program.penalty[same])
            solved[done] = True
            if same.all():
                break
            going = ~same
            program, every = program.at(going), every[going]
            limits, bounds = limits_next[going], bounds_next[going]
        else:
            limits, bounds = limits_next, bounds_next
    return d, lam, solved


def _times(lam: Numbers, rows: Numbers) -> Numbers:
    """A' lambda of each lane, of shape (lanes, n)."""
    return (lam[:, None] @ rows)[:, 0]


def _solution(
    program: Program, limits: np.ndarray, bounds: np.ndarray
) -> tuple[Numbers, Numbers] | None:
    """d and lambda where these limits and bounds are active; None: some system has none."""
    lanes, n = bounds.shape
    active, fixed = limits == _ACTIVE, bounds != _FREE
    lam = np.where(limits == _PAID, program.penalty, 0.0)
    at = np.where(bounds == _LOW, program.low, np.where(fixed, program.high, 0.0))
    right = -program.slope - _times(lam, program.rows)
    right -= (program.curvature @ at[:, :, None])[:, :, 0]
    count = int(active.sum(axis=1).max(initial=0))
    order = np.argsort(~active, axis=1, kind="stable")[:, :count]
    lane = np.arange(lanes)[:, None]
    taken = active[lane, order]
    rows = program.rows[lane, order]
    ends = np.where(taken, -program.values[lane, order] - (rows @ at[:, :, None])[:, :, 0], 0.0)
    rows *= taken[:, :, None] & ~fixed[:, None]
    matrix = np.empty((lanes, n + count, n + count))
    matrix[:, :n, :n] = program.curvature * ~(fixed[:, :, None] | fixed[:, None])
    matrix[:, :n, n:], matrix[:, n:, :n] = rows.swapaxes(1, 2), rows
    matrix[:, n:, n:] = 0.0
    diagonal = np.arange(n + count)
    matrix[:, diagonal[:n], diagonal[:n]] += fixed
    matrix[:, diagonal[n:], diagonal[n:]] = np.where(taken, -_SOFT, 1.0)
    both = np.concatenate([np.where(fixed, 0.0, right), ends], axis=1)
    try:
        found = np.linalg.solve(matrix, both[..., None])[..., 0]
    except np.linalg.LinAlgError:
        return None
    lam[np.nonzero(active)] = found[:, n:][taken]
    return found[:, :n] + at, lam


def _mended(
    program: Program, limits: np.ndarray, bounds: np.ndarray, d: Numbers, lam: Numbers
) -> tuple[np.ndarray, np.ndarray]:
    """The next guess; the same where all conditions hold."""
    linear = program.values + (program.rows @ d[:, :, None])[:, :, 0]
    slope = (program.curvature @ d[:, :, None])[:, :, 0] + program.slope
    slope += _times(lam, program.rows)
    above, below = linear > _SLACK, linear < -_SLACK
    most = program.penalty * (1 + _SLACK)
    of_active = np.where(lam < -_SLACK, _SLACKENED, np.where(lam > most, _PAID, _ACTIVE))
    next_limits = np.where(limits == _ACTIVE, of_active, limits)
    next_limits[(limits == _SLACKENED) & above] = _ACTIVE
    next_limits[(limits == _PAID) & below] = _ACTIVE
    next_bounds = np.where(d < program.low - _SLACK, _LOW, _FREE)
    next_bounds[d > program.high + _SLACK] = _HIGH
    next_bounds[(bounds == _LOW) & (slope >= -_SLACK)] = _LOW
    next_bounds[(bounds == _HIGH) & (slope <= _SLACK)] = _HIGH
    return next_limits, next_bounds
