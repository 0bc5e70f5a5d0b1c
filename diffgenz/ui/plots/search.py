"""The picture of a search: all deployments and their Pareto front."""

from pathlib import Path

import numpy as np

from diffgenz.studies.search.deployment import Deployment
from diffgenz.studies.search.search import Search
from diffgenz.ui.plots.axes import is_wide, plain_ticks
from diffgenz.ui.plots.figure import figure_for, save_figure

_USER, _ACCELERATOR = "tokens_per_second_per_user", "tokens_per_second_per_accelerator"


def pareto_plot(found: Search, path: Path, title: str) -> None:
    """Draw the speed for the user against the throughput per accelerator of every deployment.

    Arguments:
        found: by a search.
        path: of the picture, .png, .svg or .pdf.
        title: above it.

    Raises:
        InputError: matplotlib is not installed, or it does not write such files.
    """
    figure = figure_for(path)
    axes = figure.subplots()
    every = _speeds(found.deployments)
    axes.scatter(*every, s=6, color="0.75", label=f"{len(found.deployments):,} deployments")
    axes.plot(*_speeds(found.pareto()), "o-", color="tab:blue", label="Pareto front")
    axes.set(
        xlabel="tokens/s per user",
        ylabel="tokens/s per accelerator",
        title=title,
    )
    for axis, scale, speeds in zip(
        (axes.xaxis, axes.yaxis), (axes.set_xscale, axes.set_yscale), every, strict=True
    ):
        numbers = np.array([speed for speed in speeds if speed], float)
        if len(numbers) and is_wide(numbers):
            scale("log")
            plain_ticks(axis, np.geomspace(numbers.min(), numbers.max(), 9))
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    save_figure(figure, path)


def _speeds(deployments: list[Deployment]) -> list[list[float | None]]:
    return [[d.metrics[name] for d in deployments] for name in (_USER, _ACCELERATOR)]
