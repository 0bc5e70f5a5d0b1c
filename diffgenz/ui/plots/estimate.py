"""The picture of an estimate: where its times go, and its operators under the roofline."""

from pathlib import Path
from typing import Any

import numpy as np

from diffgenz.inference.breakdown import RESOURCES, Breakdown
from diffgenz.inference.roofline import Roofline
from diffgenz.scenario.scenario import Scenario
from diffgenz.ui.plots.axes import name_points, plain, plain_ticks
from diffgenz.ui.plots.figure import figure_for, save_figure

_BARS = 10
"""Operators that have a bar; the smaller ones share one more."""

_NAMED = 6
"""Operators of a phase that are named beside their points: those that take longest."""

_COLOURS = ("tab:orange", "tab:blue", "tab:green", "0.6")
_PHASES = {"ttft": ("TTFT", "o", "tab:red"), "tpot": ("TPOT", "s", "tab:purple")}


def estimate_plot(
    case: Scenario,
    where: Breakdown,
    roofs: tuple[Roofline, Roofline],
    path: Path,
    title: str,
) -> None:
    """Draw the times to the first token and per output token by operator, and the roofline.

    Arguments:
        case: the scenario.
        where: its breakdown.
        roofs: what its operators do in either phase (`inference.roofline`).
        path: of the picture, .png, .svg or .pdf.
        title: above it.

    Raises:
        InputError: matplotlib is not installed, or it does not write such files.
    """
    figure = figure_for(path)
    figure.set_size_inches(14, 6.5)
    panels = figure.subplot_mosaic([["ttft", "roof"], ["tpot", "roof"]], width_ratios=(1, 1.15))
    for phase in _PHASES:
        _bars(panels[phase], where, phase)
    panels["ttft"].legend(fontsize=8, loc="lower right")
    names = _roof(panels["roof"], case, where, roofs)
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    name_points(panels["roof"], names)
    save_figure(figure, path)


def _bars(axes: Any, where: Breakdown, phase: str) -> None:
    """A bar for each operator, slowest on top, by the resource that takes its time."""
    rows = {name: np.array(list(row.values())) for name, row in where.rows(phase).items()}
    ordered = sorted(rows, key=lambda name: -rows[name].sum())
    shown = {name: rows[name] for name in ordered[:_BARS] if rows[name].sum() > 0}
    rest = [rows[name] for name in ordered[_BARS:] if rows[name].sum() > 0]
    if rest:
        shown[f"{len(rest)} others"] = np.sum(rest, axis=0)
    milliseconds = 1e3 * np.array(list(shown.values()))
    left = np.zeros(len(shown))
    for resource, colour, column in zip(RESOURCES, _COLOURS, milliseconds.T, strict=True):
        axes.barh(range(len(shown)), column, left=left, color=colour, label=resource)
        left += column
    axes.set_yticks(range(len(shown)), shown, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.05 * left.max())
    axes.grid(alpha=0.3, axis="x")
    total = plain(milliseconds.sum())
    axes.set_title(
        f"{_PHASES[phase][0]}: {total} ms, bound by {where.bound_by(phase)}", fontsize=10
    )
    axes.set_xlabel(f"{_PHASES[phase][0]}, ms")


def _roof(
    axes: Any, case: Scenario, where: Breakdown, roofs: tuple[Roofline, Roofline]
) -> list[tuple[str, float, float, str]]:
    """What memory and arithmetic allow, and what each operator reaches.

    Returns:
        names to write beside points: the text, x, y and colour of each.
    """
    accelerator = case.platform.accelerator
    bandwidth = float(accelerator.memory_bandwidth)
    peaks = {
        name: float(accelerator.peak(name))
        for name in dict.fromkeys([case.precision.linear_peak, case.precision.dtype])
    }
    points = {phase: roof.points() for phase, roof in zip(_PHASES, roofs, strict=True)}
    every = np.array([point for each in points.values() for point in each.values()])
    low = min(every[:, 0].min(), max(peaks.values()) / bandwidth) / 3
    high = max(every[:, 0].max(), max(peaks.values()) / bandwidth) * 3
    for name, peak in peaks.items():
        intensity = np.array([low, peak / bandwidth, high])
        axes.plot(intensity, np.minimum(peak, bandwidth * intensity) / 1e12, color="0.3", lw=1.2)
        axes.annotate(
            f"{name} peak",
            (high, peak / 1e12),
            xytext=(-4, 2),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=8,
            color="0.3",
        )
    names = []
    for phase, (label, marker, colour) in _PHASES.items():
        seconds = {name: sum(row.values()) for name, row in where.rows(phase).items()}
        ordered = sorted(points[phase], key=lambda name: -seconds.get(name, 0.0))
        total = sum(seconds.values())
        for name in ordered:
            share = seconds.get(name, 0.0) / total
            x, y = points[phase][name]
            size = 12 + 250 * share
            axes.scatter(x, y / 1e12, s=size, marker=marker, color=colour, alpha=0.6, lw=0)
        axes.scatter([], [], marker=marker, color=colour, alpha=0.6, label=label)
        names += [(name, *points[phase][name], colour) for name in ordered[:_NAMED]]
    axes.set(
        xscale="log",
        yscale="log",
        xlim=(low, high),
        ylim=(every[:, 1].min() / 3e12, 2 * max(peaks.values()) / 1e12),
        xlabel="arithmetic intensity, FLOP/B",
        ylabel="TFLOP/s of an accelerator",
        title="operators under the roofline; larger: more of the time",
    )
    axes.title.set_fontsize(10)
    plain_ticks(axes.xaxis, np.geomspace(low, high, 9))
    plain_ticks(axes.yaxis, np.geomspace(every[:, 1].min() / 3e12, max(peaks.values()) / 1e12, 9))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    return [(name, x, y / 1e12, colour) for name, x, y, colour in names]
