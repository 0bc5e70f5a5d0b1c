"""Pictures. matplotlib is an extra, imported when one is asked for."""

from pathlib import Path
from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.core.files import written_aside
from diffgenz.ui.plots.axes import untangle


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


def check_picture(path: Path) -> None:
    """Raise `InputError` unless a picture can be drawn, before what it is of is computed.

    Arguments:
        path: where it is to be saved.
    """
    kinds = figure_for(path).canvas.get_supported_filetypes()
    if path.suffix[1:] not in kinds:
        raise InputError(f"plot: {path.name!r} is of no known kind; use .png, .svg or .pdf")


def save_figure(figure: Any, path: Path, dots_per_inch: int = 150) -> None:
    """Write `figure`, aside first, with no labels upon each other.

    Raises:
        InputError: a format that matplotlib does not write, or a place that cannot be written.
    """
    untangle(figure)
    try:
        with written_aside(path, "plot") as aside:
            figure.savefig(aside, format=path.suffix[1:], dpi=dots_per_inch, bbox_inches="tight")
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"plot: {path.name!r} cannot be written: {error}; use .png, .svg or .pdf"
        ) from None
