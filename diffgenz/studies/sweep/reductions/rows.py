"""Every feasible configuration, written out: a Parquet file for each chunk (pip install "diffgenz[tables]")."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.core.files import written_aside
from diffgenz.studies.expressions import Expression
from diffgenz.studies.sweep.reductions.reduction import Reduction, State
from diffgenz.studies.sweep.reductions.reduction import Rows as Batch


@dataclass(frozen=True)
class Rows(Reduction):
    """Every feasible configuration: its index, formulas of its numbers and metrics, and the levels of choices.

    Arguments:
        of: formulas, a column each. choices: axes whose options are written, by number of the option.

    They need a folder (`out`) and go to NAME-CHUNK.parquet in it; a chunk that is done again overwrites its file.
    """

    of: tuple[str, ...]
    choices: tuple[str, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "of", tuple(self.of))
        object.__setattr__(self, "choices", tuple(self.choices))
        if not self.of:
            raise InputError("rows: no columns; give at least one formula")

    @property
    def expressions(self) -> tuple[Expression, ...]:
        return tuple(Expression(text) for text in self.of)

    @property
    def axes(self) -> tuple[str, ...]:
        return self.choices

    @property
    def columns(self) -> tuple[str, ...]:
        """What a file has, beside the index."""
        return (*self.of, *(f"level of {name}" for name in self.choices))

    def start(self, levels: Mapping[str, int]) -> State:
        return {"count": np.zeros((), np.int64), "index": np.zeros(0, np.int64)} | {
            name: np.zeros(0, np.float32) for name in self.columns
        }

    def screen(
        self, columns: Mapping[str, jax.Array], feasible: jax.Array, threshold: Any
    ) -> tuple[jax.Array | None, Any]:
        return feasible, None

    def absorb(self, state: State, rows: Batch, summary: Any) -> State:
        return self.merge(state, {**rows, "count": np.asarray(len(rows["index"]))})

    def merge(self, one: State, other: State) -> State:
        joined = {
            name: np.concatenate([one[name], other[name]]) for name in ("index", *self.columns)
        }
        return joined | {"count": one["count"] + other["count"]}

    def finish(self, state: State, path: Path) -> State:
        """Write the rows of a chunk to `path`.parquet, aside first, and forget them."""
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError:
            raise InputError(
                "rows: pyarrow is not installed; install it with: pip install 'diffgenz[tables]'"
            ) from None
        order = np.argsort(state["index"], kind="stable")
        with written_aside(
            path.with_name(f"{path.name}.parquet"), "rows", "make room, then resume"
        ) as aside:
            parquet.write_table(
                pyarrow.table({name: state[name][order] for name in ("index", *self.columns)}),
                aside,
            )
        return {name: array if name == "count" else array[:0] for name, array in state.items()}
