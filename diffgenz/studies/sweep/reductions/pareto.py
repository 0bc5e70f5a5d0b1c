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
from diffgenz.studies.sweep.reductions.reduction import Goal, Passed, Reduction, State, formula

_SAMPLE = 1024  # points of a batch by which the strong ones are chosen
_MANY = 1024  # survivors of a batch at which they are chosen anew
_GROWTH = 1.1  # of a front, beyond which its strong points are chosen anew


@dataclass(frozen=True)
class Pareto(Reduction):
    """The exact front of 2 to 5 goals.

    Formulas are of metrics, numbers and quantities.

    Arguments:
        minimize: formulas of which less is better.
        maximize: formulas of which more is better.
        capacity: points to hold. What does not fit is counted in `overflow`, and the front is then
            not exact.

    Raises:
        InputError: less than 2 or more than 5 goals, no formula, or a capacity below 1.
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
        front, none = Front.empty(len(self.goals)), np.zeros((), np.int64)
        return {
            "indices": front.indices,
            "points": front.points,
            "overflow": none,
            "strong": np.full((STRONG[0], len(self.goals)), np.inf, np.float32),
            "batches": none,
            "known": none,
            "waiting_indices": front.indices,
            "waiting_points": front.points,
        }

    def threshold(self, state: State) -> Any:
        return state["strong"]

    def screen(
        self, columns: Mapping[str, jax.Array], feasible: jax.Array, threshold: Any
    ) -> tuple[jax.Array | None, Any]:
        costs = [goal.cost(columns) for goal in self.goals]
        stride = max(feasible.size // _SAMPLE, 1)
        there = feasible[::stride]
        sample = [jnp.where(there, cost[::stride], jnp.inf) for cost in costs]
        return feasible & unbeaten(costs, threshold), jnp.stack(sample, 1)

    def absorb(self, state: State, rows: Passed, summary: Any) -> State:
        points = np.stack([goal.cost(rows) for goal in self.goals], 1).astype(np.float32)
        state = state | {
            "waiting_indices": np.concatenate([state["waiting_indices"], rows["index"]]),
            "waiting_points": np.concatenate([state["waiting_points"], points]),
            "batches": state["batches"] + 1,
        }
        # Settling sorts the whole front, however few points are new.
        if len(state["waiting_indices"]) > max(_MANY, len(state["indices"]) // 2):
            state = self.settled(state)
        return self._strengthened(state, len(points), np.asarray(summary))

    def _strengthened(self, state: State, passed: int, sample: np.ndarray) -> State:
        """The state with its strong points chosen anew, where that is worth it.

        They are chosen after 1, 2, 4, 8, ... batches, and whenever they let many points pass: anew
        where the front has grown since, else more of them.

        Arguments:
            state: with the batch.
            passed: how many points of the batch the strong ones let pass.
            sample: of the batch, infinite where a point is not feasible.
        """
        batches, size, strong = int(state["batches"]), len(state["indices"]), len(state["strong"])
        crowded, grown = passed > _MANY, size > _GROWTH * state["known"]
        is_power_of_two = not batches & (batches - 1)
        if crowded and not grown and strong < STRONG[-1]:
            strong = STRONG[STRONG.index(strong) + 1]
        elif not is_power_of_two and not (crowded and grown):
            return state
        state = self.settled(state)
        points = strongest(state["points"], sample[np.isfinite(sample).all(1)], strong)
        known = np.asarray(len(state["indices"]), np.int64)
        return state | {"strong": points, "known": known}

    def settled(self, state: State) -> State:
        if not len(state["waiting_indices"]):
            return state
        indices, points = (
            np.concatenate([state[name], state[f"waiting_{name}"]])
            for name in ("indices", "points")
        )
        front = front_of(indices, points)
        excess = max(len(front.indices) - self.capacity, 0)
        if excess:
            kept = np.sort(np.argsort(front.indices)[: self.capacity])
            front = Front(front.indices[kept], front.points[kept])
        return state | {
            "indices": front.indices,
            "points": front.points,
            "overflow": state["overflow"] + excess,
            "waiting_indices": front.indices[:0],
            "waiting_points": front.points[:0],
        }

    def merge(self, one: State, other: State) -> State:
        both = {name: one[name] + other[name] for name in ("overflow", "batches")}
        for name in ("indices", "points"):
            parts = [one[f"waiting_{name}"], other[name], other[f"waiting_{name}"]]
            both[f"waiting_{name}"] = np.concatenate(parts)
        return self.settled(one | both)
