"""The picture of a deployment under load: latencies against the rate of requests."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffgenz.serving.load_result import LoadResult
from diffgenz.serving.objectives import Objectives
from diffgenz.ui.plots.axes import plain_ticks
from diffgenz.ui.plots.figure import figure_for, save_figure

_LINES = {
    "mean": {"color": "0.1"},
    "p50": {"color": "tab:blue", "linestyle": "--"},
    "p90": {"color": "tab:orange", "linestyle": "--"},
    "p99": {"color": "tab:red", "linestyle": "--"},
}


def serve_plot(
    rates: Sequence[float],
    results: Sequence[LoadResult],
    saturation: float,
    objectives: Objectives | None,
    path: Path,
    title: str,
) -> None:
    """Draw TTFT and TPOT against the rate, with objectives and the saturation rate as lines.

    Arguments:
        rates: requests/s.
        results: the figures at each.
        saturation: requests/s.
        objectives: limits; None: there are none.
        path: of the picture, .png, .svg or .pdf.
        title: above it.

    Raises:
        InputError: matplotlib is not installed, or it does not write such files.
    """
    figure = figure_for(path)
    figure.set_size_inches(11, 4.5)
    for axes, name in zip(figure.subplots(1, 2), ("ttft", "tpot"), strict=True):
        latencies = [getattr(each, name) for each in results]
        lines = {kind: [1e3 * float(getattr(each, kind)) for each in latencies] for kind in _LINES}
        for kind, milliseconds in lines.items():
            label = kind.upper() if kind != "mean" else kind
            axes.plot(rates, milliseconds, label=label, **_LINES[kind])
        limit = None if objectives is None else objectives.limits.get(name)
        if limit is not None:
            axes.axhline(1e3 * float(limit), color="tab:green", label="objective")
        axes.axvline(saturation, color="0.6", linestyle=":", label="saturation")
        axes.set_yscale("log")
        plain_ticks(axes.yaxis, np.array(list(lines.values())))
        axes.set_xlabel("requests/s")
        axes.set_ylabel(f"{name.upper()}, ms")
        axes.grid(alpha=0.3, which="both")
    figure.axes[0].legend(fontsize=8)
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    save_figure(figure, path)
