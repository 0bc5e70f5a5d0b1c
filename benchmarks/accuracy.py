"""How far kernel models are from measured kernels on shapes that they were not fitted to.

    pip install "diffgenz[calibration]"
    python benchmarks/accuracy.py [--quick] [--shipped] [--json OUT] [--data DIR] [--plots DIR]

The first line installs the measured tables; `--data DIR` names a folder that has them already.
Without either, this script says so and checks nothing.

Each kernel family, accelerator, format and software is fitted in this run, with a fifth of its
shapes held out by a hash of the shape. With --shipped, fits that were made of the very same rows
are taken as they are. Three baselines stand beside it on the same shapes:

(a) the peak roofline;
(b) a roofline with two efficiencies and a launch latency, fitted in the same way;
(c) gradient-boosted trees on the logarithms of the shape (scikit-learn). They show what a model of
    31 x 300 leaves that knows no physics reaches, which is about the floor of the table.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from report import Report, parser_of

sys.path.insert(0, str(Path(__file__).parent.parent / "calibration"))
from refit import SYSTEMS, data_folder, kernels_of

from diffgenz.calibrating.calibrate import usable_rows
from diffgenz.calibrating.fitting import Errors, fit, predict
from diffgenz.calibrating.samples import Samples
from diffgenz.core.smooth import Leaf
from diffgenz.hardware.specs import read_spec
from diffgenz.kernels.fits import KernelFit, read_fits
from diffgenz.kernels.form import Form, Work, parameter
from diffgenz.kernels.selection import fit_path
from diffgenz.kernels.shapes import Number
from diffgenz.ui.tables import table


class Target(NamedTuple):
    """The mean absolute percentage error that fits should reach, and which fits.

    Arguments:
        family, format, system, source: what the names of those fits begin with; "" is any.
        error: the largest that is good enough, in %.
    """

    family: str
    format: str
    system: str
    source: str
    error: float

    def meant(self, row: dict[str, Any]) -> bool:
        """Whether a row of the report should reach it."""
        return all(
            row[name].startswith(getattr(self, name))
            for name in ("family", "format", "system", "source")
        )


NO_TABLES = """\
Nothing is measured without tables of kernels. To get them:
    pip install "diffgenz[calibration]"
