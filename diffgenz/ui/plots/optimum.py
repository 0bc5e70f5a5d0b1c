"""The picture of an optimum: what one percent more of each limit and number does to it."""

from pathlib import Path

from diffgenz.studies.optimize.optimum import Optimum
from diffgenz.ui.plots.figure import figure_for, save_figure

_BARS = 16
"""Bars, at most: the strongest."""
_LEAST = 1e-3
"""Percent below which a bar would not be seen."""


def optimum_plot(found: Optimum, path: Path, title: str) -> None:
    """Draw the elasticity of each limit, bound and hardware number, the strongest on top.

    Arguments:
        found: an optimum that meets its limits.
        path: of the picture, .png, .svg or .pdf.
        title: above it.

    Raises:
        InputError: matplotlib is not installed, or it does not write such files.
    """
    assert found.best is not None
    bars = [
        (f"{each.name}, {each.bound} bound" if each.bound else each.name, each.elasticity, 0)
        for each in found.best.prices
    ]
    bars += [(name, slope, 1) for name, slope in found.elasticities.items()]
    bars = sorted((bar for bar in bars if abs(bar[1]) >= _LEAST), key=lambda bar: -abs(bar[1]))
    bars = bars[:_BARS]
    figure = figure_for(path)
    figure.set_size_inches(9, 1.8 + 0.3 * len(bars))
    axes = figure.subplots()
    kinds = ("limits and bounds", "tab:orange"), ("numbers that are not free", "tab:blue")
    for kind, (label, colour) in enumerate(kinds):
        places = [place for place, bar in enumerate(bars) if bar[2] == kind]
        slopes = [bars[place][1] for place in places]
        axes.barh(places, slopes, color=colour, label=label)
        for place, slope in zip(places, slopes, strict=True):
            side = "left" if slope > 0 else "right"
            axes.annotate(
                f"{slope:+.2f}", (slope, place), (3 if slope > 0 else -3, 0),
                textcoords="offset points", ha=side, va="center", fontsize=8,
            )  # fmt: skip
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set_yticks(range(len(bars)), [bar[0] for bar in bars], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.grid(alpha=0.3, axis="x")
    better = "more" if found.maximise else "less"
    axes.set_xlabel(f"percent of {found.objective} for one percent more ({better} is better)")
    axes.set_title(f"{title}: {found.best.label}", fontsize=10)
    axes.legend(fontsize=8)
    figure.tight_layout()
    save_figure(figure, path)
