"""Configurations of a sweep in parallel coordinates."""

from pathlib import Path
from typing import Any

import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.studies.sweep.findings import Findings
from diffgenz.ui.labels import shown_in
from diffgenz.ui.plots.axes import colour_bar, colours, is_wide, short
from diffgenz.ui.plots.figure import figure_for, save_figure
from diffgenz.ui.tables import number

_LINES = 100
"""Configurations that parallel coordinates draw, evenly through the front."""


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
            _heights(axes, place, shown_in(findings, axis)[1], column)
            for place, (axis, column) in enumerate(columns.items())
        ]
    ).reshape(len(columns), count)
    first, shades = (
        next(iter(goals.items())) if goals else ("index", np.asarray(table["index"], float))
    )
    label, factor = shown_in(findings, first)
    scale = colours(shades * factor)
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
        [shown_in(findings, name)[0].replace(", ", "\n") for name in columns],
        fontsize=8,
    )
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    colour_bar(figure, axes, scale, label)
    drawn = f"{len(picked):,} of " if len(picked) < count else ""
    axes.set_title(f"{name}: {drawn}{count:,} configurations")
    save_figure(figure, path, dots_per_inch=90)


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
                place + 0.03,
                level / spread,
                short(label, 20),
                fontsize=7,
                va="center",
                bbox=_BACKGROUND,
            )
        return np.array([labels.index(entry) / spread for entry in column])
    numbers = np.asarray(column, float) * factor
    low, high = numbers.min(), numbers.max()
    moved = np.log(numbers) if is_wide(numbers) else numbers
    for height in (0, 0.5, 1):
        between = moved.min() + height * (moved.max() - moved.min())
        text = float(np.exp(between)) if is_wide(numbers) else float(between)
        text = float(low) if height == 0 else float(high) if height == 1 else text
        axes.text(
            place + 0.03, height, number(float(text)), fontsize=7, va="center", bbox=_BACKGROUND
        )
    return (moved - moved.min()) / (moved.max() - moved.min())


_BACKGROUND = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1}
