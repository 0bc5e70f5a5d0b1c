"""Pictures of who sends to whom."""

from pathlib import Path

import numpy as np

from diffgenz.ui.plots.figure import figure_for, save_figure


def matrices_plot(matrices: dict[str, np.ndarray], path: Path, title: str) -> None:
    """Draws tokens from each node to each, a map for each placement, in one scale.

    Arguments:
        matrices: by name of the placement, [nodes, nodes]; over the mean of a pair.
        path: where; .png, .svg or .pdf.
        title: what stands above.

    Raises:
        InputError: matplotlib is not installed, or the place cannot be written.
    """
    figure = figure_for(path)
    count = len(matrices)
    figure.set_size_inches(1.2 + 2.7 * count, 3.4)
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, count, squeeze=False)[0]
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
    figure.suptitle(title, fontsize=11)
    save_figure(figure, path)
