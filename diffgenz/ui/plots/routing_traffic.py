"""Pictures of who sends to whom, and of what placements save."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from diffgenz.routing.savings import Saved
from diffgenz.ui.plots.figure import figure_for, save_figure


def matrices_plot(
    matrices: dict[str, np.ndarray],
    path: Path,
    title: str,
    by_slots: dict[int, float] | None = None,
) -> None:
    """Draw tokens from each node to each, a map for each placement, in one scale.

    Arguments:
        matrices: by name of the placement, [nodes, nodes]; over the mean of a pair.
        path: where; .png, .svg or .pdf.
        title: what stands above.
        by_slots: s of the layers by number of slots, drawn beside where there are several.

    Raises:
        InputError: matplotlib is not installed, or the place cannot be written.
    """
    figure = figure_for(path)
    count = len(matrices)
    several = by_slots if by_slots is not None and len(by_slots) > 1 else {}
    figure.set_size_inches(1.2 + 2.7 * (count + bool(several)), 3.4)
    figure.set_layout_engine("constrained")
    every = figure.subplots(1, count + bool(several), squeeze=False)[0]
    axes = every[:count]
    most = max(1.0, *(float(each.max()) for each in matrices.values()))
    image = None
    for axis, (name, pairs) in zip(axes, matrices.items(), strict=True):
        image = axis.imshow(pairs, cmap="viridis", vmin=0, vmax=most, interpolation="nearest")
        nodes = len(pairs)
        ticks = range(0, nodes, max(1, nodes // 8))
        axis.set_xticks(ticks)
        axis.set_yticks(ticks)
        if nodes <= 8:
            for row, column in np.ndindex(pairs.shape):
                value = float(pairs[row, column])
                shade = "white" if value < 0.6 * most else "black"
                axis.text(
                    column, row, f"{value:.2f}", ha="center", va="center", color=shade, fontsize=7
                )
        away = 1 - np.trace(pairs) / pairs.sum()
        axis.set_title(f"{name}: {100 * away:.0f} % leave their node", fontsize=9)
        axis.set_xlabel("to node")
    axes[0].set_ylabel("from node")
    if image is not None:
        figure.colorbar(image, ax=list(axes), label="tokens, times the mean pair")
    if several:
        last = every[-1]
        last.plot([str(slots) for slots in several], [1e3 * s for s in several.values()], "o-")
        last.set_ylim(0, 1.05e3 * max(several.values()))
        last.margins(x=0.15)
        last.set_xlabel("slots of a layer")
        last.set_ylabel("MoE layers, ms")
        last.set_title("fastest placement", fontsize=9)
    figure.suptitle(title, fontsize=11)
    save_figure(figure, path)


def savings_plot(
    saved: Mapping[int, Mapping[int, Saved]], experts: int, path: Path, title: str
) -> None:
    """Draw what placements save over experts in order, by nodes, a line for each number of slots.

    Arguments:
        saved: by nodes and slots.
        experts: routed experts of a layer.
        path: where; .png, .svg or .pdf.
        title: what stands above.

    Raises:
        InputError: matplotlib is not installed, or the place cannot be written.
    """
    figure = figure_for(path)
    figure.set_size_inches(8.4, 3.6)
    figure.set_layout_engine("constrained")
    panels = figure.subplots(1, 2, sharex=True)
    every = sorted({slots for by_slots in saved.values() for slots in by_slots})
    for axis, name, what in zip(
        panels, Saved._fields, ("bytes between nodes", "time of MoE layers"), strict=True
    ):
        for slots in every:
            points = [
                (str(nodes), 100 * getattr(by_slots[slots], name))
                for nodes, by_slots in saved.items()
                if slots in by_slots
            ]
            more = f" (+{100 * (slots / experts - 1):.0f} %)" if slots > experts else ""
            axis.plot(*zip(*points, strict=True), "o-", label=f"{slots} slots{more}")
        axis.axhline(0, color="0.6", linewidth=0.8)
        axis.set_xlabel("nodes")
        axis.set_ylabel(f"{what} saved, %")
        axis.margins(x=0.1)
    panels[0].legend(fontsize=8)
    figure.suptitle(title, fontsize=11)
    save_figure(figure, path)
