"""Pictures of what a sweep kept: fronts, maps, histograms."""

from pathlib import Path

import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.studies.sweep.findings import Findings
from diffgenz.studies.sweep.reductions.best import Best
from diffgenz.studies.sweep.reductions.histogram import Histogram
from diffgenz.studies.sweep.reductions.pareto import Pareto
from diffgenz.ui.labels import shown_in
from diffgenz.ui.plots.axes import colour_bar, colours, is_wide, plain_ticks, thousands
from diffgenz.ui.plots.figure import figure_for, save_figure
from diffgenz.ui.plots.map import map_plot


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
        map_plot(findings, name, path, value)
    elif isinstance(reduction, Histogram):
        _histogram(findings, name, path)
    else:
        raise InputError(
            f"plot: {name!r} is neither a front, a map nor a histogram; choose one of those, or "
            "draw parallel coordinates"
        )


def _front(findings: Findings, name: str, path: Path) -> None:
    goals = {
        text: values * shown_in(findings, text)[1] for text, values in findings.goals(name).items()
    }
    first, second, *others = goals
    if not len(goals[first]):
        raise InputError(f"plot: {name} has no points; loosen the constraints")
    figure = figure_for(path)
    axes = figure.subplots()
    if others:
        scale = colours(goals[others[0]])
        order = np.argsort(goals[others[0]])
        axes.scatter(
            goals[first][order],
            goals[second][order],
            c=scale.to_rgba(goals[others[0]][order]),
            s=10,
        )
        colour_bar(figure, axes, scale, shown_in(findings, others[0])[0])
    else:
        axes.plot(goals[first], goals[second], "o-", ms=4)
    for text, axis, set_scale in (
        (first, axes.xaxis, axes.set_xscale),
        (second, axes.yaxis, axes.set_yscale),
    ):
        if is_wide(goals[text]):
            set_scale("log")
            plain_ticks(axis, goals[text])
        else:
            thousands(axis)
    more = f"; {len(others) - 1} more goals are not shown" if len(others) > 1 else ""
    inexact = f"; {findings.overflow(name):,} more did not fit" if findings.overflow(name) else ""
    axes.set(
        xlabel=shown_in(findings, first)[0],
        ylabel=shown_in(findings, second)[0],
        title=f"{name}: Pareto front of {len(goals[first]):,}{inexact}{more}",
    )
    axes.grid(alpha=0.3, which="both")
    save_figure(figure, path)


def _histogram(findings: Findings, name: str, path: Path) -> None:
    edges, counts = findings.counts(name)
    reduction = findings.reductions[name]
    assert isinstance(reduction, Histogram)
    label, factor = shown_in(findings, reduction.of)
    figure = figure_for(path)
    axes = figure.subplots()
    axes.stairs(counts[1:-1], edges * factor, fill=True, alpha=0.8)
    if reduction.logarithmic:
        axes.set_xscale("log")
        plain_ticks(axes.xaxis, edges * factor)
    thousands(axes.yaxis)
    outside = f"; {counts[0]:,} below and {counts[-1]:,} above" if counts[0] or counts[-1] else ""
    axes.set(
        xlabel=label,
        ylabel="feasible configurations",
        title=f"{name}: {counts.sum():,} configurations{outside}",
    )
    axes.grid(alpha=0.3)
    save_figure(figure, path)
