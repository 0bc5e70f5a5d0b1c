"""The picture of a calibration: predicted against measured, a panel for each kernel family."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffgenz.calibrating.fitting import CENTRAL_80, predict
from diffgenz.calibrating.transfer import Measured
from diffgenz.ui.plots.axes import is_wide, plain_ticks, short
from diffgenz.ui.plots.figure import figure_for, save_figure

_MOST = 4000
"""Rows of a kernel that are drawn at most."""

_ACROSS = 3
"""Panels beside each other."""


def calibrate_plot(kernels: Sequence[Measured], path: Path, title: str) -> None:
    """Draw the time that each fit predicts against the one measured, for every row.

    Held-out rows are dark. The band holds four of five rows, as the widest fit of a family expects.

    Arguments:
        kernels: what was measured, with the fit of each.
        path: of the picture, .png, .svg or .pdf.
        title: above it.

    Raises:
        InputError: matplotlib is not installed, or it does not write such files.
    """
    families: dict[str, list[Measured]] = {}
    for each in kernels:
        families.setdefault(each.fit.family, []).append(each)
    across = min(_ACROSS, len(families))
    down = -(-len(families) // across)
    figure = figure_for(path)
    figure.set_size_inches(5.2 * across, 4.6 * down + 0.4)
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes, (family, members) in zip(panels, families.items(), strict=False):
        _panel(axes, family, members)
    for axes in panels[len(families) :]:
        axes.set_visible(False)
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    save_figure(figure, path)


def _panel(axes: Any, family: str, members: Sequence[Measured]) -> None:
    """One family: its kernels in colours of their own."""
    ends = [np.inf, 0.0]
    for place, each in enumerate(members):
        fit, samples = each.fit, each.samples
        picked = np.random.default_rng(0).permutation(len(samples))[:_MOST]
        predicted = predict(fit.form(**fit.values), samples.shape, each.hardware)
        measured, model = 1e6 * samples.seconds[picked], 1e6 * predicted[picked]
        held = samples.held_out[picked]
        error = f"{100 * fit.mean_error:.1f} % off" if fit.held_out else "error not known"
        label = short(" ".join(filter(None, (fit.format, fit.source, fit.kernel))), 34)
        colour = f"C{place % 10}"
        axes.plot(measured[~held], model[~held], ".", ms=3, alpha=0.25, color=colour)
        said = f"{label}: {error}"
        axes.plot(measured[held], model[held], ".", ms=4, alpha=0.8, color=colour, label=said)
        both = np.concatenate([measured, model])
        ends = [min(ends[0], both.min()), max(ends[1], both.max())]
    line = np.array([ends[0] / 1.2, ends[1] * 1.2])
    wide = np.exp(CENTRAL_80 * max(each.fit.scatter for each in members))
    axes.plot(line, line, color="0.3", lw=1)
    axes.fill_between(line, line / wide, line * wide, color="0.3", alpha=0.12, lw=0)
    axes.set(
        xscale="log",
        yscale="log",
        xlim=line,
        ylim=line,
        xlabel="measured, us",
        ylabel="predicted, us",
    )
    axes.set_title(f"{family}; band: +-{100 * (wide - 1):.0f} %, dark: held out", fontsize=10)
    for axis in (axes.xaxis, axes.yaxis):
        if is_wide(line):
            plain_ticks(axis, np.geomspace(line[0], line[1], 9))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="upper left")
