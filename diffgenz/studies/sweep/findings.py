"""What a sweep found: scenarios, tables of configurations with all metrics, maps, histograms."""

import csv
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from diffgenz.core.errors import InputError, unknown
from diffgenz.core.files import written_aside
from diffgenz.scenario.mix import Question
from diffgenz.studies.sweep.engine import Outcome, Tally
from diffgenz.studies.sweep.program import metrics_at
from diffgenz.studies.sweep.reductions.best import Best
from diffgenz.studies.sweep.reductions.histogram import Histogram
from diffgenz.studies.sweep.reductions.pareto import Pareto
from diffgenz.studies.sweep.reductions.reduction import Reduction
from diffgenz.studies.sweep.reductions.rows import Rows
from diffgenz.studies.sweep.reductions.top import Top
from diffgenz.studies.sweep.space import Space

Table = dict[str, list[Any]]
"""Columns by name: index, what the axes have, quantities, metrics."""


class Findings:
    """What a sweep found.

    Arguments:
        space: what was swept.
        reductions: what was kept of it, by name.
        outcome: what it came to.
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
        """How many configurations were tried, legal, broken and feasible."""
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
        """The configurations that a reduction kept.

        A front is in the order of its first goal, the best few begin with the best, and a map is in
        the order of its cells.

        Raises:
            InputError: an unknown name, or a histogram or rows, which keep none here.
        """
        state = self.state(name)
        if isinstance(self.reductions[name], Rows):
            raise InputError(f"reduction: the rows of {name} are in {name}-*.parquet; read those")
        if isinstance(self.reductions[name], Histogram):
            raise InputError(
                f"reduction: {name} is a histogram, which keeps no configurations; use counts"
            )
        found = state["indices"].ravel()
        return [int(index) for index in found[found >= 0]]

    def scenarios(self, name: str, count: int | None = None) -> list[Question]:
        """The configurations that a reduction kept, as scenarios that go back into `estimate`.

        Those of a mix are mixes, whose `scenarios` do.

        Arguments:
            name: the reduction.
            count: how many of its `indices`; None: all.

        Raises:
            InputError: as of `indices`.
        """
        return [self.space.configuration(index) for index in self.indices(name)[:count]]

    def goals(self, name: str) -> dict[str, np.ndarray]:
        """The values of a reduction's goals at each of its `indices`, by the goal's formula.

        Empty for a reduction without goals.
        """
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

    def order(self, name: str, sort: str | None = None) -> np.ndarray:
        """The places of a reduction's `indices`, the best first.

        Arguments:
            name: the reduction.
            sort: the formula of the goal that says which is best; None: as in `indices`.

        Raises:
            InputError: no goal of the reduction has that formula.
        """
        if sort is None:
            return np.arange(len(self.indices(name)))
        goals, reduction = self.goals(name), self.reductions[name]
        if sort not in goals:
            raise unknown("sort", sort, goals)
        if not isinstance(reduction, Pareto):
            return np.arange(len(goals[sort]))  # in the order of its only goal, or of its cells
        values = goals[sort]
        return np.argsort(-values if sort in reduction.maximize else values, kind="stable")

    def overflow(self, name: str) -> int:
        """How many points of a front did not fit its capacity; unless 0, it is not exact."""
        return int(self.state(name).get("overflow", 0))

    def counts(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The edges of a histogram, shape (bins + 1,), and its counts, shape (bins + 2,).

        The first count is of what lies below all bins, the last of what lies above them.

        Raises:
            InputError: there is no histogram of that name.
        """
        reduction = self.reductions.get(name)
        if not isinstance(reduction, Histogram):
            raise InputError(f"reduction: {name!r} is not a histogram")
        return reduction.edges, self.state(name)["counts"]

    def quantile(self, name: str, share: float) -> float:
        """The value below which a share of the feasible configurations lies, to within a bin.

        It is NaN where it lies outside the bins.

        Arguments:
            name: of a histogram.
            share: in [0, 1].

        Raises:
            InputError: there is no histogram of that name, or another share.
        """
        edges, counts = self.counts(name)
        if not 0 <= share <= 1:
            raise InputError(f"share: {share:g} is not allowed; it must be between 0 and 1")
        reached = np.cumsum(counts)[:-1] / max(counts.sum(), 1)
        if not reached[0] <= share <= reached[-1]:
            return float("nan")
        return float(np.interp(share, reached, edges))

    def table(self, name: str, count: int | None = None, sort: str | None = None) -> Table:
        """The configurations that a reduction kept, with what the axes have and every metric.

        Arguments:
            name: the reduction.
            count: how many of them; None: all.
            sort: the goal that says which come first; None: in the order of `indices`.

        Raises:
            InputError: as of `indices` and `order`.
        """
        kept = self.indices(name)
        indices = [kept[place] for place in self.order(name, sort)[:count]]
        axes, metrics = self.space.coordinates(indices), metrics_at(self.space, indices)
        return {"index": indices} | axes | metrics

    def map(self, name: str, value: str | None = None) -> np.ndarray:
        """A `Best` map, one entry for each cell.

        Arguments:
            name: of the map.
            value: the axis whose value at the best of each cell is asked for (None where nothing
                in the cell is feasible). Default: the value of the goal (NaN where nothing is).

        Raises:
            InputError: there is no map of that name, or no such axis.
        """
        reduction = self._map(name)
        state = self.state(name)
        there = state["indices"] >= 0
        if value is None:
            goal = -state["costs"] if reduction.goal.maximize else state["costs"]
            return np.where(there, goal, np.nan)
        found = self.space.coordinates(self.indices(name))
        if value not in found:
            raise unknown("axis", value, found)
        result = np.full(there.shape, None, object)
        result[there] = np.asarray(found[value], object)
        return result

    def _map(self, name: str) -> Best:
        reduction = self.reductions.get(name)
        if not isinstance(reduction, Best):
            raise InputError(f"reduction: {name!r} is not a map; add a Best of that name")
        return reduction

    def to_pandas(self, name: str) -> Any:
        """The `table` of a reduction as a pandas DataFrame (needs diffgenz[tables])."""
        return _imported("pandas").DataFrame(self.table(name))

    def to_xarray(self, name: str) -> Any:
        """A `Best` map as an xarray Dataset over its axes (needs diffgenz[tables]).

        It has the goal, and what the best of each cell has at every other axis.
        """
        xarray = _imported("xarray")
        reduction = self._map(name)
        fields = {reduction.goal.expression.text: (reduction.by, self.map(name))}
        for axis in self.space.axes:
            if axis not in reduction.by:
                fields[axis] = (reduction.by, self.map(name, axis))
        sides = {axis: self.space.level_values(axis) for axis in reduction.by}
        return xarray.Dataset(fields, coords=sides)

    def write_table(
        self, name: str, path: Path, count: int | None = None, sort: str | None = None
    ) -> None:
        """Save the `table` of a reduction, aside first.

        Arguments:
            name: the reduction.
            path: a .csv file, or a .parquet file (needs diffgenz[tables]).
            count: how many rows; None: all.
            sort: the goal that says which come first; None: in the order of `indices`.

        Raises:
            InputError: another kind of file, or one that cannot be written.
        """
        table = self.table(name, count, sort)
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
    """A module that only some people have installed."""
    try:
        return import_module(module)
    except ImportError:
        raise InputError(
            f"{module}: is not installed; install it with: pip install 'diffgenz[tables]'"
        ) from None
