"""What pictures share: logarithmic scales in plain figures, colours, labels that do not collide."""

import math
from itertools import pairwise
from typing import Any

import numpy as np

from diffgenz.ui.tables import number

LONGEST = 28
"""Letters of a label; longer ones are cut."""


def is_wide(numbers: np.ndarray) -> bool:
    """Whether a logarithm shows them better."""
    return bool(numbers.min() > 0 and numbers.max() > 8 * numbers.min())


def plain_ticks(axis: Any, numbers: np.ndarray) -> None:
    """Ticks of a logarithmic axis in plain figures.

    There are ticks between the decades only where decades are few.
    """
    from matplotlib.ticker import (
        FixedLocator,
        FuncFormatter,
        LogLocator,
        NullFormatter,
        NullLocator,
    )

    levels = np.unique(numbers)
    if len(levels) <= 8:
        axis.set_major_locator(FixedLocator(levels.tolist()))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(_decades(levels[-1] / levels[0], LogLocator))
    axis.set_major_formatter(FuncFormatter(plain))
    axis.set_minor_formatter(NullFormatter())


def thousands(axis: Any) -> None:
    """Ticks of a linear axis with commas between thousands, as in tables."""
    from matplotlib.ticker import StrMethodFormatter

    if max(map(abs, axis.get_data_interval())) >= 1e4:
        axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _decades(ratio: float, locator: Any) -> Any:
    """Ticks at every figure of a part of a decade, at 1, 2 and 5 of several, or at 1 of many."""
    if ratio < 4:
        return locator(subs=tuple(float(figure) for figure in range(1, 10)))
    return locator(subs=(1.0, 2.0, 5.0) if ratio < 1e3 else (1.0,))


def plain(value: float, _: Any = None) -> str:
    """A number for people, as matplotlib asks for it."""
    return number(value)


def _norm(numbers: np.ndarray) -> Any:
    from matplotlib.colors import LogNorm, Normalize

    return (LogNorm if is_wide(numbers) else Normalize)(float(numbers.min()), float(numbers.max()))


def round_levels(numbers: np.ndarray) -> np.ndarray:
    """Contours at round numbers."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    low, high = np.nanmin(numbers), np.nanmax(numbers)
    wide = is_wide(numbers[np.isfinite(numbers)])
    levels = np.asarray(
        (_decades(high / low, LogLocator) if wide else MaxNLocator(6)).tick_values(low, high)
    )
    return levels[(levels > low) & (levels < high)]


def colours(numbers: np.ndarray) -> Any:
    """A scale of colours over some numbers."""
    from matplotlib.cm import ScalarMappable

    return ScalarMappable(norm=_norm(numbers), cmap="viridis")


def short(text: str, most: int = LONGEST) -> str:
    """A label, cut where it is long."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def edges(places: np.ndarray) -> np.ndarray:
    """The edges of cells around their places: halfway, on the scale that shows them."""
    if len(places) == 1:
        return places[0] + np.array([-0.5, 0.5])
    wide = is_wide(places)
    moved = np.log(places) if wide else places
    between = 0.5 * (moved[1:] + moved[:-1])
    ends = np.concatenate([[2 * moved[0] - between[0]], between, [2 * moved[-1] - between[-1]]])
    return np.exp(ends) if wide else ends


def colour_bar(figure: Any, axes: Any, scale: Any, label: str) -> None:
    """A scale of colours beside `axes`, with plain figures."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    bar = figure.colorbar(scale, ax=axes, label=label)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(plain))
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    low, high = scale.get_clim()
    if is_wide(np.array([low, high])):
        plain_ticks(bar.ax.yaxis, np.geomspace(low, high, 9))
        bar.ax.set_ylim(low, high)


def name_points(axes: Any, names: list[tuple[str, float, float, str]]) -> None:
    """Write names beside points, each where it covers no other name.

    A place that no line of the picture crosses is preferred. Names that are far from their point
    have a line to it.

    Arguments:
        axes: whose place in the figure is settled.
        names: the text, x, y and colour of each.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(axes.figure).get_renderer()
    frame = axes.get_window_extent(renderer).padded(-6)
    taken = [text.get_window_extent(renderer) for text in axes.texts]
    lines = [line.get_transform().transform_path(line.get_path()) for line in axes.lines]
    around = [(9, -3), (9, 7), (9, -13), (-9, -3), (-9, 7), (-9, -13)]
    far = [(side * 25, step * 11) for step in range(2, 12) for side in (1, -1)]
    farther = [(side * 25, -step * 11) for step in range(2, 12) for side in (1, -1)]
    places = [*around, *(each for pair in zip(farther, far, strict=True) for each in pair)]
    for text, x, y, colour in names:
        arrow = {"arrowstyle": "-", "color": colour, "lw": 0.5, "alpha": 0.6}
        for avoided, place in (*((lines, each) for each in places), *(([], p) for p in places)):
            label = axes.annotate(
                text,
                (x, y),
                xytext=place,
                textcoords="offset points",
                fontsize=7.5,
                color=colour,
                ha="left" if place[0] > 0 else "right",
                arrowprops=None if place in around else arrow,
            )
            box = label.get_window_extent(renderer).padded(1)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0
            free = inside and box.y1 <= frame.y1 and not any(box.overlaps(each) for each in taken)
            if free and not any(line.intersects_bbox(box, filled=False) for line in avoided):
                taken.append(box)
                break
            label.remove()


def untangle(figure: Any) -> None:
    """Turn the labels of horizontal axes that collide, and drop numbers that still do."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for axes in figure.axes:
        labels = _labels(axes.xaxis)
        words = [label for label in labels if label.get_text() and not _is_number(label.get_text())]
        if words and _collide(labels, canvas):
            axes.tick_params(axis="x", labelrotation=30)
            for label in labels:
                label.set_horizontalalignment("right")
                label.set_rotation_mode("anchor")
        elif not words:
            _thin(labels, canvas, 0)
        _thin(_labels(axes.yaxis), canvas, 1)


def _labels(axis: Any) -> list[Any]:
    """The labels of an axis that are seen."""
    low, high = sorted(axis.get_view_interval())
    ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return [tick.label1 for tick in ticks if tick.label1.get_text()]


def _is_number(text: str) -> bool:
    return text.replace(",", "").replace(".", "").replace("-", "").replace("e", "").isdigit()


def _boxes(labels: list[Any], canvas: Any) -> list[Any]:
    return [label.get_window_extent(canvas.get_renderer()) for label in labels]


def _collide(labels: list[Any], canvas: Any) -> bool:
    boxes = sorted(_boxes(labels, canvas), key=lambda box: box.x0)
    return any(bool(first.x1 + 4 > second.x0) for first, second in pairwise(boxes))


def _thin(labels: list[Any], canvas: Any, along: int) -> None:
    """Hide labels that would touch the one before, along x (0) or y (1)."""
    space, end = (4.0, 0.0)[along], -math.inf
    ends = [(box.min[along], box.max[along]) for box in _boxes(labels, canvas)]
    for (low, high), label in sorted(zip(ends, labels, strict=True), key=lambda each: each[0][0]):
        if low < end + space:
            label.set_visible(False)
        else:
            end = high
