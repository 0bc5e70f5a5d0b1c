"""Maps of a sweep: the best of each cell over two axes, as a number or as what wins."""

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.studies.sweep.findings import Findings
from diffgenz.studies.sweep.reductions.best import Best
from diffgenz.ui.labels import shown_in
from diffgenz.ui.plots.axes import (
    colour_bar,
    colours,
    edges,
    is_wide,
    plain,
    plain_ticks,
    round_levels,
    short,
)
from diffgenz.ui.plots.figure import figure_for, save_figure
from diffgenz.ui.tables import number

_COLOURS = 11
"""Winners that a map tells apart; the rarer ones are one more."""


def map_plot(findings: Findings, name: str, path: Path, value: str | None) -> None:
    """Draw a map over two axes.

    Arguments:
        findings: of a sweep.
        name: of the map among what was kept.
        path: of the picture, .png, .svg or .pdf.
        value: an axis, to draw what the best configuration of each cell has there. None: the
            goal's value.

    Raises:
        InputError: the map is not over two axes; matplotlib is not installed.
    """
    reduction = findings.reductions[name]
    assert isinstance(reduction, Best)
    if len(reduction.by) != 2:
        raise InputError(
            f"plot: {name} is a map over {len(reduction.by)} axes; only one over two can be drawn"
        )
    figure = figure_for(path)
    axes = figure.subplots()
    axes.set_facecolor("0.85")
    across, up = (
        _side(findings, axis, kind)
        for axis, kind in zip(reduction.by, (axes.xaxis, axes.yaxis), strict=True)
    )
    cells = findings.map(name, value)[np.ix_(across.order, up.order)]
    known = [cell for cell in cells.ravel() if cell is not None and cell == cell]
    formula = reduction.goal.expression.text
    goal = (
        f"{'largest' if reduction.goal.maximize else 'smallest'} {shown_in(findings, formula)[0]}"
    )
    label, factor = shown_in(findings, value or formula)
    of_choice = any(isinstance(cell, str) for cell in known)
    if value is not None and (of_choice or len(set(known)) <= _COLOURS):
        _winners(axes, (across.edges, up.edges), cells, known, factor, label)
    elif known:
        scaled = [[np.nan if cell is None else cell * factor for cell in row] for row in cells]
        numbers = np.array(scaled, float)
        scale = colours(numbers[np.isfinite(numbers)])
        axes.pcolormesh(across.edges, up.edges, numbers.T, norm=scale.norm, cmap=scale.cmap)
        if across.is_range and up.is_range and np.nanmin(numbers) < np.nanmax(numbers):
            _contours(axes, across.places, up.places, numbers)
        colour_bar(figure, axes, scale, label)
    axes.set(
        title=f"{label} with the {goal}" if value else goal,
        xlabel=shown_in(findings, reduction.by[0])[0],
        ylabel=shown_in(findings, reduction.by[1])[0],
    )
    if len(known) < cells.size:
        axes.set_title("grey: nothing is feasible", loc="left", fontsize=8, color="0.35", y=1.06)
    save_figure(figure, path)


def _contours(axes: Any, across: np.ndarray, up: np.ndarray, numbers: np.ndarray) -> None:
    """Lines of equal numbers, where there are enough cells to draw them through."""
    if min(numbers.shape) < 3:
        return
    masked = np.ma.masked_invalid(numbers.T)
    limits = axes.get_xlim(), axes.get_ylim()
    lines = axes.contour(
        across, up, masked, colors="white", linewidths=0.8, levels=round_levels(numbers)
    )
    axes.clabel(lines, fontsize=8, fmt=plain)
    axes.set(xlim=limits[0], ylim=limits[1])


def _winners(
    axes: Any,
    sides: tuple[np.ndarray, np.ndarray],
    cells: np.ndarray,
    known: list[Any],
    factor: float,
    label: str,
) -> None:
    """Fill each cell with the colour of its winner.

    In the legend beside the map, choices that win most cells come first, and numbers in order.
    """
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    common = [winner for winner, _ in Counter(known).most_common(_COLOURS)]
    others = len(set(known)) > len(common)
    palette = [colormaps["tab20"](place) for place in (*range(0, 20, 2), 1)]
    names = common
    if not isinstance(common[0], str):
        common = sorted(common)
        shades = np.linspace(0.05, 0.95, len(common))
        palette = [colormaps["viridis"](shade) for shade in shades]
        names = [number(winner * factor, 4) for winner in common]
    places = {winner: place for place, winner in enumerate(common)}
    numbers = [
        [np.nan if cell is None else places.get(cell, len(common)) for cell in row] for row in cells
    ]
    shown = [*palette[: len(common)], *([(0.4, 0.4, 0.4, 1.0)] if others else [])]
    axes.pcolormesh(
        *sides,
        np.array(numbers, float).T,
        cmap=ListedColormap(shown),
        vmin=-0.5,
        vmax=len(shown) - 0.5,
    )
    texts = [*(short(name, 48) for name in names), *(["others"] if others else [])]
    axes.legend(
        handles=[Patch(color=c, label=text) for c, text in zip(shown, texts, strict=True)],
        title=label,
        title_fontsize=8,
        loc="upper left",
        bbox_to_anchor=(1.01, 1),
        fontsize=8,
        frameon=False,
    )


class _Side(NamedTuple):
    """One axis of a map.

    Arguments:
        places: where its levels lie, in order.
        edges: of the cells around them.
        order: which level of the space each of them is.
        is_range: whether the levels are numbers, between which there are others.
    """

    places: np.ndarray
    edges: np.ndarray
    order: np.ndarray
    is_range: bool


def _side(findings: Findings, name: str, axis: Any) -> _Side:
    """Where the levels of an axis of a map lie; sets its scale and ticks."""
    levels, factor = findings.space.level_values(name), shown_in(findings, name)[1]
    if isinstance(levels[0], str) or len(levels) == 1:
        texts = [short(x) if isinstance(x, str) else number(x * factor) for x in levels]
        places = np.arange(len(levels), dtype=float)
        axis.set_ticks(places, texts)
        ends = np.arange(len(levels) + 1) - 0.5
        return _Side(places, ends, places.astype(int), False)
    values = np.asarray(levels, float) * factor
    order = np.argsort(values)
    places = values[order]
    if is_wide(places):
        axis.axes.set_xscale("log") if axis.axis_name == "x" else axis.axes.set_yscale("log")
        plain_ticks(axis, places)
    return _Side(places, edges(places), order, True)
