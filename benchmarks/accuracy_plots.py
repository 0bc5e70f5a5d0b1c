"""Pictures of a kernel model's errors: predicted against measured, and residuals over the shape."""

from pathlib import Path
from typing import Any

import numpy as np

from diffgenz.calibrating.samples import Samples
from diffgenz.ui.plots.axes import plain_ticks
from diffgenz.ui.plots.figure import figure_for, save_figure

MOST_POINTS = 4000
"""Points that a picture draws at most."""
WORST = 60
"""%: larger errors are drawn at the edge."""
UNITS = {
    "moved": "moved, B",
    "volume": "volume, B",
    "near": "near, B",
    "far": "far, B",
    "own": "own, B",
    "cache_size": "cache size, B per element",
    "state_size": "state size, B per element",
    "weight_size": "weight size, B per element",
    "activation_size": "activation size, B per element",
}
"""What columns of shapes are called that are no plain counts."""


def draw(row: dict[str, Any], samples: Samples, predicted: np.ndarray, folder: Path) -> None:
    """Save the picture of one kernel's held-out rows.

    Its name is that of system, family, format, source and kernel, joined by "_". One panel shows
    predicted over measured seconds, and one for each varying column of the shape the residuals.

    Arguments:
        row: of the report.
        samples: the rows that were measured.
        predicted: s, the model's time for each of them.
        folder: where the picture is saved; it is made where it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [
        row[key].replace("/", "-") for key in ("system", "family", "format", "source", "kernel")
    ]
    path = folder / f"{'_'.join(names)[:100]}.png"
    rows = np.flatnonzero(samples.held_out)
    rows = np.random.default_rng(0).permutation(rows)[:MOST_POINTS]
    measured, model = samples.seconds[rows], predicted[rows]
    varying = [
        (name, column[rows])
        for name, column in zip(samples.shape._fields, samples.shape, strict=True)
        if len(np.unique(column)) > 1
    ]
    figure = figure_for(path)
    columns = 4
    lines = -(-(len(varying) + 1) // columns)
    figure.set_size_inches(4 * columns, 3.2 * lines)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    axes[0].plot(measured * 1e6, model * 1e6, ".", markersize=2, alpha=0.4)
    ends = [measured.min() * 1e6, measured.max() * 1e6]
    axes[0].plot(ends, ends, color="0.3", linewidth=1)
    axes[0].set(
        xscale="log",
        yscale="log",
        xlabel="measured, us",
        ylabel="model, us",
        title=f"mean error {100 * row['mean']:.1f} %",
    )
    for axis in (axes[0].xaxis, axes[0].yaxis):
        plain_ticks(axis, np.geomspace(ends[0], ends[1], 9))
    residuals = 100 * (model / measured - 1)
    for axis, (name, column) in zip(axes[1:], varying, strict=False):
        axis.plot(
            column + (column.min() == 0),
            np.clip(residuals, -WORST, WORST),
            ".",
            markersize=2,
            alpha=0.3,
        )
        axis.axhline(0, color="0.3", linewidth=1)
        edges = (-WORST - 2, WORST + 2)
        axis.set(
            xscale="log", xlabel=UNITS.get(name, name), ylabel="model - measured, %", ylim=edges
        )
        plain_ticks(axis.xaxis, column + (column.min() == 0))
    for axis in axes[len(varying) + 1 :]:
        axis.set_visible(False)
    beyond = 100 * np.mean(np.abs(residuals) > WORST)
    title = ", ".join(names)
    if beyond:
        title += f"; {beyond:.1f} % of rows are off by more than {WORST} %, and drawn there"
    figure.suptitle(title)
    figure.tight_layout()
    save_figure(figure, path)
