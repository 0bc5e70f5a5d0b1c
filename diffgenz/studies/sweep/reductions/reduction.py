"""What a sweep keeps: fronts, the best few, the best of each cell of a map, histograms, rows.

A reduction has two halves. `screen` runs on the device over a whole batch: it says which configurations may matter, given a threshold from what
was found so far, and may summarise the batch. `absorb` takes what passed, on the host. States are arrays by name; `merge` is associative and
commutative, so that ranges may be reduced in any order, anywhere.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.core.errors import InputError, unknown
from diffgenz.studies.expressions import Expression
from diffgenz.studies.pareto import STRONG, Front, front_of, strongest, unbeaten

_SAMPLE = 1024  # points of a batch by which the strong ones are chosen
_MANY = 1024  # survivors of a batch at which they are chosen anew

State = dict[str, np.ndarray]
"""Of a reduction: arrays by name, ready to be saved."""

Rows = Mapping[str, np.ndarray]
"""Configurations that passed the screen: "index", the columns asked for, and the levels of axes as "level of NAME"."""


class Goal(NamedTuple):
    """A formula, and whether more of it is better."""

    expression: Expression
    maximize: bool

    def cost(self, columns: Mapping[str, Any]) -> Any:
        """What to minimise."""
        value = columns[self.expression.text]
        return -value if self.maximize else value


@cache
def _formula(text: str) -> Expression:
    return Expression(text)


@cache
def _one_goal(what: str, minimize: str | None, maximize: str | None) -> Goal:
    if (minimize is None) == (maximize is None):
        raise InputError(f"{what}: give either minimize or maximize")
    return Goal(_formula(minimize or maximize or ""), minimize is None)


class Reduction(ABC):
    """One thing to keep of a sweep."""

    @property
    @abstractmethod
    def expressions(self) -> tuple[Expression, ...]:
        """Formulas whose values it needs."""

    @property
    def axes(self) -> tuple[str, ...]:
        """Axes whose levels it needs."""
        return ()

    @abstractmethod
    def start(self, levels: Mapping[str, int]) -> State:
        """Of no configurations; `levels`: how many values each of `axes` has."""

    def threshold(self, state: State) -> Any:
        """What the device compares with, as arrays."""
        return None

    @abstractmethod
    def screen(
        self, columns: Mapping[str, jax.Array], feasible: jax.Array, threshold: Any
    ) -> tuple[jax.Array | None, Any]:
        """Which configurations may matter (None: none), and a summary of the batch."""

    @abstractmethod
    def absorb(self, state: State, rows: Rows, summary: Any) -> State:
        """The state after a batch."""

    @abstractmethod
    def merge(self, one: State, other: State) -> State:
        """The state of both."""

    def settled(self, state: State) -> State:
        """The state after a range, with nothing put off."""
        return state

    def finish(self, state: State, path: Path) -> State:
        """The state after a chunk, what need not be held having been written to files that begin with `path`."""
        return state


@dataclass(frozen=True)
class Pareto(Reduction):
    """The exact front of 2 to 5 goals.

    Arguments:
        minimize, maximize: formulas of metrics, numbers and quantities.
        capacity: points to hold; what does not fit is counted in `overflow`, and the front is then not exact.
    """

    minimize: tuple[str, ...] = ()
    maximize: tuple[str, ...] = ()
    capacity: int = 100_000

    def __post_init__(self):
        object.__setattr__(self, "minimize", tuple(self.minimize))
        object.__setattr__(self, "maximize", tuple(self.maximize))
        if not 2 <= len(self.goals) <= 5:
            raise InputError(f"pareto: {len(self.goals)} objectives are not possible; give 2 to 5")
        if self.capacity < 1:
            raise InputError(
                f"pareto: a capacity of {self.capacity} is not allowed; it must be at least 1"
            )

    @property
    def goals(self) -> tuple[Goal, ...]:
        """What is traded off, in order."""
        return (
            *(Goal(_formula(text), False) for text in self.minimize),
            *(Goal(_formula(text), True) for text in self.maximize),
        )

    @property
    def expressions(self) -> tuple[Expression, ...]:
        return tuple(goal.expression for goal in self.goals)

    def start(self, levels: Mapping[str, int]) -> State:
        front, count = Front.empty(len(self.goals)), np.zeros((), np.int64)
        strong = np.full((STRONG[0], len(self.goals)), np.inf, np.float32)
        waiting = {"waiting_indices": front.indices, "waiting_points": front.points}
        return {
            "indices": front.indices,
            "points": front.points,
            "overflow": count,
            "strong": strong,
            "batches": count,
            "known": count,
        } | waiting

    def threshold(self, state: State) -> Any:
        return state["strong"]

    def screen(
        self, columns: Mapping[str, jax.Array], feasible: jax.Array, threshold: Any
    ) -> tuple[jax.Array | None, Any]:
        costs = [goal.cost(columns) for goal in self.goals]
        stride = max(feasible.size // _SAMPLE, 1)
        sample = jnp.stack(
            [jnp.where(feasible[::stride], cost[::stride], jnp.inf) for cost in costs], 1
        )
        return feasible & unbeaten(costs, threshold), sample

    def absorb(self, state: State, rows: Rows, summary: Any) -> State:
        points = np.stack([goal.cost(rows) for goal in self.goals], 1).astype(np.float32)
        state = state | {
            "waiting_indices": np.concatenate([state["waiting_indices"], rows["index"]]),
            "waiting_points": np.concatenate([state["waiting_points"], points]),
            "batches": state["batches"] + 1,
        }
        if len(state["waiting_indices"]) > max(
            _MANY, len(state["indices"]) // 2
        ):  # sorting is by the front's length, however few are new
            state = self.settled(state)
        batches, size, strong = int(state["batches"]), len(state["indices"]), len(state["strong"])
        crowded, grown = len(points) > _MANY, size > 1.1 * state["known"]
        if crowded and not grown and strong < STRONG[-1]:
            strong = STRONG[STRONG.index(strong) + 1]
        elif batches & (batches - 1) and not (
            crowded and grown
        ):  # else now and then, and when they let many through
            return state
        sample = np.asarray(summary)
        state = self.settled(state)
        strongest_points = strongest(state["points"], sample[np.isfinite(sample).all(1)], strong)
        return state | {
            "strong": strongest_points,
            "known": np.asarray(len(state["indices"]), np.int64),
        }

    def settled(self, state: State) -> State:
        if not len(state["waiting_indices"]):
            return state
        front = front_of(
            *(
                np.concatenate([state[name], state[f"waiting_{name}"]])
                for name in ("indices", "points")
            )
        )
        excess = max(len(front.indices) - self.capacity, 0)
        if excess:
            kept = np.sort(np.argsort(front.indices)[: self.capacity])
            front = Front(front.indices[kept], front.points[kept])
        none = {"waiting_indices": front.indices[:0], "waiting_points": front.points[:0]}
        return (
            state
            | {
                "indices": front.indices,
                "points": front.points,
                "overflow": state["overflow"] + excess,
            }
            | none
        )

    def merge(self, one: State, other: State) -> State:
        waiting = {
            f"waiting_{name}": np.concatenate(
                [one[f"waiting_{name}"], other[name], other[f"waiting_{name}"]]
            )
            for name in ("indices", "points")
        }
        return self.settled(
            one | waiting | {name: one[name] + other[name] for name in ("overflow", "batches")}
        )


@dataclass(frozen=True)
class Top(Reduction):
    """The `count` best configurations by one goal, best first; of equal ones those of lower index.

    Arguments:
        minimize, maximize: a formula, one of them.
    """

    minimize: str | None = None
    maximize: str | None = None
    count: int = 10

    def __post_init__(self):
        _one_goal("top", self.minimize, self.maximize)
        if self.count < 1:
            raise InputError(f"top: a count of {self.count} is not allowed; it must be at least 1")

    @property
    def goal(self) -> Goal:
        """What makes one better than another."""
        return _one_goal("top", self.minimize, self.maximize)

    @property
    def expressions(self) -> tuple[Expression, ...]:
        return (self.goal.expression,)

    def start(self, levels: Mapping[str, int]) -> State:
        return {"indices": np.zeros(0, np.int64), "costs": np.zeros(0, np.float32)}

    def threshold(self, state: State) -> Any:
        return np.float32(state["costs"][-1] if len(state["costs"]) == self.count else np.inf)

    def screen(
        self, columns: Mapping[str, jax.Array], feasible: jax.Array, threshold: Any
    ) -> tuple[jax.Array | None, Any]:
        return feasible & (self.goal.cost(columns) <= threshold), None

    def absorb(self, state: State, rows: Rows, summary: Any) -> State:
        return self.merge(state, {"indices": rows["index"], "costs": self.goal.cost(rows)})

    def merge(self, one: State, other: State) -> State:
        indices = np.concatenate([one["indices"], other["indices"]])
        costs = np.concatenate([one["costs"], other["costs"]])
        order = np.lexsort((indices, costs))[: self.count]
        return {"indices": indices[order], "costs": costs[order]}


@dataclass(frozen=True)
class Best(Reduction):
    """The best configuration by one goal in each cell of a map over axes that are grids or choices: a phase diagram of what wins.

    Arguments:
        by: the names of the axes. minimize, maximize: a formula, one of them.
    """

    by: tuple[str, ...]
    minimize: str | None = None
    maximize: str | None = None

    def __post_init__(self):
        object.__setattr__(self, "by", tuple(self.by))
        if not self.by or len({*self.by}) < len(self.by):
            raise InputError(
                f"best: a map by {', '.join(self.by) or 'no axes'} is not possible; name each axis once, and at least one"
            )
        _one_goal("best", self.minimize, self.maximize)

    @property
    def goal(self) -> Goal:
        """What makes one better than another."""
        return _one_goal("best", self.minimize, self.maximize)

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
        if np.prod(shape, dtype=float) > 2**24:
            raise InputError(
                f"best: a map of {' x '.join(map(str, shape))} cells is too large; use fewer values, or fewer axes"
            )
        return {
            "indices": np.full(shape, -1, np.int64),
            "costs": np.full(shape, np.inf, np.float32),
        }

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

    def absorb(self, state: State, rows: Rows, summary: Any) -> State:
        if not len(rows["index"]):
            return state  # itself: its threshold need not go to the device again
        shape = state["costs"].shape
        cell = np.ravel_multi_index(
            tuple(rows[f"level of {name}"].astype(int) for name in self.by), shape
        )
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
        known = other["indices"] >= 0
        better = known & (
            (other["costs"] < one["costs"])
            | ((other["costs"] == one["costs"]) & (other["indices"] < one["indices"]))
        )
        better |= known & (one["indices"] < 0)
        return {name: np.where(better, other[name], one[name]) for name in ("indices", "costs")}


@dataclass(frozen=True)
class Histogram(Reduction):
    """Counts of the feasible configurations in `bins` equal steps of a formula (of its logarithm, if `logarithmic`) from `low` to `high`.

    Arguments:
        of: the formula.

    A bin has its lower edge, not its upper one. Two more count what lies below `low`, and what is at `high` or above: nothing is left out.
    """

    of: str
    low: float
    high: float
    bins: int = 100
    logarithmic: bool = False

    def __post_init__(self):
        _formula(self.of)
        if (
            not -np.inf < self.low < self.high < np.inf
            or self.bins < 1
            or (self.logarithmic and self.low <= 0)
        ):
            raise InputError(
                f"histogram: {self.bins} bins from {self.low:g} to {self.high:g} are not possible; "
                "give at least one, and finite bounds, the lower first, above 0 if logarithmic"
            )

    @property
    def expressions(self) -> tuple[Expression, ...]:
        return (_formula(self.of),)

    @property
    def edges(self) -> np.ndarray:
        """The bounds of the bins."""
        return (np.geomspace if self.logarithmic else np.linspace)(
            self.low, self.high, self.bins + 1
        )

    def start(self, levels: Mapping[str, int]) -> State:
        return {"counts": np.zeros(self.bins + 2, np.int64)}

    def screen(
        self, columns: Mapping[str, jax.Array], feasible: jax.Array, threshold: Any
    ) -> tuple[jax.Array | None, Any]:
        inside = jnp.searchsorted(
            jnp.asarray(self.edges, jnp.float32), columns[self.of], side="right"
        )
        return None, jax.ops.segment_sum(feasible.astype(jnp.int32), inside, self.bins + 2)

    def absorb(self, state: State, rows: Rows, summary: Any) -> State:
        return {"counts": state["counts"] + np.asarray(summary, np.int64)}

    def merge(self, one: State, other: State) -> State:
        return {"counts": one["counts"] + other["counts"]}
