"""Pictures. matplotlib is an extra, imported when one is asked for."""

from pathlib import Path
from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.core.files import written_aside
from diffgenz.studies.search.search import Search


def pareto_plot(found: Search, path: Path, title: str) -> None:
    """Draw every deployment of `found` and the Pareto front of speed for the user against throughput per accelerator.

    Raises:
        InputError: matplotlib is not installed, or the file's format is not one it writes.
    """
    figure = figure_for(path)
    axes = figure.subplots()
    every, front = found.deployments, found.pareto()
    axes.scatter(
        [d.tokens_per_second_per_user for d in every],
        [d.tokens_per_second_per_accelerator for d in every],
        s=6,
        color="0.75",
        label=f"{len(every):,} deployments",
    )
    axes.plot(
        [d.tokens_per_second_per_user for d in front],
        [d.tokens_per_second_per_accelerator for d in front],
        "o-",
        color="tab:blue",
        label="Pareto front",
    )
    axes.set(
        xlabel="tokens/s per user",
        ylabel="tokens/s per accelerator",
        title=title,
        xscale="log",
        yscale="log",
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("{x:g}" if axis is axes.xaxis else "")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    save_figure(figure, path)


def figure_for(path: Path) -> Any:
    """An empty figure, to be saved at `path`.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError(
            f"plot: {path.name!r} needs matplotlib; install it with: pip install 'diffgenz[plots]'"
        ) from None
    return Figure(figsize=(8, 5))


def save_figure(figure: Any, path: Path, dots_per_inch: int = 150) -> None:
    """Write `figure`, aside first.

    Raises:
        InputError: a format that matplotlib does not write, or a place that cannot be written.
    """
    try:
        with written_aside(path, "plot") as aside:
            figure.savefig(aside, format=path.suffix[1:], dpi=dots_per_inch, bbox_inches="tight")
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"plot: {path.name!r} cannot be written: {error}; use .png, .svg or .pdf"
        ) from None
