"""Pictures: labels that can be read, units on axes, no lines between choices; refused in time."""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from fit_cases import H100, planted
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from space_cases import TINY

import diffgenz as dgz
from diffgenz.calibrating.transfer import Measured
from diffgenz.hardware.specs import specs_folder
from diffgenz.inference.roofline import roofline
from diffgenz.ui.cli.main import main
from diffgenz.ui.plots.axes import edges, name_points, short, untangle
from diffgenz.ui.plots.calibrate import calibrate_plot
from diffgenz.ui.plots.estimate import estimate_plot
from diffgenz.ui.plots.parallel import parallel_plot
from diffgenz.ui.plots.sweep import plot

KEEP = """
[keep.choices]
kind = "best"
by = ["system", "plan"]
maximize = "throughput"
[keep.mixed]
kind = "best"
by = ["system", "batch"]
maximize = "throughput"
[keep.numbers]
kind = "best"
by = ["memory_bandwidth", "batch"]
maximize = "throughput"
[keep.best]
kind = "top"
maximize = "throughput"
[keep.three]
kind = "pareto"
minimize = ["memory_bandwidth", "tpot"]
maximize = ["throughput"]
"""
LONG = "an_accelerator_with_a_name_that_is_far_too_long_for_a_label"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    here = tmp_path_factory.mktemp("pictures")
    (here / f"{LONG}.toml").write_text((specs_folder() / "h200_sxm.toml").read_text())
    systems = f'system = {{ systems = ["h100_sxm", "{LONG}.toml", "a100_sxm"] }}'
    text = TINY.replace('"h100_sxm"\n', '"h100_sxm"\nfit = "none"\n', 1)
    text = text.replace("[axes]", f"[axes]\n{systems}").replace('"4 TB/s"]', '"4 TB/s", "8 TB/s"]')
    (here / "space.toml").write_text(text + KEEP)
    return dgz.sweep(*dgz.load_space(here / "space.toml"))


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    figures = []
    saved = Figure.savefig

    def savefig(self, *arguments, **options):
        figures.append(self)
        saved(self, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return figures


def texts_that_touch(figure):
    """Pairs of labels of one axis that are seen and overlap."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    touching = []
    for axes in figure.axes:
        for axis, along in ((axes.xaxis, 0), (axes.yaxis, 1)):
            low, high = sorted(axis.get_view_interval())
            labels = [
                tick.label1
                for tick in axis.get_major_ticks()
                if low <= tick.get_loc() <= high and tick.label1.get_visible()
            ]
            if any(label.get_rotation() not in (0, 90) for label in labels):
                continue  # turned ones lie beside each other
            boxes = [label.get_window_extent(canvas.get_renderer()) for label in labels]
            boxes.sort(key=lambda box: box.min[along])
            touching += [1 for a, b in pairwise(boxes) if a.max[along] > b.min[along] + 1]
    return touching


def save(figures, draw, path):
    """Draw, and hand back the figure."""
    draw(path)
    assert path.read_bytes().startswith(b"\x89PNG")
    return figures[-1]


KINDS = [
    ("front", None),
    ("three", None),
    ("map", None),
    ("slow", None),
    ("choices", None),
    ("mixed", None),
    ("numbers", None),
    ("mixed", "plan"),
    ("numbers", "system"),
    ("numbers", "memory_bandwidth"),
]


@pytest.mark.parametrize(("name", "value"), KINDS)
def test_pictures_of_a_sweep_can_be_read(name, value, found, drawn, tmp_path):
    figure = save(drawn, lambda path: plot(found, name, path, value), tmp_path / "a.png")
    assert not texts_that_touch(figure)
    first = figure.axes[0]
    assert first.get_xlabel()
    assert first.get_ylabel()
    has_lines = any(isinstance(each, ContourSet) for each in first.get_children())
    assert has_lines == (name in ("map", "numbers") and value is None)
    said = [label.get_text() for axes in figure.axes for label in axes.get_xticklabels()]
    assert not any(text.endswith(".toml") for text in said)


def test_parallel_coordinates_name_units(found, drawn, tmp_path):
    figure = save(drawn, lambda path: parallel_plot(found, "best", path), tmp_path / "a.png")
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert "memory_bandwidth\nTB/s" in labels
    assert all(len(text.get_text()) <= 20 for text in figure.axes[0].texts)


def test_an_estimate_is_drawn(drawn, llama_8b, tmp_path):
    case = dgz.Scenario(llama_8b, dgz.load_platform("h100_sxm", 2, fit="none"), dgz.Workload(4))
    where = dgz.breakdown(case)
    roofs = roofline(case)
    figure = save(
        drawn, lambda path: estimate_plot(case, where, roofs, path, "title"), tmp_path / "a.png"
    )
    assert not texts_that_touch(figure)
    labels = {axes.get_xlabel() for axes in figure.axes}
    assert labels == {"TTFT, ms", "TPOT, ms", "arithmetic intensity, FLOP/B"}
    bars = next(axes for axes in figure.axes if axes.get_xlabel() == "TTFT, ms")
    widths = sum(patch.get_width() for patch in bars.patches)
    assert widths == pytest.approx(1e3 * float(np.sum(np.asarray(where.ttft))), rel=1e-5)
    accelerator = case.platform.accelerator
    for roof in roofs:
        for intensity, speed in roof.points().values():
            bound = min(
                float(accelerator.peak("bf16")), intensity * float(accelerator.memory_bandwidth)
            )
            assert 0 < speed <= 1.0001 * bound  # nothing is above the roof


def test_the_arithmetic_of_a_product_by_hand(llama_8b):
    case = dgz.Scenario(
        llama_8b, dgz.load_platform("h100_sxm", 1, fit="none"), dgz.Workload(1, 100, 10)
    )
    prefill = roofline(case)[0]
    row = prefill.operators.index("down")
    assert float(np.asarray(prefill.flops)[row]) == pytest.approx(32 * 2 * 100 * 4096 * 14336)
    traffic = 32 * 2 * (4096 * 14336 + 100 * 14336 + 100 * 4096)
    assert float(np.asarray(prefill.traffic)[row]) == pytest.approx(traffic)


def test_a_calibration_is_drawn(drawn, tmp_path, request):
    fit = request.getfixturevalue("fit_of_planted")
    samples = planted()
    kernels = [Measured("h100_sxm", samples, H100, fit)]
    figure = save(drawn, lambda path: calibrate_plot(kernels, path, "title"), tmp_path / "a.png")
    assert not texts_that_touch(figure)
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("measured, us", "predicted, us")
    points = sum(len(line.get_xdata()) for line in axes.lines if line.get_marker() == ".")
    assert points == len(samples)


@pytest.fixture(scope="module")
def fit_of_planted():
    from diffgenz.calibrating.fitting import fit

    return fit(planted(), H100, starts=4)


@pytest.mark.parametrize(
    "arguments",
    [
        ["estimate", "missing", "--system", "missing"],
        ["search", "missing", "--system", "missing", "--gpus", "8"],
        ["pareto", "missing"],
        ["calibrate", "missing", "--system", "missing"],
    ],
    ids=lambda words: words[0],
)
def test_a_picture_that_cannot_be_drawn_is_refused_before_anything_is_read(
    arguments, monkeypatch, capsys
):
    assert main([*arguments, "--plot", "a.xyz"]) == 2
    assert "'a.xyz' is of no known kind; use .png, .svg or .pdf" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main([*arguments, "--plot", "a.png"]) == 2
    assert "needs matplotlib; install it with" in capsys.readouterr().err


def test_what_is_not_drawn_is_said(capsys, tmp_path):
    words = ["estimate", "meta-llama/Llama-3.1-70B", "--system", "l4", "--fit", "none"]
    picture = tmp_path / "a.png"
    assert main([*words, "--plot", str(picture)]) == 0
    assert "is not written: what does not fit has no times to draw" in capsys.readouterr().out
    assert not picture.exists()
    assert main([*words, "--batch", "1", "2", "--plot", str(picture)]) == 2
    assert "--plot: one estimate is drawn, not 2; give one --batch" in capsys.readouterr().err
    suggest = ["calibrate", "--system", "h100_sxm", "--suggest", "1", "--plot", str(picture)]
    assert main(suggest) == 2


def test_cells_meet_halfway_on_the_scale_that_shows_them():
    assert edges(np.array([1.0, 2.0, 3.0])) == pytest.approx([0.5, 1.5, 2.5, 3.5])
    assert edges(np.array([1.0, 4.0, 16.0])) == pytest.approx([0.5, 2.0, 8.0, 32.0])
    assert edges(np.array([7.0])) == pytest.approx([6.5, 7.5])


def test_labels_that_collide_are_turned_or_thinned():
    figure = Figure(figsize=(3, 2))
    axes = figure.subplots()
    axes.set_xticks(range(4), [f"a rather long name {place}" for place in range(4)])
    assert texts_that_touch(figure)
    untangle(figure)
    assert not texts_that_touch(figure)
    figure = Figure(figsize=(3, 2))
    axes = figure.subplots()
    axes.set_xticks([0, 0.001, 1], ["1,000", "1,001", "2,000"])
    untangle(figure)
    assert not texts_that_touch(figure)


def test_names_beside_points_keep_clear_of_each_other():
    figure = Figure(figsize=(6, 4))
    axes = figure.subplots()
    names = [(f"operator {place}", 0.5 + place * 1e-3, 0.5, "k") for place in range(6)]
    name_points(axes, names)
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [text.get_window_extent(renderer) for text in axes.texts]
    assert len(boxes) == 6
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_names_beside_points_keep_clear_of_lines():
    figure = Figure(figsize=(6, 4))
    axes = figure.subplots()
    (line,) = axes.plot([0, 1], [0, 1])
    name_points(axes, [("an operator", 0.5, 0.5, "k")])
    box = axes.texts[0].get_window_extent(FigureCanvasAgg(figure).get_renderer())
    ends = line.get_transform().transform([[0, 0], [1, 1]])
    along = np.linspace(*ends, 1000)
    assert not any(box.contains(*place) for place in along)


def test_long_labels_are_cut():
    assert short("abc") == "abc"
    assert len(short(LONG)) == 28
    assert short(LONG).endswith("…")
    assert Path(LONG).suffix == ""
