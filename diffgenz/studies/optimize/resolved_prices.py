"""Shadow prices checked by solving again: how far each holds, and how large it is at the ends.

The ratio test (`prices`) says to first order how far the same limits stay active as one of them
moves. Here the problem is solved again with that limit moved, from the optimum on, all limits and
ends as lanes of one descent: at shares of the range and beyond its end, then between the last point
at which the same limits were active and the first at which others were. On both sides of the
optimum, close to it, the difference of optimal objectives is the price itself.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from diffgenz.studies.optimize.prices import ACTIVE, Price
from diffgenz.studies.optimize.problem import Problem
from diffgenz.studies.optimize.quadratic import Numbers
from diffgenz.studies.optimize.slopes import point_at
from diffgenz.studies.optimize.sqp import Point, Solved, descend

_SHARES = 0.2, 0.5, 0.98, 1.1, 1.5
"""Of the range of the ratio test, where it is solved again first."""

_ROUNDS, _PARTS = 2, (0.25, 0.5, 0.75)
"""How often, and where, it is solved again between the last that holds and the first that does
not."""

_FARTHEST = np.log(8.0)
"""How far a limit is moved at most, in its logarithm."""

_NEAR = 2e-3
"""How far a limit is moved for its price, in its logarithm; at most half of the range."""

_SOLVED, _ROUGHLY, _CLOSELY, _STEPS = 1e-5, 3e-6, 1e-8, 40
_EDGE = 1e-6


class _Side(NamedTuple):
    """One way to move a limit or bound.

    Arguments:
        limit: which limit is loosened or tightened; -1 for a bound.
        variable: whose bound moves; -1 for a limit.
        sign: 1 where its number grows, -1 where it falls.
        loosened: 1 where a growing number loosens the limit or moves the bound up, else -1.
        end: how far, in the logarithm, the ratio test lets it go, or `_FARTHEST`; at least 0.
        ends: whether the ratio test finds an end.
    """

    limit: int
    variable: int
    sign: float
    loosened: float
    end: float
    ends: bool


def resolved_prices(
    problem: Problem, solved: Solved, plan: int, prices: Sequence[Price]
) -> tuple[Price, ...]:
    """The prices of one optimum, with ranges and elasticities found by solving again.

    Arguments:
        problem: the problem.
        solved: one lane, at its optimum.
        plan: the number of its plan.
        prices: of this optimum, by the ratio test.
    """
    sides = [side for price in prices for side in _sides(problem, price)]
    if not sides:
        return tuple(prices)
    again = _Again(problem, solved, plan, sides)
    near, reach = again.near(), again.reach()
    found = []
    for place, price in enumerate(prices):
        down, up = 2 * place, 2 * place + 1
        (low, low_elasticity), (high, high_elasticity) = reach[down], reach[up]
        found.append(
            price._replace(
                low=float(np.exp(-low)),
                high=float(np.exp(high)),
                low_elasticity=low_elasticity,
                high_elasticity=high_elasticity,
                resolved=_slope(near[down], near[up]),
            )
        )
    return tuple(found)


def _sides(problem: Problem, price: Price) -> tuple[_Side, _Side]:
    """A number that falls, and one that grows."""
    ends = max(-np.log(price.low), 0.0) if price.low > 0 else np.inf, max(np.log(price.high), 0.0)
    if price.bound:
        names = [variable.name for variable in problem.variables]
        limit, variable, loosened = -1, names.index(price.name), 1.0
    else:
        texts = [each.text for each in problem.limits]
        limit, variable = texts.index(price.name), -1
        loosened = -1.0 if problem.limits[limit].least else 1.0
    down, up = (
        _Side(limit, variable, sign, loosened, float(min(end, _FARTHEST)), bool(end < np.inf))
        for sign, end in zip((-1.0, 1.0), ends, strict=True)
    )
    return down, up


def _slope(down: tuple[float, float], up: tuple[float, float]) -> float | None:
    """The slope between two points (move, change of the objective); of one side where it must."""
    if not (np.isfinite(down[1]) and np.isfinite(up[1])) or up[0] <= down[0]:
        return None
    return float((up[1] - down[1]) / (up[0] - down[0]))


class _Again:
    """The problem solved again with limits that are moved."""

    def __init__(self, problem: Problem, solved: Solved, plan: int, sides: Sequence[_Side]):
        self.problem, self.solved, self.plan, self.sides = problem, solved, plan, sides
        self.sign = -1.0 if problem.maximise else 1.0
        box = problem.low[None], problem.high[None]
        (self.state,) = _active(solved.x, solved.point, solved.multipliers, *box)

    def near(self) -> list[tuple[float, float]]:
        """How far each side was moved a little, with its sign, and how the objective changed."""
        every = np.arange(len(self.sides))
        moves = np.array([min(_NEAR, side.end / 2) for side in self.sides])
        start = np.tile(self.solved.x, (len(every), 1))
        ends, good, _, _ = self._moved(every, moves, start, _CLOSELY)
        change = self.sign * (ends.point.f - self.solved.point.f[0])
        change = np.where(good | (moves == 0), np.where(moves == 0, 0.0, change), np.nan)
        signs = np.array([side.sign for side in self.sides])
        return list(zip((signs * moves).tolist(), change.tolist(), strict=True))

    def reach(self) -> list[tuple[float, float | None]]:
        """How far each side goes with the same limits active, and the elasticity there."""
        count = len(self.sides)
        held, lost = np.zeros(count), np.full(count, np.inf)
        slopes = np.full(count, np.nan)
        tried = {
            (place, min(share * side.end, _FARTHEST))
            for place, side in enumerate(self.sides)
            for share in _SHARES
            if side.end > 0
        }
        nearest = np.tile(self.solved.x, (count, 1))
        for _ in range(1 + _ROUNDS):
            if not tried:
                break
            which, moves = (np.array(part) for part in zip(*sorted(tried), strict=True))
            which = which.astype(int)
            ends, good, same, elasticity = self._moved(which, moves, nearest[which], _ROUGHLY)
            for row in np.argsort(moves, kind="stable").tolist():
                place = int(which[row])
                if not (good[row] and same[row]):
                    lost[place] = min(lost[place], moves[row])
                elif held[place] < moves[row] < lost[place]:
                    held[place], slopes[place] = moves[row], elasticity[row]
                    nearest[place] = ends.x[row]
            between = (lost < np.inf) & (lost - held > 0.02 * lost)
            tried = {
                (int(place), float(held[place] + part * (lost[place] - held[place])))
                for place in np.flatnonzero(between)
                for part in _PARTS
            }
        endless = np.array([not side.ends for side in self.sides])
        held = np.where(endless & (lost == np.inf), np.inf, held)
        return [
            (float(end), None if np.isnan(slope) else float(slope))
            for end, slope in zip(held, slopes, strict=True)
        ]

    def _moved(
        self, which: np.ndarray, moves: Numbers, start: Numbers, tolerance: float
    ) -> tuple[Solved, np.ndarray, np.ndarray, Numbers]:
        """Optima with sides moved so far, each from a start of its own.

        Also whether each is solved, whether it has the same active limits, and its elasticity.
        """
        problem = self.problem
        sides = [self.sides[place] for place in which]
        shift = np.zeros((len(which), len(problem.limits)))
        low, high = np.tile(problem.low, (len(which), 1)), np.tile(problem.high, (len(which), 1))
        for lane, (side, move) in enumerate(zip(sides, moves, strict=True)):
            if side.variable < 0:
                shift[lane, side.limit] = side.sign * side.loosened * move
            else:
                at_low = (0, side.variable) in self.state
                (low if at_low else high)[lane, side.variable] += side.sign * move
        low, high = np.minimum(low, high), np.maximum(low, high)

        def evaluate(x: Numbers, some: np.ndarray) -> Point:
            point = point_at(problem, x, np.full(len(x), self.plan))
            return point._replace(c=point.c - shift[some])

        ends = descend(
            evaluate,
            np.clip(start, low, high),
            low,
            high,
            problem.weights,
            tolerance=tolerance,
            iterations=_STEPS,
            curvature=np.tile(self.solved.curvature, (len(which), 1, 1)),
        )
        good = (ends.kkt <= _SOLVED) & (ends.violation <= _SOLVED)
        states = _active(ends.x, ends.point, ends.multipliers, low, high)
        same = np.array([state == self.state for state in states])
        slope = ends.point.g + np.einsum("lmn,lm->ln", ends.point.rows, ends.multipliers)
        elasticity = np.array(
            [
                slope[lane, side.variable]
                if side.variable >= 0
                else -side.loosened * ends.multipliers[lane, side.limit]
                for lane, side in enumerate(sides)
            ]
        )
        return ends, good, same, self.sign * elasticity


def _active(
    x: Numbers, point: Point, multipliers: Numbers, low: Numbers, high: Numbers
) -> list[frozenset[tuple[int, int]]]:
    """Which limits and bounds are active in each lane: (2, limit), (0, low of), (1, high of)."""
    slope = point.g + np.einsum("lmn,lm->ln", point.rows, multipliers)
    at_low = (x - low < _EDGE) & (slope > ACTIVE)
    at_high = (high - x < _EDGE) & (slope < -ACTIVE)
    every = zip(at_low, at_high, multipliers > ACTIVE, strict=True)
    return [
        frozenset(
            (kind, int(index)) for kind, part in enumerate(lane) for index in np.flatnonzero(part)
        )
        for lane in every
    ]
