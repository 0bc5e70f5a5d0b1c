"""How often a formula has which value."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.studies.expressions import Expression
from diffgenz.studies.sweep.reductions.reduction import Passed, Reduction, State, formula


@dataclass(frozen=True)
class Histogram(Reduction):
    """How many feasible configurations have a formula's value in each of several bins.

    A bin includes its lower edge, but not its upper one. Two more count what lies below `low`, and
    what is at `high` or above: nothing is left out.

    Arguments:
        of: the formula.
        low: the lower edge of the first bin.
        high: the upper edge of the last bin.
        bins: how many there are from `low` to `high`.
        logarithmic: whether they are equal steps of the logarithm rather than of the value.

    Raises:
        InputError: no bins, bounds that are not finite or not in order, a logarithm of what is not
            above 0, or no formula.
    """

    of: str
    low: float
    high: float
    bins: int = 100
    logarithmic: bool = False

    def __post_init__(self):
        formula(self.of)
        in_order = -np.inf < self.low < self.high < np.inf
        if not in_order or self.bins < 1 or (self.logarithmic and self.low <= 0):
            raise InputError(
                f"histogram: {self.bins} bins from {self.low:g} to {self.high:g} are not possible; "
                "give at least one, and finite bounds, the lower first, above 0 if logarithmic"
            )

    @property
    def expressions(self) -> tuple[Expression, ...]:
        return (formula(self.of),)

    @property
    def edges(self) -> np.ndarray:
        """The bounds of the bins, shape (bins + 1,)."""
        spaced = np.geomspace if self.logarithmic else np.linspace
        return spaced(self.low, self.high, self.bins + 1)

    def start(self, levels: Mapping[str, int]) -> State:
        return {"counts": np.zeros(self.bins + 2, np.int64)}

    def screen(
        self, columns: Mapping[str, jax.Array], feasible: jax.Array, threshold: Any
    ) -> tuple[jax.Array | None, Any]:
        edges = jnp.asarray(self.edges, jnp.float32)
        inside = jnp.searchsorted(edges, columns[self.of], side="right")
        return None, jax.ops.segment_sum(feasible.astype(jnp.int32), inside, self.bins + 2)

    def absorb(self, state: State, rows: Passed, summary: Any) -> State:
        return {"counts": state["counts"] + np.asarray(summary, np.int64)}

    def merge(self, one: State, other: State) -> State:
        return {"counts": one["counts"] + other["counts"]}
