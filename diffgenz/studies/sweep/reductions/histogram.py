"""How often a formula has which value."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.studies.expressions import Expression
from diffgenz.studies.sweep.reductions.reduction import (
    Reduction,
    Rows,
    State,
    formula,
)


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
        formula(self.of)
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
        return (formula(self.of),)

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
