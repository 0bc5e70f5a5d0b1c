"""The best configuration of each cell of a map over axes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.core.errors import InputError, unknown
from diffgenz.studies.expressions import Expression
from diffgenz.studies.sweep.reductions.reduction import Goal, Passed, Reduction, State, one_goal

MOST_CELLS = 2**24
"""Cells of a map, at most."""


@dataclass(frozen=True)
class Best(Reduction):
    """The best configuration in each cell of a map: a phase diagram of what wins.

    Arguments:
        by: the names of the axes of the map, which are grids or choices.
        minimize: the goal's formula, or None where there is something to maximise.
        maximize: the goal's formula, or None where there is something to minimise.

    Raises:
        InputError: no axes, one of them twice, not exactly one goal, or no formula.
    """

    by: tuple[str, ...]
    minimize: str | None = None
    maximize: str | None = None

    def __post_init__(self):
        object.__setattr__(self, "by", tuple(self.by))
        if not self.by or len({*self.by}) < len(self.by):
            raise InputError(
                f"best: a map by {', '.join(self.by) or 'no axes'} is not possible; "
                "name each axis once, and at least one"
            )
        one_goal("best", self.minimize, self.maximize)

    @property
    def goal(self) -> Goal:
        """What makes one better than another."""
        return one_goal("best", self.minimize, self.maximize)

    @property
    def expressions(self) -> tuple[Expression, ...]:
        return (self.goal.expression,)

    @property
    def axes(self) -> tuple[str, ...]:
        return self.by

    def start(self, levels: Mapping[str, int]) -> State:
        for name in self.by:
            if name not in levels:
                raise unknown("best by", name, levels)
        shape = tuple(levels[name] for name in self.by)
        if np.prod(shape, dtype=float) > MOST_CELLS:
            raise InputError(
                f"best: a map of {' x '.join(map(str, shape))} cells is too large; "
                "use fewer values, or fewer axes"
            )
        nothing = np.full(shape, -1, np.int64)
        return {"indices": nothing, "costs": np.full(shape, np.inf, np.float32)}

    def threshold(self, state: State) -> Any:
        return state["costs"]

    def screen(
        self, columns: Mapping[str, jax.Array], feasible: jax.Array, threshold: Any
    ) -> tuple[jax.Array | None, Any]:
        cost = jnp.where(feasible, self.goal.cost(columns), jnp.inf)
        cell = jnp.zeros(cost.shape, jnp.int32)
        for name, length in zip(self.by, threshold.shape, strict=True):
            cell = cell * length + columns[f"level of {name}"].astype(jnp.int32)
        best = jnp.minimum(threshold.ravel(), jax.ops.segment_min(cost, cell, threshold.size))
        return feasible & (cost <= best[cell]), None

    def absorb(self, state: State, rows: Passed, summary: Any) -> State:
        if not len(rows["index"]):
            return state  # itself: its threshold need not go to the device again
        shape = state["costs"].shape
        levels = tuple(rows[f"level of {name}"].astype(int) for name in self.by)
        cell = np.ravel_multi_index(levels, shape)
        costs = self.goal.cost(rows)
        order = np.lexsort((rows["index"], costs, cell))
        firsts = order[np.unique(cell[order], return_index=True)[1]]
        cells, newcomers = cell[firsts], {"indices": rows["index"][firsts], "costs": costs[firsts]}
        held = {name: array.flat[cells] for name, array in state.items()}
        winners = self.merge(held, newcomers)
        if (winners["indices"] == held["indices"]).all():
            return state
        changed = {name: array.copy() for name, array in state.items()}
        for name, array in changed.items():
            array.flat[cells] = winners[name]
        return changed

    def merge(self, one: State, other: State) -> State:
        there = other["indices"] >= 0
        first = other["indices"] < one["indices"]
        better = other["costs"] < one["costs"]
        better |= (other["costs"] == one["costs"]) & first
        better |= one["indices"] < 0
        better &= there
        return {name: np.where(better, other[name], one[name]) for name in ("indices", "costs")}
