"""What a sweep found: tables of configurations with all their metrics, maps and histograms."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from diffgenz.core.errors import InputError, unknown
from diffgenz.core.files import written_aside
from diffgenz.studies.sweep.engine import Outcome, Tally
from diffgenz.studies.sweep.program import metrics_at
from diffgenz.studies.sweep.reductions.best import Best
from diffgenz.studies.sweep.reductions.histogram import Histogram
from diffgenz.studies.sweep.reductions.pareto import Pareto
from diffgenz.studies.sweep.reductions.reduction import Reduction
from diffgenz.studies.sweep.reductions.top import Top
from diffgenz.studies.sweep.space import Space

Table = dict[str, list[Any]]
"""Columns by name: index, what the axes have, quantities, metrics."""


class Findings:
    """What a sweep found.

    Arguments:
        space, reductions: of the sweep. outcome: what it came to.
    """

    def __init__(
        self,
        space: Space,
        reductions: dict[str, Reduction],
        outcome: Outcome,
    ):
        self.space, self.reductions, self.outcome = space, reductions, outcome

    @property
    def tally(self) -> Tally:
        """Configurations tried, legal, broken and feasible."""
        return self.outcome.tally

    def state(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of a reduction.

        Raises:
            InputError: there is none of that name.
        """
        if name not in self.reductions:
            raise unknown("reduction", name, self.reductions)
        return self.outcome.states[list(self.reductions).index(name)]

    def indices(self, name: str) -> list[int]:
        """The configurations that a reduction kept: a front by its first goal, the best first, a map's in order of its cells.

        Raises:
            InputError: an unknown name, or a histogram or rows, which keep none here.
        """
        state = self.state(name)
        if "indices" not in state and "counts" not in state:
            raise InputError(f"reduction: the rows of {name} are in {name}-*.parquet; read those")
        if isinstance(self.reductions[name], Histogram):
            raise InputError(
                f"reduction: {name} is a histogram, which keeps no configurations; use counts"
            )
        found = state["indices"].ravel()
        return [int(index) for index in found[found >= 0]]

    def goals(self, name: str) -> dict[str, np.ndarray]:
        """The values of a reduction's goals at each of its `indices`, by the goal's formula; none for what has no goals."""
        reduction, state = self.reductions[name], self.state(name)
        if isinstance(reduction, Pareto):
            costs = {goal: state["points"][:, place] for place, goal in enumerate(reduction.goals)}
        elif isinstance(reduction, Top | Best):
            costs = {reduction.goal: state["costs"].ravel()[state["indices"].ravel() >= 0]}
        else:
            costs = {}
        return {
            goal.expression.text: np.asarray(-cost if goal.maximize else cost, float)
            for goal, cost in costs.items()
        }

    def overflow(self, name: str) -> int:
        """Points of a front that did not fit its capacity; where there are any, the front is not exact."""
        return int(self.state(name).get("overflow", 0))

    def counts(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The edges (bins + 1) of a histogram and its counts (bins + 2): below, in each bin, above."""
        reduction = self.reductions.get(name)
        if not isinstance(reduction, Histogram):
            raise InputError(f"reduction: {name!r} is not a histogram")
        return reduction.edges, self.state(name)["counts"]

    def quantile(self, name: str, share: float) -> float:
        """The value below which `share` of the feasible configurations lie, to within a bin of the histogram `name`; NaN outside its bins."""
        edges, counts = self.counts(name)
        if not 0 <= share <= 1:
            raise InputError(f"share: {share:g} is not allowed; it must be between 0 and 1")
        reached = np.cumsum(counts)[:-1] / max(counts.sum(), 1)
        if not reached[0] <= share <= reached[-1]:
            return float("nan")
        return float(np.interp(share, reached, edges))

    def table(self, name: str, count: int | None = None) -> Table:
        """The configurations that a reduction kept, the first `count` of them, with what the axes have and every metric."""
        indices = self.indices(name)[:count]
        if not indices:
            return {column: [] for column in ("index", *self.space.axes)}
        return (
            {"index": indices} | self.space.coordinates(indices) | metrics_at(self.space, indices)
        )

    def map(self, name: str, value: str | None = None) -> np.ndarray:
        """A `Best` map: of each cell the value of its goal (NaN where nothing is feasible), or what the best has at the axis `value`."""
        reduction = self.reductions.get(name)
        if not isinstance(reduction, Best):
            raise InputError(f"reduction: {name!r} is not a map; add a Best of that name")
        state = self.state(name)
        if value is None:
            return np.where(
                state["indices"] >= 0,
                -state["costs"] if reduction.goal.maximize else state["costs"],
                np.nan,
            )
        found = self.space.coordinates(self.indices(name))
        if value not in found:
            raise unknown("axis", value, found)
        result = np.full(state["indices"].shape, None, object)
        result[state["indices"] >= 0] = np.asarray(found[value], object)
        return result

    def to_pandas(self, name: str) -> Any:
        """`table` as a pandas DataFrame (needs diffgenz[tables])."""
        return _imported("pandas").DataFrame(self.table(name))

    def to_xarray(self, name: str) -> Any:
        """A `Best` map as an xarray Dataset over its axes: the goal, and what the best has at every other axis (needs diffgenz[tables])."""
        xarray = _imported("xarray")
        goal = self.map(name)
        reduction = self.reductions[name]
        assert isinstance(reduction, Best)
        others = [axis for axis in self.space.axes if axis not in reduction.by]
        fields = {reduction.goal.expression.text: (reduction.by, goal)} | {
            axis: (reduction.by, self.map(name, axis)) for axis in others
        }
        return xarray.Dataset(
            fields, coords={axis: self.space.level_values(axis) for axis in reduction.by}
        )

    def write_table(self, name: str, path: Path, count: int | None = None) -> None:
        """Save `table`, the first `count` rows, as .csv or .parquet (needs diffgenz[tables]), aside first.

        Raises:
            InputError: another kind of file, or one that cannot be written.
        """
        table = self.table(name, count)
        if path.suffix not in (".csv", ".parquet"):
            raise InputError(f"out: {path.name!r} is of no known kind; use .csv or .parquet")
        with written_aside(path, "out") as aside:
            if path.suffix == ".csv":
                with aside.open("w", newline="") as file:
                    writer = csv.writer(file, lineterminator="\n")
                    writer.writerow(table)
                    writer.writerows(zip(*table.values(), strict=True))
            else:
                arrow = _imported("pyarrow")
                _imported("pyarrow.parquet").write_table(arrow.table(table), aside)


def _imported(module: str) -> Any:
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError:
        raise InputError(
            f"{module}: is not installed; install it with: pip install 'diffgenz[tables]'"
        ) from None
