"""Plans that cannot be among the best are left before their lanes have ended.

For any multipliers lambda >= 0 the Lagrangian f + lambda c is, wherever the limits hold, at most f;
and where f and c are convex it lies above its tangent. The least of the tangent over the box, which
is a sum over variables, is therefore at most the optimum of the plan (Boyd and Vandenberghe, Convex
Optimization, 2004, section 5.2). A plan of which this bound is above a value that another one has
reached is not the best. It holds for plans that are convex (`convexity`), and is asked of no
other.
"""

import numpy as np

from diffgenz.studies.optimize.quadratic import Numbers
from diffgenz.studies.optimize.sqp import FEASIBLE, Point

BEHIND = float(np.log(1.1))
"""How far behind the best a plan must be to be left, in the logarithm: nearer ones are kept."""


class Pruning:
    """What is known of the plans while their lanes are solved.

    Arguments:
        plan: of each lane, of shape (lanes,).
        convex: whether each plan is, of shape (plans,).
        low, high: the box, of shape (n,).
        best: a value of ln objective that is reached elsewhere; infinite: none.
    """

    def __init__(
        self,
        plan: np.ndarray,
        convex: np.ndarray,
        low: Numbers,
        high: Numbers,
        best: float = np.inf,
    ):
        self.plan, self.convex, self.low, self.high = plan, convex, low, high
        self.best, self.bounds = best, np.full(len(convex), -np.inf)

    def __call__(self, lanes: np.ndarray, x: Numbers, point: Point, lam: Numbers) -> np.ndarray:
        """Whether each of some lanes belongs to a plan that is left.

        Arguments:
            lanes: their numbers.
            x: where they are, of shape (some, n).
            point: what is there.
            lam: multipliers, at least 0; of shape (some, m).
        """
        met = (point.c <= FEASIBLE).all(axis=1) & np.isfinite(point.f)
        self.best = min(self.best, point.f[met].min(initial=np.inf))
        bound = bounds_of(x, point, lam, self.low, self.high)
        np.maximum.at(self.bounds, self.plan[lanes], np.where(np.isfinite(bound), bound, -np.inf))
        return self.left[self.plan[lanes]]

    @property
    def left(self) -> np.ndarray:
        """Which plans are left, of shape (plans,)."""
        return self.convex & (self.bounds > self.best + BEHIND)


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
