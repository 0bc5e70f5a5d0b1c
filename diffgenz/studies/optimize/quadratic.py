"""Many small quadratic programs at once: the step of each lane of `sqp`.

Each lane asks for a step d within a box,

    min  g d + d H d / 2 + sum_j rho_j max(0, c_j + A_j d)

with multipliers lambda_j in [0, rho_j]: 0 where c_j + A_j d < 0, and rho_j where it is above. There
is always a solution: limits that cannot be met are paid for. `active_set` guesses which limits are
active, `interior` needs no guess.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Numbers = Float[np.ndarray, "..."]


class Program(NamedTuple):
    """The numbers of many programs, one for each lane.

    Arguments:
        curvature: H, positive definite; of shape (lanes, n, n).
        slope: g, of shape (lanes, n).
        rows: A, of shape (lanes, m, n).
        values: c, of shape (lanes, m).
        penalty: rho, above 0; of shape (lanes, m).
        low, high: the box of d, low below high; of shape (lanes, n).
    """

    curvature: Numbers
    slope: Numbers
    rows: Numbers
    values: Numbers
    penalty: Numbers
    low: Numbers
    high: Numbers

    def at(self, lanes: np.ndarray) -> "Program":
        """Those of some lanes."""
        return Program(*(part[lanes] for part in self))
