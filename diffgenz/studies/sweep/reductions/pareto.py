"""The exact Pareto front of two or more goals."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.studies.expressions import Expression
from diffgenz.studies.pareto import STRONG, Front, front_of, strongest, unbeaten
from diffgenz.studies.sweep.reductions.reduction import (
    Goal,
    Reduction,
    Rows,
    State,
    formula,
)

_SAMPLE = 1024  # points of a batch by which the strong ones are chosen
_MANY = 1024  # survivors of a batch at which they are chosen anew


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
            *(Goal(formula(text), False) for text in self.minimize),
            *(Goal(formula(text), True) for text in self.maximize),
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
