"""What limits, bounds and hardware numbers cost: shadow prices, and how far they hold.

At an optimum, moving a limit by one percent moves the objective by as many percent as its
multiplier says (envelope theorem). It does so as long as the same limits are active: how far that
is follows from how x and the multipliers move with the limit, to first order, by the KKT system
(Fiacco, Introduction to Sensitivity and Stability Analysis in Nonlinear Programming, 1983).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from diffgenz.core.differences import STEP
from diffgenz.core.leaves import leaf_at, leaf_names, number_at
from diffgenz.scenario.mix import parts_of, paths_named
from diffgenz.studies.optimize.problem import Problem
from diffgenz.studies.optimize.quadratic import Numbers
from diffgenz.studies.optimize.sqp import Point, Solved

ACTIVE = 1e-6
"""The multiplier above which a limit or bound is active."""

_MOVE = 1e-3
"""By how much logarithms are moved for second derivatives."""


_FAR = np.log(1e6)
"""A range of a logarithm that ends beyond this has no end."""


class Price(NamedTuple):
    """What a limit or bound costs.

    Arguments:
        name: the limit as it is written, or the variable whose bound it is.
        bound: "lower" or "upper", of a variable; "" of a limit.
        elasticity: by how many percent the objective moves when the limit grows by one percent.
        price: by how much the objective moves for each unit of the limit, in SI; None where both
            sides of the limit vary.
        value: the limit, in SI; None as before.
        unit: of the limit; "" where it is not known.
        low, high: the range of the limit, as a multiple of it, in which the same limits are active:
            of the best plan by solving again, of others to first order. Beyond it the elasticity is
            another.
        low_elasticity, high_elasticity: the elasticity at both ends of the range, which moves
            between them; None where it was not solved again, or there is no such end.
        resolved: the elasticity as the difference of two optima close by, solved again; None where
            it was not.
    """

    name: str
    bound: str
    elasticity: float
    price: float | None
    value: float | None
    unit: str
    low: float
    high: float
    low_elasticity: float | None = None
    high_elasticity: float | None = None
    resolved: float | None = None


def prices_of(
    problem: Problem,
    solved: Solved,
    evaluate: Callable[[Numbers, np.ndarray], Point],
) -> list[list[Price]]:
    """The prices of all active limits and bounds of each lane.

    Arguments:
        problem: the problem.
        solved: lanes at their optima.
        evaluate: what is at x of each lane, by the number of the lane.
    """
    lanes, n = solved.x.shape
    moves = _MOVE * np.kron(np.eye(n), [1.0, -1.0]).T
    around = evaluate(
        (solved.x[:, None] + moves).reshape(-1, n), np.repeat(np.arange(lanes), 2 * n)
    )
    lam = np.repeat(solved.multipliers, 2 * n, axis=0)
    slopes = around.g + np.einsum("lmn,lm->ln", around.rows, lam)
    slopes = slopes.reshape(lanes, n, 2, n)
    hessian = (slopes[:, :, 0] - slopes[:, :, 1]) / (2 * _MOVE)
    hessian = (hessian + hessian.swapaxes(1, 2)) / 2
    return [_prices(problem, _Lane(problem, solved, lane, hessian[lane])) for lane in range(lanes)]


class _Lane:
    """One optimum, and how it moves with its limits."""

    def __init__(self, problem: Problem, solved: Solved, lane: int, hessian: Numbers):
        self.hessian = hessian
        self.x, self.lam = solved.x[lane], solved.multipliers[lane]
        self.c, self.rows = solved.point.c[lane], solved.point.rows[lane]
        self.slope = solved.point.g[lane] + self.lam @ self.rows
        self.low, self.high = problem.low, problem.high
        at_low = (self.x - self.low < 1e-6) & (self.slope > ACTIVE)
        at_high = (self.high - self.x < 1e-6) & (self.slope < -ACTIVE)
        self.bound = np.where(at_low, -1, np.where(at_high, 1, 0))
        self.active = np.flatnonzero(self.lam > ACTIVE)
        self.value = float(np.exp(solved.point.f[lane] * (-1 if problem.maximise else 1)))

    def range(self, limit: int | None, variable: int | None) -> tuple[float, float]:
        """The range of a limit's or bound's logarithm in which the same limits are active.

        Arguments:
            limit: which limit is loosened; None for a bound.
            variable: whose bound grows; None for a limit.
        """
        n, count = len(self.x), len(self.active)
        free, held = np.flatnonzero(self.bound == 0), np.flatnonzero(self.bound != 0)
        rows = self.rows[self.active]
        matrix = np.block([[self.hessian, rows.T], [rows, np.zeros((count, count))]])
        moved = np.zeros(n)
        right = np.zeros(n + count)
        if variable is not None:
            moved[variable] = 1.0
            right -= matrix[:, variable]
        else:
            right[n + int(np.flatnonzero(self.active == limit)[0])] = 1.0
        kept = np.concatenate([free, n + np.arange(count)])
        if len(kept):
            part = matrix[np.ix_(kept, kept)]
            found = np.linalg.lstsq(part, right[kept], rcond=1e-10)[0]
            if np.abs(part @ found - right[kept]).max() > 1e-6:
                return 0.0, 0.0  # more limits meet here than can move together
        else:
            found = np.zeros(0)
        dx, dlam = moved, np.zeros(count)
        dx[free], dlam = found[: len(free)], found[len(free) :]
        ends = [(self.lam[self.active], dlam)]
        others = np.setdiff1d(np.arange(len(self.c)), self.active)
        ends.append((-self.c[others], -(self.rows[others] @ dx)))
        ends.append((self.x[free] - self.low[free], dx[free]))
        ends.append((self.high[free] - self.x[free], -dx[free]))
        pull = -self.bound[held] * self.slope[held]
        ends.append((pull, -self.bound[held] * (self.hessian @ dx + rows.T @ dlam)[held]))
        room, change = (np.concatenate(parts) for parts in zip(*ends, strict=True))
        room = np.maximum(room, 0)
        falls, grows = change < -1e-12, change > 1e-12
        up = (room[falls] / -change[falls]).min(initial=np.inf)
        down = -(room[grows] / change[grows]).min(initial=np.inf)
        return float(-np.inf if down < -_FAR else down), float(np.inf if up > _FAR else up)


def _prices(problem: Problem, lane: _Lane) -> list[Price]:
    sign = -1.0 if problem.maximise else 1.0
    found = []
    for index in lane.active:
        limit = problem.limits[index]
        down, up = lane.range(int(index), None)
        elasticity = -sign * float(lane.lam[index])
        if limit.least:
            elasticity, down, up = -elasticity, -up, -down
        price = None if limit.value is None else elasticity * lane.value / limit.value
        found.append(
            Price(
                limit.text,
                "",
                elasticity,
                price,
                limit.value,
                limit.unit,
                float(np.exp(down)),
                float(np.exp(up)),
            )
        )
    for index in np.flatnonzero(lane.bound):
        variable = problem.variables[index]
        down, up = lane.range(None, int(index))
        lower = bool(lane.bound[index] < 0)
        value = variable.low if lower else variable.high
        elasticity = sign * float(lane.slope[index])
        found.append(
            Price(
                variable.name,
                "lower" if lower else "upper",
                elasticity,
                elasticity * lane.value / value,
                value,
                variable.unit,
                float(np.exp(down)),
                float(np.exp(up)),
            )
        )
    return sorted(found, key=lambda price: -abs(price.elasticity))


def leaf_elasticities(problem: Problem, solved: Solved, plan: int) -> dict[str, float]:
    """By how many percent the optimum moves for one percent of each hardware number not free.

    All limits being kept, and all free numbers free. Coefficients of fitted kernels are left out.

    Arguments:
        problem: the problem.
        solved: one lane, at its optimum.
        plan: the number of its plan.
    """
    first = parts_of(problem.question)[0].platform
    taken = {path for variable in problem.variables for path in variable.paths}
    taken |= {path for paths in problem.derived for path in paths}
    places = {}
    for name, path in leaf_names(first).items():
        about = number_at(first, path)
        if about is None or about.structure or "kernels" in name:
            continue
        value = float(np.asarray(leaf_at(first, path)))
        paths = paths_named(problem.question, f"platform.{name}")
        if value > 0 and not set(paths) & taken:
            places[name] = paths, value
    count = len(places)
    columns = np.exp(STEP * np.kron(np.eye(count), [1.0, -1.0]))
    changes = {
        path: value * columns[place]
        for place, (paths, value) in enumerate(places.values())
        for path in paths
    }
    x = np.repeat(solved.x, 2 * count, axis=0)
    f, c = problem.values(x, np.full(2 * count, plan), changes)
    lagrangian = f + c @ solved.multipliers[0]
    slopes = (lagrangian[::2] - lagrangian[1::2]) / (2 * STEP)
    sign = -1.0 if problem.maximise else 1.0
    return {
        name: sign * float(slope)
        for name, slope in zip(places, slopes, strict=True)
        if abs(slope) > ACTIVE
    }
