"""Plans that cannot be among the best are left before their lanes have ended.

For any multipliers lambda >= 0 the Lagrangian f + lambda c is, wherever the limits hold, at most f;
and where f and c are convex it lies above its tangent. The least of the tangent over the box, which
is a sum over variables, is therefore at most the optimum of the plan (Boyd and Vandenberghe, Convex
Optimization, 2004, section 5.2). A plan of which this bound is above what `KEPT` others reached is
not among the best so many. It holds for plans that are convex (`convexity`), and is asked of no
other.
"""

from collections.abc import Sequence

import numpy as np

from diffgenz.studies.optimize.quadratic import Numbers
from diffgenz.studies.optimize.sqp import FEASIBLE, Point

KEPT = 8
"""The best plans, all of which are solved to the end."""

BEHIND = float(np.log(1.1))
"""How far behind the best a plan must be to be left, in the logarithm: nearer ones are kept."""

_MET = 1e-5
"""What a violation that counts as none may bring, in the logarithm."""


class Pruning:
    """What is known of the plans while their lanes are solved.

    Arguments:
        plan: of each lane, of shape (lanes,).
        convex: whether each plan is, of shape (plans,).
        low, high: the box, of shape (n,).
        others: ln objective of plans that are solved elsewhere.
    """

    def __init__(
        self,
        plan: np.ndarray,
        convex: np.ndarray,
        low: Numbers,
        high: Numbers,
        others: Sequence[float] = (),
    ):
        self.plan, self.convex, self.low, self.high = plan, convex, low, high
        self.bounds, self.reached = np.full((2, len(convex)), [[-np.inf], [np.inf]])
        self._others = np.asarray(others, float)

    def __call__(self, lanes: np.ndarray, x: Numbers, point: Point, lam: Numbers) -> np.ndarray:
        """Whether each of some lanes belongs to a plan that is left.

        Arguments:
            lanes: their numbers.
            x: where they are, of shape (some, n).
            point: what is there.
            lam: multipliers, at least 0; of shape (some, m).
        """
        met = (point.c <= FEASIBLE).all(axis=1) & np.isfinite(point.f)
        np.minimum.at(self.reached, self.plan[lanes], np.where(met, point.f, np.inf))
        bound = bounds_of(x, point, lam, self.low, self.high)
        np.maximum.at(self.bounds, self.plan[lanes], np.where(np.isfinite(bound), bound, -np.inf))
        return self.left[self.plan[lanes]]

    @property
    def best(self) -> float:
        """The least that any plan has reached; infinite where none has met its limits."""
        return float(np.min([*self.reached, *self._others], initial=np.inf))

    @property
    def left(self) -> np.ndarray:
        """Which plans are left, of shape (plans,)."""
        every = np.sort(np.concatenate([self.reached, self._others]))
        if len(every) <= KEPT:
            return np.zeros(len(self.convex), bool)
        enough = max(every[KEPT - 1] + _MET, every[0] + BEHIND)
        return self.convex & (self.bounds > enough)


def bounds_of(x: Numbers, point: Point, lam: Numbers, low: Numbers, high: Numbers) -> Numbers:
    """What ln objective cannot fall below in the box, as far as f and c are convex; (lanes,).

    Arguments:
        x: of shape (lanes, n).
        point: what is there.
        lam: multipliers, at least 0; of shape (lanes, m).
        low, high: the box, of shape (n,).
    """
    slope = point.g + np.einsum("lmn,lm->ln", point.rows, lam)
    least = np.minimum(slope * (low - x), slope * (high - x)).sum(axis=1)
    return point.f + (lam * point.c).sum(axis=1) + least
