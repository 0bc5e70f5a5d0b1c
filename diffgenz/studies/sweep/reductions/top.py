"""The best few configurations by one goal."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.studies.expressions import Expression
from diffgenz.studies.sweep.reductions.reduction import Goal, Passed, Reduction, State, one_goal


@dataclass(frozen=True)
class Top(Reduction):
    """The best few configurations by one goal, best first; of equal ones those of lower index.

    Arguments:
        minimize: the goal's formula, or None where there is something to maximise.
        maximize: the goal's formula, or None where there is something to minimise.
        count: how many, at least 1.

    Raises:
        InputError: not exactly one goal, no formula, or a count below 1.
    """

    minimize: str | None = None
    maximize: str | None = None
    count: int = 10

    def __post_init__(self):
        one_goal("top", self.minimize, self.maximize)
        if self.count < 1:
            raise InputError(f"top: a count of {self.count} is not allowed; it must be at least 1")

    @property
    def goal(self) -> Goal:
        """What makes one better than another."""
        return one_goal("top", self.minimize, self.maximize)

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

    def absorb(self, state: State, rows: Passed, summary: Any) -> State:
        return self.merge(state, {"indices": rows["index"], "costs": self.goal.cost(rows)})

    def merge(self, one: State, other: State) -> State:
        indices = np.concatenate([one["indices"], other["indices"]])
        costs = np.concatenate([one["costs"], other["costs"]])
        order = np.lexsort((indices, costs))[: self.count]
        return {"indices": indices[order], "costs": costs[order]}
