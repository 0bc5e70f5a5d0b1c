"""The picture of a front between objectives."""

from pathlib import Path

import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.serving.load_metrics import EVERY_METRIC
from diffgenz.studies.optimize.front import Front
from diffgenz.ui.plots.axes import plain_ticks
from diffgenz.ui.plots.figure import figure_for, save_figure


def front_plot(found: Front, path: Path, title: str) -> None:
    """Draw the second objective against the first, one colour for each plan, or for a third.

    Arguments:
        found: a front of two or three objectives.
        path: of the picture, .png, .svg or .pdf.
        title: above it.

    Raises:
        InputError: more than three objectives, matplotlib is not installed, or it does not write
            such files.
    """
    if len(found.objectives) > 3:
        raise InputError(f"plot: {len(found.objectives)} objectives; three are drawn, name fewer")
    figure = figure_for(path)
    axes = figure.subplots()
    factors, labels = zip(*(_axis(found, k) for k in range(len(found.objectives))), strict=True)
    values = np.array([point.values for point in found.points]) * factors
    if len(found.objectives) == 3:
        marks = axes.scatter(*values.T[:2], c=values[:, 2], s=16, norm="log")
        figure.colorbar(marks, label=labels[2])
    else:
        axes.plot(*values.T, "-", color="0.8", zorder=1)
        plans = np.array([point.plan for point in found.points])
        for plan in dict.fromkeys(plans.tolist()):
            axes.plot(*values[plans == plan].T, "o", markersize=4, label=plan)
        axes.legend()
    axes.set(xscale="log", yscale="log", xlabel=labels[0], ylabel=labels[1], title=title)
    for axis, column in zip((axes.xaxis, axes.yaxis), values.T[:2], strict=True):
        plain_ticks(axis, np.geomspace(column.min(), column.max(), 9))
    axes.grid(alpha=0.3, which="both")
    save_figure(figure, path)


def _axis(found: Front, place: int) -> tuple[float, str]:
    """The factor from SI to what is drawn, and the label."""
    name = found.objectives[place]
    if name in EVERY_METRIC:
        metric = EVERY_METRIC[name]
        return metric.factor, f"{name}, {metric.label.rsplit(' ', 1)[-1]}"
    unit = found.units[place]
    return 1.0, f"{name}, {unit}" if unit not in ("", "1") else name
