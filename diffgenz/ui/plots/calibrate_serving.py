"""The picture of an end-to-end calibration: predicted against measured, a panel for each metric."""

from pathlib import Path

import numpy as np

from diffgenz.calibrating.end_to_end.calibrate_serving import ServingCalibration
from diffgenz.calibrating.end_to_end.predicted import METRICS
from diffgenz.ui.plots.axes import plain_ticks
from diffgenz.ui.plots.figure import figure_for, save_figure

_TITLES = {"ttft": "time to first token", "tpot": "time per output token", "end_to_end": "whole"}


def calibrate_serving_plot(found: ServingCalibration, path: Path, title: str) -> None:
    """Draw predicted against measured ms: nothing fitted in grey, held-out predictions in colour.

    Arguments:
        found: the calibration.
        path: of the picture, .png, .svg or .pdf.
        title: above it.

    Raises:
        InputError: matplotlib is not installed, or it does not write such files.
    """
    case = next(
        (name for name in ("configuration", "deployment") if name in found.errors), "in sample"
    )
    names = [name for name in METRICS if name in found.medians("nothing fitted")]
    engines = np.array([row.benchmark.engine for row in found.rows])
    logs = np.stack([row.logs for row in found.rows])
    figure = figure_for(path)
    figure.set_size_inches(5.4 * len(names), 5.0)
    panels = figure.subplots(1, len(names), squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=True):
        place = METRICS.index(name)
        measured = 1e3 * np.exp(logs[:, place])
        before = measured * np.exp(found.errors["nothing fitted"][:, place])
        after = measured * np.exp(found.errors[case][:, place])
        axes.plot(measured, before, ".", ms=3, alpha=0.35, color="0.6", label="nothing fitted")
        for index, engine in enumerate(dict.fromkeys(engines.tolist())):
            mine = engines == engine
            off = np.abs(np.expm1(found.errors[case][mine, place]))
            off = off[np.isfinite(off)]
            if len(off):
                label = f"{engine or 'fitted'}: {100 * np.median(off):.1f} % off"
                axes.plot(
                    measured[mine],
                    after[mine],
                    ".",
                    ms=4,
                    alpha=0.7,
                    color=f"C{index}",
                    label=label,
                )
        both = np.concatenate([measured, before, after])
        both = both[np.isfinite(both)]
        line = np.array([both.min() / 1.2, both.max() * 1.2])
        axes.plot(line, line, color="0.3", lw=1)
        axes.fill_between(line, line / 1.2, line * 1.2, color="0.3", alpha=0.1, lw=0)
        axes.set(xscale="log", yscale="log", xlim=line, ylim=line)
        for axis in (axes.xaxis, axes.yaxis):
            plain_ticks(axis, np.geomspace(line[0], line[1], 9))
        axes.set(xlabel="measured, ms", ylabel="predicted, ms")
        held = "in sample" if case == "in sample" else f"{case}s held out"
        axes.set_title(f"{_TITLES[name]}; {held}; band: +-20 %", fontsize=10)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="upper left")
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    save_figure(figure, path)
