"""Every feasible configuration, in a Parquet file for each chunk.

It needs pyarrow (pip install "diffgenz[tables]").
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.core.files import written_aside
from diffgenz.studies.expressions import Expression
from diffgenz.studies.sweep.reductions.reduction import Passed, Reduction, State, formula


@dataclass(frozen=True)
class Rows(Reduction):
    """Every feasible configuration: its index, formulas of its numbers and metrics, and choices.

    They need a folder (`out`) and go to NAME-CHUNK.parquet in it; a chunk that is done again
    overwrites its file.

    Arguments:
        of: formulas, a column each.
        choices: axes whose options are written, by number of the option.

    Raises:
        InputError: no formulas.
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
        return tuple(formula(text) for text in self.of)

    @property
    def axes(self) -> tuple[str, ...]:
        return self.choices

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a file, except the index."""
        return (*self.of, *(f"level of {name}" for name in self.choices))

    def start(self, levels: Mapping[str, int]) -> State:
        columns = {name: np.zeros(0, np.float32) for name in self.columns}
        return {"count": np.zeros((), np.int64), "index": np.zeros(0, np.int64)} | columns

    def screen(
        self, columns: Mapping[str, jax.Array], feasible: jax.Array, threshold: Any
    ) -> tuple[jax.Array | None, Any]:
        return feasible, None

    def absorb(self, state: State, rows: Passed, summary: Any) -> State:
        return self.merge(state, {**rows, "count": np.asarray(len(rows["index"]))})

    def merge(self, one: State, other: State) -> State:
        names = ("index", *self.columns)
        joined = {name: np.concatenate([one[name], other[name]]) for name in names}
        return joined | {"count": one["count"] + other["count"]}

    def finish(self, state: State, path: Path) -> State:
        """The state without the rows of a chunk, which are written to `path`.parquet, aside first.

        Raises:
            InputError: pyarrow is not installed, or the file cannot be written.
        """
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError:
            raise InputError(
                "rows: pyarrow is not installed; install it with: pip install 'diffgenz[tables]'"
            ) from None
        order = np.argsort(state["index"], kind="stable")
        table = {name: state[name][order] for name in ("index", *self.columns)}
        place = path.with_name(f"{path.name}.parquet")
        with written_aside(place, "rows", "make room, then resume") as aside:
            parquet.write_table(pyarrow.table(table), aside)
        return {name: array if name == "count" else array[:0] for name, array in state.items()}
