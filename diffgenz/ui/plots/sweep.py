"""Pictures of a sweep: fronts, parallel coordinates, maps of what wins, histograms."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.studies.sweep.findings import Findings
from diffgenz.studies.sweep.reductions.best import Best
from diffgenz.studies.sweep.reductions.histogram import Histogram
from diffgenz.studies.sweep.reductions.pareto import Pareto
from diffgenz.ui.labels import shown
from diffgenz.ui.plots.figure import figure_for, save_figure
from diffgenz.ui.tables import number

_COLOURS = 11
"""Winners that a map tells apart; the rarer ones are one more."""

_LINES = 100
"""Configurations that parallel coordinates draw, evenly through the front."""


def plot(findings: Findings, name: str, path: Path, value: str | None = None) -> None:
    """Draw what a reduction kept: a front by its first three goals, a map, or a histogram.

    Arguments:
        findings: of a sweep.
        name: of the reduction.
        path: of the picture, .png, .svg or .pdf.
        value: of a map: an axis, to draw what the best configuration of each cell has there. None:
            the goal's value.

    Raises:
        InputError: a kind of reduction that has no picture; a front without points; matplotlib is
            not installed.
    """
    reduction = findings.reductions.get(name)
    if isinstance(reduction, Pareto):
        _front(findings, name, path)
    elif isinstance(reduction, Best):
        _map(findings, name, path, value)
    elif isinstance(reduction, Histogram):
        _histogram(findings, name, path)
    else:
        raise InputError(
            f"plot: {name!r} is neither a front, a map nor a histogram; choose one of those, or "
            "draw parallel coordinates"
        )


def parallel_plot(findings: Findings, name: str, path: Path) -> None:
    """Draw the configurations that a reduction kept as lines across axes and goals.

    A line's colour is its first goal.

    Arguments:
        findings: of a sweep.
        name: of the reduction.
        path: of the picture, .png, .svg or .pdf.

    Raises:
        InputError: a reduction that keeps no configurations, or has kept none; matplotlib is not
            installed.
    """
    table = findings.table(name)
    if not table["index"]:
        raise InputError(f"plot: {name} kept no configurations; loosen the constraints")
    goals = findings.goals(name)
    columns = {axis: table[axis] for axis in findings.space.axes} | {
        text: values.tolist() for text, values in goals.items()
    }
    columns = {label: column for label, column in columns.items() if len(set(column)) > 1}
    count = len(table["index"])
    picked = np.unique(np.linspace(0, count - 1, min(count, _LINES)).astype(int))
    figure = figure_for(path)
    figure.set_size_inches(max(8, 1.7 * len(columns) + 1), 5)
    axes = figure.subplots()
    heights = np.array(
        [
            _heights(axes, place, _shown(findings, axis)[1], column)
            for place, (axis, column) in enumerate(columns.items())
        ]
    ).reshape(len(columns), count)
    first, shades = (
        next(iter(goals.items())) if goals else ("index", np.asarray(table["index"], float))
    )
    label, factor = _shown(findings, first)
    scale = _colours(shades * factor)
    for row in picked:
        axes.plot(
            range(len(columns)),
            heights[:, row],
            color=scale.to_rgba(shades[row] * factor),
            alpha=0.5,
            lw=1,
        )
    axes.set(xlim=(-0.1, len(columns) - 0.9 + 0.35), ylim=(-0.04, 1.04), yticks=[])
    axes.set_xticks(
        range(len(columns)),
        [_shown(findings, name)[0].replace(", ", "\n") for name in columns],
        fontsize=8,
    )
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    figure.colorbar(scale, ax=axes, label=label)
    drawn = f"{len(picked):,} of " if len(picked) < count else ""
    axes.set_title(f"{name}: {drawn}{count:,} configurations")
    save_figure(figure, path, dots_per_inch=90)


def _shown(findings: Findings, name: str) -> tuple[str, float]:
    """The label and the factor of a column."""
    return shown(name, findings.space.scenario, findings.space.quantities)


def _heights(axes: Any, place: int, factor: float, column: list[Any]) -> np.ndarray:
    """Draw one upright axis with its ends.

    Returns:
        Where on it, from 0 to 1, each configuration lies.
    """
    axes.axvline(place, color="0.6", lw=0.8, zorder=0)
    if isinstance(column[0], str):
        labels = list(dict.fromkeys(column))
        spread = max(len(labels) - 1, 1)
        for level, label in enumerate(labels if len(labels) <= 12 else []):
            axes.text(
                place + 0.03, level / spread, label, fontsize=7, va="center", bbox=_BACKGROUND
            )
        return np.array([labels.index(entry) / spread for entry in column])
    numbers = np.asarray(column, float) * factor
    low, high = numbers.min(), numbers.max()
    moved = np.log(numbers) if _wide(numbers) else numbers
    for height in (0, 0.5, 1):
        between = moved.min() + height * (moved.max() - moved.min())
        text = float(np.exp(between)) if _wide(numbers) else float(between)
        text = float(low) if height == 0 else float(high) if height == 1 else text
        axes.text(
            place + 0.03, height, number(float(text)), fontsize=7, va="center", bbox=_BACKGROUND
        )
    return (moved - moved.min()) / (moved.max() - moved.min())


_BACKGROUND = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1}


def _front(findings: Findings, name: str, path: Path) -> None:
    goals = {
        text: values * _shown(findings, text)[1] for text, values in findings.goals(name).items()
    }
    first, second, *others = goals
    if not len(goals[first]):
        raise InputError(f"plot: {name} has no points; loosen the constraints")
    figure = figure_for(path)
    axes = figure.subplots()
    if others:
        scale = _colours(goals[others[0]])
        order = np.argsort(goals[others[0]])
        axes.scatter(
            goals[first][order],
            goals[second][order],
            c=scale.to_rgba(goals[others[0]][order]),
            s=10,
        )
        figure.colorbar(scale, ax=axes, label=_shown(findings, others[0])[0])
    else:
        axes.plot(goals[first], goals[second], "o-", ms=4)
    for text, axis, set_scale in (
        (first, axes.xaxis, axes.set_xscale),
        (second, axes.yaxis, axes.set_yscale),
    ):
        if _wide(goals[text]):
            set_scale("log")
            _plain_ticks(axis, goals[text])
    more = f"; {len(others) - 1} more goals are not shown" if len(others) > 1 else ""
    inexact = f"; {findings.overflow(name):,} more did not fit" if findings.overflow(name) else ""
    axes.set(
        xlabel=_shown(findings, first)[0],
        ylabel=_shown(findings, second)[0],
        title=f"{name}: Pareto front of {len(goals[first]):,}{inexact}{more}",
    )
    axes.grid(alpha=0.3, which="both")
    save_figure(figure, path)


def _map(findings: Findings, name: str, path: Path, value: str | None) -> None:
    reduction = findings.reductions[name]
    assert isinstance(reduction, Best)
    if len(reduction.by) != 2:
        raise InputError(
            f"plot: {name} is a map over {len(reduction.by)} axes; only one over two can be drawn"
        )
    cells = findings.map(name, value)
    figure = figure_for(path)
    axes = figure.subplots()
    axes.set_facecolor("0.85")
    sides = [
        _side(findings, axis, kind)
        for axis, kind in zip(reduction.by, (axes.xaxis, axes.yaxis), strict=True)
    ]
    known = [cell for cell in cells.ravel() if cell is not None and cell == cell]
    formula = reduction.goal.expression.text
    goal = f"{'largest' if reduction.goal.maximize else 'smallest'} {_shown(findings, formula)[0]}"
    if value is not None and (
        any(isinstance(cell, str) for cell in known) or len(set(known)) <= _COLOURS
    ):
        _winners(axes, sides, cells, known, _shown(findings, value)[1])
        axes.set_title(f"{_shown(findings, value)[0]} with the {goal}")
    elif known:
        label, factor = _shown(findings, value or formula)
        numbers = (
            np.array([[np.nan if cell is None else cell for cell in row] for row in cells], float)
            * factor
        )
        mesh = axes.pcolormesh(
            *sides, numbers.T, shading="nearest", norm=_norm(numbers[np.isfinite(numbers)])
        )
        if min(numbers.shape) >= 3 and np.nanmin(numbers) < np.nanmax(numbers):
            lines = axes.contour(
                *sides,
                np.ma.masked_invalid(numbers.T),
                colors="white",
                linewidths=0.8,
                levels=_levels(numbers),
            )
            axes.clabel(lines, fontsize=8, fmt=_plain)
        figure.colorbar(mesh, ax=axes, label=label)
        axes.set_title(f"{label} with the {goal}" if value else goal)
    if len(known) < cells.size:
        axes.annotate(
            "grey: nothing is feasible",
            (0, -0.17),
            xycoords="axes fraction",
            fontsize=8,
            color="0.35",
        )
    axes.set(
        xlabel=_shown(findings, reduction.by[0])[0],
        ylabel=_shown(findings, reduction.by[1])[0],
    )
    save_figure(figure, path)


def _winners(
    axes: Any, sides: list[Any], cells: np.ndarray, known: list[Any], factor: float
) -> None:
    """Fill each cell with the colour of its winner.

    In the legend beside the map, those that win most cells come first.
    """
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    common = [winner for winner, _ in Counter(known).most_common(_COLOURS)]
    others = len(set(known)) > len(common)
    numbers = np.array(
        [
            [
                np.nan if cell is None else common.index(cell) if cell in common else len(common)
                for cell in row
            ]
            for row in cells
        ],
        float,
    )
    palette = [
        *(colormaps["tab20"](place) for place in (*range(0, 20, 2), 1)),
        (0.4, 0.4, 0.4, 1.0),
    ]
    colours = [*palette[: len(common)], *([palette[-1]] if others else [])]
    axes.pcolormesh(
        *sides,
        numbers.T,
        shading="nearest",
        cmap=ListedColormap(colours),
        vmin=-0.5,
        vmax=len(colours) - 0.5,
    )
    names = [
        winner if isinstance(winner, str) else f"{winner * factor:.4g}" for winner in common
    ] + ["others"] * others
    handles = [
        Patch(color=colour, label=label) for colour, label in zip(colours, names, strict=True)
    ]
    axes.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8, frameon=False
    )


def _side(findings: Findings, name: str, axis: Any) -> np.ndarray:
    """Where the levels of an axis of a map lie; sets its scale and ticks."""
    levels = findings.space.level_values(name)
    if isinstance(levels[0], str) or len(levels) == 1:
        axis.set_ticks(
            range(len(levels)),
            [
                level if isinstance(level, str) else f"{level * _shown(findings, name)[1]:.3g}"
                for level in levels
            ],
        )
        return np.arange(len(levels), dtype=float)
    places = np.asarray(levels, float) * _shown(findings, name)[1]
    if _wide(places):
        axis.axes.set_xscale("log") if axis.axis_name == "x" else axis.axes.set_yscale("log")
        _plain_ticks(axis, places)
    return places


def _histogram(findings: Findings, name: str, path: Path) -> None:
    edges, counts = findings.counts(name)
    reduction = findings.reductions[name]
    assert isinstance(reduction, Histogram)
    label, factor = _shown(findings, reduction.of)
    figure = figure_for(path)
    axes = figure.subplots()
    axes.stairs(counts[1:-1], edges * factor, fill=True, alpha=0.8)
    if reduction.logarithmic:
        axes.set_xscale("log")
        _plain_ticks(axes.xaxis, edges * factor)
    outside = f"; {counts[0]:,} below and {counts[-1]:,} above" if counts[0] or counts[-1] else ""
    axes.set(
        xlabel=label,
        ylabel="feasible configurations",
        title=f"{name}: {counts.sum():,} configurations{outside}",
    )
    axes.grid(alpha=0.3)
    save_figure(figure, path)


def _wide(numbers: np.ndarray) -> bool:
    """Whether a logarithm shows them better."""
    return bool(numbers.min() > 0 and numbers.max() > 8 * numbers.min())


def _plain_ticks(axis: Any, numbers: np.ndarray) -> None:
    """Ticks of a logarithmic axis in plain figures.

    There are ticks between the decades only where decades are few.
    """
    from matplotlib.ticker import (
        FixedLocator,
        FuncFormatter,
        LogLocator,
        NullFormatter,
        NullLocator,
    )

    levels = np.unique(numbers)
    if len(levels) <= 8:
        axis.set_major_locator(FixedLocator(levels.tolist()))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(_decades(levels[-1] / levels[0], LogLocator))
    axis.set_major_formatter(FuncFormatter(_plain))
    axis.set_minor_formatter(NullFormatter())


def _decades(ratio: float, locator: Any) -> Any:
    """Ticks at 1, 2 and 5 of every decade, or at 1 where there are many."""
    return locator(subs=(1.0, 2.0, 5.0) if ratio < 1e3 else (1.0,))


def _plain(value: float, _: Any = None) -> str:
    return number(value)


def _norm(numbers: np.ndarray) -> Any:
    from matplotlib.colors import LogNorm, Normalize

    return (LogNorm if _wide(numbers) else Normalize)(float(numbers.min()), float(numbers.max()))


def _levels(numbers: np.ndarray) -> np.ndarray:
    """Contours at round numbers."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    low, high = np.nanmin(numbers), np.nanmax(numbers)
    wide = _wide(numbers[np.isfinite(numbers)])
    levels = np.asarray(
        (_decades(high / low, LogLocator) if wide else MaxNLocator(6)).tick_values(low, high)
    )
    return levels[(levels > low) & (levels < high)]


def _colours(numbers: np.ndarray) -> Any:
    from matplotlib.cm import ScalarMappable

    return ScalarMappable(norm=_norm(numbers), cmap="viridis")
