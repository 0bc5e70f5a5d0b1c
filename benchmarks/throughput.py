"""Speed of dense estimates and of their hardware gradients, with the accuracy of the same run.

    python benchmarks/throughput.py [--quick] [--json OUT]

Every number of model, platform, workload, plan and precision varies from configuration to
configuration; sizes are integers, as they are in life. An estimate is every metric of `Estimate`.
Each row says what times the kernels: the roofline, or the fitted kernels of H100, whose parameters
are constants here as they are in a sweep (calibrated.py varies them, too). The same run measures
the baselines: the same formulas in plain numpy (`numpy_baseline.py`, which is also the independent
check) and `genz-llm` where it is installed (pip install "diffgenz[genz]").
"""

import contextlib
import io
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from dense import (
    cast,
    columns,
    configuration,
    direction_error,
    double_error,
    fitted_columns,
    fitted_configuration,
    fitted_kernels,
    fitted_metrics,
    gradient,
    hardware_gradient,
    hardware_objective,
    metrics,
    objective,
    on_edge,
    with_kernels,
)
from numpy_baseline import estimate as numpy_estimate
from report import Report, Timing, parser_of, seconds_of, timed

from diffgenz.core.batches import keep_memory, wide_vectors
from diffgenz.core.leaves import leaf_names, number_at
from diffgenz.ui.tables import number, table

REFERENCE = 100_000
"""Configurations in a call for which the targets are set."""

BLOCK = 2**14
"""Configurations in a call whose columns and intermediate results stay in the caches."""


ROOFLINE, FITTED = "roofline", "fitted kernels"
"""What times the kernels of a row."""

Name = TypeVar("Name")


class Program:
    """A compiled, batched function, and its costs in counts that noise cannot blur.

    Arguments:
        function: of one configuration.
        example: a batch of configurations, stacked along the first axis of every leaf.

    `fusions` are the loops of the compiled program; `bytes` and `flops` are those that XLA counts
    for one configuration; `compile_seconds` are those of tracing and compiling.
    """

    def __init__(self, function: Any, example: Any):
        count = len(jax.tree.leaves(example)[0])
        start = time.perf_counter()
        lowered = jax.jit(jax.vmap(function), compiler_options=wide_vectors()).lower(example)
        self.run = lowered.compile()
        self.compile_seconds = time.perf_counter() - start
        text = self.run.as_text() or ""
        entry = text[text.index("ENTRY") :]
        self.fusions = len(re.findall(r"\) fusion\(|\} fusion\(|\] fusion\(", entry))
        costs: Any = self.run.cost_analysis()
        self.bytes, self.flops = costs["bytes accessed"] / count, costs["flops"] / count

    def __call__(self, example: Any) -> Any:
        return jax.block_until_ready(self.run(example))

    @property
    def counts(self) -> dict[str, float]:
        """The counts for a row of the report: fusions, and B and FLOP of one configuration."""
        return {"fusions": self.fusions, "bytes": self.bytes, "flop": self.flops}

    def check(
        self, report: Report, name: str, fusions: int, size: float, flops: float | None = None
    ) -> None:
        """Add checks of the fusions and the bytes to a report, and of the FLOP where asked.

        Arguments:
            report: where they are added.
            name: of the program.
            fusions: most of them that are allowed.
            size: most B of a configuration that are allowed.
            flops: most FLOP of a configuration that are allowed; None: any.
        """
        report.check(f"{name}: fusions", self.fusions, "", fusions)
        report.check(f"{name}: bytes a configuration", self.bytes, "B", size)
        if flops is not None:
            report.check(f"{name}: FLOP a configuration", self.flops, "FLOP", flops)


class Measured(NamedTuple):
    """Seconds of repeated runs: on the clock, and of all cores together."""

    wall: Timing
    cpu: Timing


