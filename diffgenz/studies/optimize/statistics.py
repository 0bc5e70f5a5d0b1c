"""What counts of a number that is known only by draws: its mean, its tail, its worst, a share.

Of draws o_1 ... o_D the mean of the worst part 1 / c (conditional value at risk, CVaR) is

    min over t of  t + c mean_d max(0, o_d - t)

(Rockafellar and Uryasev, Optimization of conditional value-at-risk, 2000). The maximum is smoothed
relative to t, as t psi(o_d / t - 1) with psi(z) = (z + sqrt(z^2 + e^2)) / 2. The threshold t is
eliminated: it is the root of a monotone function of one unknown. What is left is convex, grows with
every draw and is homogeneous, so that it is the largest of many sums of draws with weights above 0.
Where each draw is convex in logarithms, so is it; with the threshold as one more free number it
would not be. It is never below the CVaR of the draws, and exceeds it most, by a share of
e sqrt(c - 1), where all draws are equal.
"""

from typing import NamedTuple

import numpy as np

from diffgenz.studies.optimize.quadratic import Numbers

SMOOTHING = 2e-3
"""e: the part of the threshold over which the maximum is rounded off."""

_STEPS = 60
"""Of the threshold, at most: Newton's, or half of the bracket where his leave it."""
_NEAR = 1e-12


class Statistic(NamedTuple):
    """What counts of the draws of a number.

    Arguments:
        kind: "mean"; "cvar", the mean of the worst part; "worst"; or "share", of draws that must
            meet a limit. The last is made sure of by the CVaR of the same level, which is stricter.
        level: of "cvar" the part of draws that is not looked at, of "share" the part that must meet
            the limit; between 0 and 1.
    """

    kind: str
    level: float = 0.0

    def said(self, what: str) -> str:
        """The statistic of something, as people write it."""
        if self.kind == "cvar":
            return f"cvar({100 * self.level:g}%, {what})"
        if self.kind == "share":
            return f"{what} in {100 * self.level:g}% of draws"
        return f"{self.kind}({what})"

    def of(self, logs: Numbers, *, least: bool = False, smooth: bool = True) -> Numbers:
        """The logarithm of the statistic.

        Arguments:
            logs: logarithms of the draws, of shape (columns, draws).
            least: whether the least draws are the worst, not the largest.
            smooth: whether tails are smoothed.

        Returns:
            an array of shape (columns,); NaN or infinite where a draw is.
        """
        return self.with_shares(logs, least=least, smooth=smooth)[0]

    def with_shares(
        self, logs: Numbers, *, least: bool = False, smooth: bool = True
    ) -> tuple[Numbers, Numbers]:
        """The same, and its slopes to the logarithms of the draws, which are shares of it.

        The threshold of a tail has no part in them: the tail is stationary in it.
        """
        scale = logs.max(axis=1, keepdims=True)
        with np.errstate(all="ignore"):
            draws = np.exp(logs - scale)
            if self.kind == "mean":
                weights = np.full_like(draws, 1 / draws.shape[1])
            elif smooth:
                found, weights = _smooth_tail(draws, self.factor(draws.shape[1]), least)
                return np.log(found) + scale[:, 0], weights * draws / found[:, None]
            else:
                weights = _tail(draws, self.factor(draws.shape[1]), least)
            parts = weights * draws
            found = parts.sum(axis=1, keepdims=True)
            return (np.log(found) + scale)[:, 0], parts / found

    def factor(self, draws: int) -> float:
        """c: all draws / those of the tail, which has one draw at least."""
        if self.kind == "worst" or self.level >= 1:
            return float(draws)
        return float(min(1 / (1 - self.level), draws))


MEAN, WORST = Statistic("mean"), Statistic("worst")


def _tail(draws: Numbers, factor: float, least: bool) -> Numbers:
    """What each draw counts in the mean of the worst 1 / factor of them; one counts in part."""
    order = np.argsort(draws if least else -draws, axis=1, kind="stable")
    count = draws.shape[1] / factor
    counts = np.clip(count - np.arange(draws.shape[1]), 0, 1) / count
    weights = np.empty_like(draws)
    np.put_along_axis(weights, order, np.broadcast_to(counts, draws.shape), axis=1)
    return weights


def _smooth_tail(draws: Numbers, factor: float, least: bool) -> tuple[Numbers, Numbers]:
    """That mean, smoothed, of the least draws from below; and its slopes to the draws."""
    if factor <= 1 + 1e-9:
        return draws.mean(axis=1), np.full_like(draws, 1 / draws.shape[1])
    sign = -1.0 if least else 1.0
    room = np.log1p(SMOOTHING * (1 + np.sqrt(factor) + np.sqrt(factor / (factor - 1))))
    low, high = np.log(draws.min(axis=1)) - room, np.log(draws.max(axis=1)) + room
    rank = min(int(draws.shape[1] / factor), draws.shape[1] - 1)
    worst = rank if least else draws.shape[1] - 1 - rank
    log = np.log(np.partition(draws, worst, axis=1)[:, worst])
    going = np.arange(len(draws))
    for _ in range(_STEPS):
        at = log[going]
        slope, curvature = _slopes(draws[going], at, factor, sign)
        up = slope * sign < 0
        low[going], high[going] = np.where(up, at, low[going]), np.where(up, high[going], at)
        newton, middle = at - slope / curvature, (low[going] + high[going]) / 2
        inside = (newton > low[going]) & (newton < high[going])
        log[going] = np.where(inside, newton, middle)
        going = going[np.abs(log[going] - at) > _NEAR]
        if not going.size:
            break
    t = np.exp(log)[:, None]
    z = sign * (draws / t - 1)
    slopes = factor / draws.shape[1] * (1 + z / np.hypot(z, SMOOTHING)) / 2
    return (t + sign * factor * t * _plus(z)).mean(axis=1), slopes


def _slopes(draws: Numbers, log: Numbers, factor: float, sign: float) -> tuple[Numbers, Numbers]:
    """The slope in t of what is minimised (of the least draws, maximised), and its own in ln t."""
    u = draws / np.exp(log)[:, None]
    z = sign * (u - 1)
    size = np.hypot(z, SMOOTHING)
    steep = (1 + z / size) / 2
    slope = 1 + factor * (sign * (z + size) / 2 - u * steep).mean(axis=1)
    return slope, sign * factor * (u**2 * SMOOTHING**2 / (2 * size**3)).mean(axis=1)


def _plus(z: Numbers) -> Numbers:
    return (z + np.hypot(z, SMOOTHING)) / 2
