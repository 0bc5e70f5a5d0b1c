"""Is the problem convex on its box? A midpoint test on random pairs.

Where it is, a point whose KKT residual vanishes is the global optimum of its plan (Boyd and
Vandenberghe, Convex Optimization, 2004, section 5.5.3). A test on pairs is evidence, not a proof.
"""

from typing import NamedTuple

import numpy as np

from diffgenz.studies.optimize.problem import Problem

PAIRS = 256
"""Pairs of a plan, where nothing is drawn."""

_LEAST_PAIRS, _DRAWS = 32, 8
"""Pairs of a plan at least, and the draws beyond which there are fewer of them."""

_SLACK = 1e-6


class Convexity(NamedTuple):
    """What the test found for one plan.

    Arguments:
        pairs: random pairs of points of the box, all of whose numbers are finite.
        broken: of these, how many have a midpoint above the mean of both ends, in any formula.
        worst: by how much at most, in the logarithm.
    """

    pairs: int
    broken: int
    worst: float

    @property
    def holds(self) -> bool:
        """Whether no pair speaks against convexity, and there are some."""
        return self.pairs > 0 and self.broken == 0


def convexity_of(problem: Problem, plans: np.ndarray, seed: int = 0) -> list[Convexity]:
    """The test of each of some plans.

    Arguments:
        problem: the problem.
        plans: their numbers.
        seed: of the random pairs.
    """
    rng = np.random.default_rng(seed)
    n = len(problem.variables)
    pairs = max(_LEAST_PAIRS, PAIRS * _DRAWS // max(problem.draws, _DRAWS))
    a, b = rng.uniform(problem.low, problem.high, (2, len(plans), pairs, n))
    x = np.stack([a, b, (a + b) / 2], axis=2).reshape(-1, n)
    f, c = problem.values(x, np.repeat(plans, 3 * pairs))
    every = np.concatenate([f[:, None], c], axis=1).reshape(len(plans), pairs, 3, -1)
    above = (every[:, :, 2] - (every[:, :, 0] + every[:, :, 1]) / 2).max(axis=2)
    found = []
    for row in above:
        good = row[np.isfinite(row)]
        broken = int((good > _SLACK).sum())
        found.append(Convexity(len(good), broken, float(max(good.max(initial=0.0), 0.0))))
    return found