def interleaved(runs: Mapping[Name, Callable[[], Any]], repeats: int) -> dict[Name, Measured]:
    """The seconds of several runs, taken in turns, so that a machine that drifts slows all.

    Arguments:
        runs: by name; each is called once more, unmeasured, before the others.
        repeats: how often each is measured.
    """
    found: dict[Name, list[tuple[float, float]]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(repeats):
        for name, run in runs.items():
            busy = time.process_time()
            seconds = seconds_of(run)
            found[name].append((seconds, time.process_time() - busy))
    return {
        name: Measured(*(timing_of(list(each)) for each in zip(*pairs, strict=True)))
        for name, pairs in found.items()
    }


def on_device(c: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """The columns as JAX arrays."""
    return {name: jnp.asarray(values) for name, values in c.items()}


def rate_row(name: str, count: int, timing: Timing, kernels: str) -> dict[str, Any]:
    """A row of the table: configurations, and their rate per second with its spread.

    Arguments:
        name: of the row.
        count: configurations that a run evaluates.
        timing: of the runs.
        kernels: what times the kernels.
    """
    return {
        "name": name,
        "kernels": kernels,
        "configurations": count,
        "per_second": count / timing.median,
        "per_second_fastest": count / timing.fastest,
        "per_second_slowest": count / timing.slowest,
    }


def forward_error(count: int) -> float:
    """The largest relative difference of any metric from the float64 numpy baseline.

    Arguments:
        count: random configurations that are compared.
    """
    c = columns(count, seed=1)
    ours = jax.jit(jax.vmap(metrics))(on_device(c))
    reference = numpy_estimate({name: values.astype(np.float64) for name, values in c.items()})
    return max(
        float(np.max(np.abs(np.asarray(ours[name], np.float64) / reference[name] - 1)))
        for name in reference
    )


def gradient_error(count: int) -> float:
    """The largest difference of an elasticity from central differences in float64.

    It is relative where the elasticity is above 0.01.

    Arguments:
        count: random configurations that are compared.
    """
    case = jax.vmap(configuration)(on_device(columns(count, seed=2)))
    slopes = jax.jit(jax.vmap(jax.grad(objective)))(case.platform, case)
    worst, step = 0.0, 1e-5
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float64), case)
        leaves, structure = jax.tree.flatten(wide.platform)
        value = jax.jit(jax.vmap(objective))
        for index, path in enumerate(leaf_names(wide.platform).values()):
            about = number_at(wide.platform, path)
            if about is not None and about.structure:
                continue  # derivatives are zero by definition

            def moved(sign: int, at: int = index) -> np.ndarray:
                there = [*leaves[:at], leaves[at] * np.exp(sign * step), *leaves[at + 1 :]]
                return np.asarray(value(jax.tree.unflatten(structure, there), wide))

            exact = (moved(1) - moved(-1)) / (2 * step)
            slope = np.asarray(jax.tree.leaves(slopes)[index], np.float64)
            error = np.abs(slope * np.asarray(leaves[index]) - exact)
            worst = max(worst, float(np.max(error / np.maximum(np.abs(exact), 0.01))))
    return worst


def fitted_gradient_error(count: int) -> float:
    """`gradient_error` along random directions, where constant fitted kernels time the operators.

    Arguments:
        count: random configurations that are compared.
    """
    kernels = fitted_kernels()
    numbers = fitted_columns(count, seed=2)
    case = jax.vmap(lambda c: fitted_configuration((c, kernels)))(cast(numbers, jnp.float32))
    return direction_error(hardware_objective, with_kernels(case.platform, None), case)


def genz_seconds(runs: int) -> float | None:
    """Seconds of one prefill and one decode estimate of genz-llm; None where it is not installed.

    Arguments:
        runs: of which the median is taken.
    """
    try:
        from GenZ import decode_moddeling, prefill_moddeling  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    common = {
        "model": "meta-llama/Llama-3.1-70B",
        "batch_size": 8,
        "input_tokens": 2048,
        "system_name": "H100_GPU",
        "tensor_parallel": 8,
    }

    def both() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            prefill_moddeling(**common)
            decode_moddeling(**common, output_tokens=256, Bb=1)

    return timed(both, runs).median