or give a folder that has them, with a folder for each accelerator: --data DIR"""

TITLE = (
    "Held-out errors, mean absolute %, beside (a) the peak roofline, (b) 2 efficiencies and "
    "launch, (c) boosted trees:"
)
HEADER = (
    *("system", "family", "format", "source", "kernel", "rows", "par."),
    *("mean %", "median %", "in 80 %", "peak", "2 eff.", "trees", "fit s"),
)

TARGETS = [
    *(
        Target("gemm", "bf16", system, "", error)
        for system, error in (("h100", 6.5), ("h200", 6.5), ("b200", 7.5), ("a100", 8.0))
    ),
    *(Target("gemm", format, "", "", error) for format, error in (("fp8", 9.0), ("nvfp4", 7.0))),
    *(
        Target("decode", "bf16", system, "", error)
        for system, error in (("h100", 9.5), ("h200", 9.5), ("b200", 7.0), ("a100", 13.0))
    ),
    *(
        Target("prefill", "bf16", system, "", error)
        for system, error in (("h100", 8.0), ("h200", 8.0), ("b200", 8.0), ("a100", 7.0))
    ),
    *(
        Target("experts", "fp8_block", "", software, error)
        for software, error in (("trtllm", 8.0), ("sglang", 9.0), ("vllm", 10.0))
    ),
    *(
        Target("experts", format, "", "", error)
        for format, error in (("nvfp4", 12.0), ("bf16", 16.0))
    ),
    *(
        Target(family, "", "", "nccl", 8.0)
        for family in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")
    ),
    *(Target(family, "", "", "", 10.0) for family in ("dispatch", "combine")),
]


class Floor(NamedTuple):
    """The two parts of the peak roofline.

    Arguments:
        computing: s at the peak.
        moving: s at the full bandwidth.
    """

    computing: Number
    moving: Number


class TwoEfficiencies(Form):
    """Baseline (b): the 8-norm of computing / compute and moving / memory, plus a launch.

    Arguments:
        compute, memory: efficiencies.
        launch: in launch latencies of the hardware.
    """

    Shape: ClassVar[type] = Floor

    compute: Leaf = parameter(0.7, 0.7, 1.0)
    memory: Leaf = parameter(0.7, 0.7, 1.0)
    launch: Leaf = parameter(2.0, 1.0)

    @classmethod
    def work(cls, shape: Floor) -> Work:
        return Work(0 * shape.computing, 0 * shape.moving)

    def seconds(self, shape: Floor, hardware: Any, /) -> Number:
        computing, moving = shape.computing / self.compute, shape.moving / self.memory
        return (computing**8 + moving**8) ** 0.125 + self.launch * hardware.launch


def floor_of(samples: Samples, hardware: Any) -> Floor:
    """The peak roofline of each row.

    Families whose work is not FLOP and bytes have one bound, which counts as moving.

    Arguments:
        samples: the rows.
        hardware: what they ran on.
    """
    work = samples.form.work(samples.shape)
    if isinstance(work, Work):
        parts = (work.flops / hardware.flops, work.moved / hardware.bandwidth)
        return Floor(*(np.broadcast_to(np.asarray(part, float), len(samples)) for part in parts))
    return Floor(np.zeros(len(samples)), np.asarray(work.bound(hardware), float))


def boosted(samples: Samples) -> Errors | None:
    """The held-out errors of baseline (c); None where scikit-learn is not installed."""
    try:
        from sklearn.ensemble import HistGradientBoostingRegressor  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    features = np.log1p(np.column_stack(samples.shape))
    test = samples.held_out
    trees = HistGradientBoostingRegressor(max_iter=300, learning_rate=0.1, random_state=0)
    trees.fit(features[~test], np.log(samples.seconds[~test]))
    return Errors.of(np.exp(trees.predict(features[test])), samples.seconds[test])


def measured(
    systems: tuple[str, ...], data: Path, families: tuple[str, ...]
) -> Iterator[tuple[str, Samples, Any]]:
    """The cleaned rows of each kernel that has some to hold out.

    Arguments:
        systems: ids of the accelerators.
        data: the folder of tables, which has a folder for each of them.
        families: of kernels; none: all.

    Yields:
        The id of the accelerator, the rows, and the hardware that they ran on.
    """

    def tell(words: str) -> None:
        print(f"left out: {words}", file=sys.stderr)

    for system in systems:
        for path, samples in kernels_of(system, data):
            if not families or samples.family in families:
                usable = usable_rows(samples, read_spec(system), path, tell)
                if usable is not None and usable[0].held_out.any():
                    yield system, *usable


def row_of(
    system: str, samples: Samples, hardware: Any, starts: int, shipped: list[KernelFit]
) -> tuple[dict[str, Any], np.ndarray]:
    """Fit one kernel's rows, or take its shipped fit, and compare with the baselines.

    Arguments:
        system: id of the accelerator.
        samples: the rows of the kernel.
        hardware: what they ran on.
        starts: of the fit.
        shipped: fits, of which one that was made of the very same rows is taken as it is.

    Returns:
        One row of the report, and the model's seconds for each of the samples.
    """
    begin = time.perf_counter()
    known = [
        each
        for each in shipped
        if (each.data, each.kernel, each.form) == (samples.digest, samples.kernel, samples.form)
    ]
    ours = known[0] if known else fit(samples, hardware, starts=starts)
    seconds = None if known else time.perf_counter() - begin
    test, floor = samples.held_out, floor_of(samples, hardware)
    peak = Errors.of(np.maximum(*floor)[test], samples.seconds[test])
    plain = Samples(TwoEfficiencies, "", "", "", "", floor, samples.seconds)
    roofline = fit_as(plain, hardware, test)
    trees = boosted(samples)
    row = {
        "system": system,
        "family": samples.family,
        "format": samples.format,
        "source": samples.source,
        "kernel": samples.kernel,
        "rows": len(samples),
        "left_out": samples.dropped,
        "parameters": len(ours.values),
        "mean": ours.mean_error,
        "median": ours.median_error,
        "coverage": ours.coverage,
        "peak_mean": peak.mean,
        "roofline_mean": roofline.mean,
        "trees_mean": None if trees is None else trees.mean,
        "fit_seconds": seconds,
    }
    return row, predict(ours.fitted, samples.shape, hardware)


def fit_as(samples: Samples, hardware: Any, test: np.ndarray) -> Errors:
    """The errors of baseline (b).

    Arguments:
        samples: all rows, as `TwoEfficiencies` sees them.
        hardware: what they ran on.
        test: which of them the errors are of; it is fitted to the others.
    """
    train = samples.only(~test)
    found = fit(train, hardware, starts=8)
    return Errors.of(
        predict(found.fitted, samples.only(test).shape, hardware), samples.seconds[test]
    )


def main() -> None:
    """Run it."""
    parser = parser_of(
        __doc__, quick="matrix products and decode attention on H100 alone, 16 starts"
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=data_folder(),
        help="a folder per system (default: those of the installed aiconfigurator-core)",
    )
    parser.add_argument(
        "--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS), help="(default: all)"
    )
    parser.add_argument(
        "--shipped",
        action="store_true",
        help="take the shipped fits of the very same rows: only the baselines are fitted",
    )
    parser.add_argument("--families", nargs="+", default=[], help="kernel families (default: all)")
    parser.add_argument(
        "--plots",
        type=Path,
        metavar="DIR",
        help="draw predicted against measured, and residuals against every column of the shape",
    )
    options = parser.parse_args()
    report, lines = Report(), []
    if options.data is None:
        print(NO_TABLES)
        report.finish(options.json)
        return
    systems, families, starts = tuple(options.systems), tuple(options.families), 256
    if options.quick:
        systems, families, starts = ("h100_sxm",), ("gemm", "decode"), 16
    for system, samples, hardware in measured(systems, options.data, families):
        taken = options.shipped and fit_path(system).is_file()
        shipped = read_fits(fit_path(system))[1] if taken else []
        row, predicted = row_of(system, samples, hardware, starts, shipped)
        report.rows.append(row)
        lines.append(line_of(row))
        print("  ".join(lines[-1]), file=sys.stderr, flush=True)
        if options.plots:
            from accuracy_plots import draw

            draw(row, samples, predicted, options.plots)
    if not lines:
        print(f"No tables of {', '.join(systems)} in {options.data}; {NO_TABLES}")
    else:
        print(f"{TITLE}\n\n{table(HEADER, lines, 'lllll')}")
        check(report)
    report.finish(options.json)


def line_of(row: dict[str, Any]) -> tuple[str, ...]:
    """A row of the report as a line of the table (`HEADER`)."""
    errors = ("mean", "median", "coverage", "peak_mean", "roofline_mean", "trees_mean")
    shown = ["-" if row[name] is None else f"{100 * row[name]:.1f}" for name in errors]
    names = (row["system"], row["family"], row["format"], row["source"], row["kernel"][:24])
    seconds = "-" if row["fit_seconds"] is None else f"{row['fit_seconds']:.1f}"
    return (*names, f"{row['rows']:,}", str(row["parameters"]), *shown, seconds)


def check(report: Report) -> None:
    """Add the checks: of errors, of the coverage of intervals, and of the seconds of a fit."""
    for row in report.rows:
        for target in TARGETS:
            if target.meant(row):
                names = [row[key] for key in ("family", "format", "system", "source")]
                name = f"{' '.join(names)} {row['kernel'][:20]}"
                report.check(name, 100 * row["mean"], "%", target.error)
    large = [100 * row["coverage"] for row in report.rows if row["rows"] >= 1000]
    if large:
        of = "coverage of nominal 80 % intervals, 1000 rows or more"
        report.check(f"lowest {of}", min(large), "%", 70, at_least=True)
        report.check(f"highest {of}", max(large), "%", 90)
    seconds = [row["fit_seconds"] for row in report.rows if row["fit_seconds"] is not None]
    if seconds:
        report.check("slowest fit", max(seconds), "s", 60)


if __name__ == "__main__":
    main()
