"""Pictures of traces."""

from pathlib import Path

import numpy as np

from diffgenz.routing.statistics.statistics import RoutingStatistics
from diffgenz.ui.plots.figure import figure_for, save_figure

BRIGHTEST = 8.0
"""Times the mean: hotter experts have the same colour."""


def load_plot(found: RoutingStatistics, path: Path) -> None:
    """Draw the load of each expert in each layer, by phase, hottest experts first.

    Arguments:
        found: the statistics.
        path: where; .png, .svg or .pdf.

    Raises:
        InputError: matplotlib is not installed, or the place cannot be written.
    """
    figure = figure_for(path)
    phases = list(found.counts.items())
    figure.set_size_inches(9, 1.2 + len(phases) * max(2.2, 0.06 * len(found.layers) + 1.2))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(len(phases), 1, squeeze=False)[:, 0]
    image = None
    for axis, (phase, counts) in zip(axes, phases, strict=True):
        load = counts / np.maximum(counts.mean(axis=1, keepdims=True), 1e-300)
        image = axis.imshow(
            -np.sort(-load, axis=1),
            aspect="auto",
            interpolation="nearest",
            cmap="magma",
            norm="log",
            vmin=1 / BRIGHTEST,
            vmax=BRIGHTEST,
        )
        steps = max(1, -(-len(found.layers) // 12))
        axis.set_yticks(range(0, len(found.layers), steps), found.layers[::steps])
        axis.set_ylabel("layer")
        title = "" if phase == "all" else f"{phase}: "
        tokens = found.tokens.get(phase)
        axis.set_title(f"{title}{'' if tokens is None else f'{tokens:,} tokens'}", fontsize=10)
    axes[-1].set_xlabel("experts of a layer, the most chosen first")
    if image is not None:
        bar = figure.colorbar(image, ax=list(axes), extend="both", label="load, times the mean")
        ticks = [1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8]
        bar.set_ticks(ticks, labels=["1/8", "1/4", "1/2", "1", "2", "4", "8"])
        bar.ax.minorticks_off()
    figure.suptitle(f"{found.model or 'Expert load'}: {found.experts} experts", fontsize=11)
    save_figure(figure, path)