def main() -> None:
    """Measure, print, write."""
    options = parser_of(__doc__).parse_args()
    report = Report()
    keep_memory()

    reference, kernels = on_device(fitted_columns(REFERENCE, seed=0)), fitted_kernels()
    forward, backward = Program(metrics, reference), Program(gradient, reference)
    programs = {
        ("estimate", ROOFLINE): forward,
        ("gradient", ROOFLINE): backward,
        ("estimate", FITTED): Program(lambda c: fitted_metrics((c, kernels)), reference),
        ("gradient", FITTED): Program(lambda c: hardware_gradient((c, kernels)), reference),
    }
    runs = {key: lambda run=program: run(reference) for key, program in programs.items()}
    timings = {
        key: measured.wall
        for key, measured in interleaved(runs, 9 if options.quick else 25).items()
    }
    for count in (1_000, 10_000, REFERENCE, 1_000_000, 10_000_000)[: 3 if options.quick else 5]:
        if count == REFERENCE:
            for (name, timed_by), timing in timings.items():
                report.rows.append(rate_row(name, count, timing, timed_by))
            continue
        if count < REFERENCE:
            report.rows.append(_measure("estimate", metrics, fitted_columns(count, seed=0), 50))
        else:
            timing = _in_calls(forward, count)
            report.rows.append(rate_row("estimate", count, timing, ROOFLINE))
    wide = {name: values.astype(np.float64) for name, values in columns(REFERENCE, seed=0).items()}
    numpy_timing = timed(lambda: numpy_estimate(wide), 1 if options.quick else 3)
    report.rows.append(rate_row("numpy, the same formulas", REFERENCE, numpy_timing, ROOFLINE))
    genz = genz_seconds(3 if options.quick else 10)
    if genz is not None:
        timing = Timing(genz, genz, genz)
        report.rows.append(rate_row("genz-llm, prefill + decode", 1, timing, ROOFLINE))

    seconds = {key: timing.median for key, timing in timings.items()}
    estimates, gradients = seconds["estimate", ROOFLINE], seconds["gradient", ROOFLINE]
    rate, slope_rate = (REFERENCE / each / 1e6 for each in (estimates, gradients))
    report.check("full dense estimates at 1e5 a call", rate, "M/s", 20, at_least=True)
    error = forward_error(2_000 if options.quick else 100_000)
    report.check("float32 against float64 (independent numpy)", error, "relative", 2e-6)
    report.check("gradients at 1e5 a call", slope_rate, "M/s", 5, at_least=True)
    report.check("gradient over estimate", rate / slope_rate, "x", 6)
    for name in (ROOFLINE, FITTED):
        finite = 100 * finite_share(programs["gradient", name](reference))
        report.check(f"finite gradients, {name}", finite, "%", 100, at_least=True)
    error = gradient_error(50 if options.quick else 1_000)
    report.check("gradient against float64 differences", error, "relative", 1e-4)
    fitted = fitted_columns(2_000 if options.quick else 100_000, seed=1)
    edges = on_edge(fitted)
    error = double_error(lambda c: fitted_metrics((c, kernels)), fitted, but=edges)
    name = "float32 against float64, fitted kernels, off the edges of tiles"
    report.check(name, error, "relative", 1e-5)
    report.check("configurations on the edge of a tile", 100 * edges.mean(), "%", 0.1)
    error = fitted_gradient_error(50 if options.quick else 1_000)
    report.check("gradient against float64 differences, fitted kernels", error, "relative", 1e-3)
    forward.check(report, "estimate", fusions=40, size=1_010)
    backward.check(report, "gradient", fusions=110, size=5_000)
    report.check("estimate: trace and compile", forward.compile_seconds, "s", 2)
    report.check("gradient: trace and compile", backward.compile_seconds, "s", 5)

    cells = [
        (row["name"], row["kernels"], number(row["configurations"]), *rate_cells(row))
        for row in report.rows
    ]
    header = ("", "timed by", "configurations", "per second", "slowest", "fastest")
    print(table(header, cells, "ll"))
    print(f"\nestimate: {forward.flops:.0f} FLOP a configuration; gradient: {backward.flops:.0f}")
    report.finish(options.json)


def rate_cells(row: dict[str, Any]) -> tuple[str, ...]:
    """The rates of a row (`rate_row`) for people: median, slowest and fastest."""
    names = ("per_second", "per_second_slowest", "per_second_fastest")
    return tuple(number(row[name]) for name in names)


def count_cells(row: dict[str, Any]) -> tuple[str, ...]:
    """The counts of a row (`Program.counts`) for people: fusions, B and FLOP."""
    return tuple(number(row[name]) for name in ("fusions", "bytes", "flop"))


def finite_share(tree: Any) -> float:
    """The share of a tree's numbers that are finite: the mean over its arrays of each one's."""
    leaves = jax.tree.leaves(eqx.filter(tree, eqx.is_array))
    return float(np.mean([np.isfinite(np.asarray(leaf)).mean() for leaf in leaves]))


def _in_calls(program: Program, count: int) -> Timing:
    """The seconds of many configurations in calls of `REFERENCE`, 20 different ones at most."""
    calls = count // REFERENCE
    batches = [on_device(fitted_columns(REFERENCE, seed)) for seed in range(min(calls, 20))]
    return timed(lambda: [program(batches[i % len(batches)]) for i in range(calls)], 3)


def _measure(name: str, function: Any, c: dict[str, np.ndarray], repeats: int) -> dict[str, Any]:
    """The row of a function that is compiled for the configurations `c` alone."""
    example = on_device(c)
    program = Program(function, example)
    timing = timed(lambda: program(example), repeats)
    return rate_row(name, len(c["batch"]), timing, ROOFLINE)


def timing_of(seconds: list[float]) -> Timing:
    """The median and the extremes of the seconds of repeated runs."""
    return Timing(float(np.median(seconds)), min(seconds), max(seconds))


if __name__ == "__main__":
    main()
