"""Configurations per second of design-space sweeps with an exact Pareto front, and their memory.

    python benchmarks/sweep.py [--quick] [--json OUT]

Ten numbers of platform, workload and plan vary, drawn from a Sobol sequence, for Llama-3.1-70B and
for DeepSeek-V3; the front trades time per token, throughput per accelerator and cost. Kernels are
timed by the shipped fits of the accelerator, and beside that by the roofline. Every sweep runs in a
process of its own, whose peak memory is reported. Times are without compilation, which has a column
of its own.

The same run compares the front with brute force and the metrics with float64, counts the programs
that a second sweep of the same structure compiles, and measures the rate of bare estimates
(`throughput.py`) and two baselines: the same formulas in numpy on all cores, and genz-llm where it
is installed.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import re
import resource
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from dense import WHOLE
from numpy_baseline import estimate as numpy_estimate
from report import Report, parser_of, timed
from throughput import REFERENCE, Program, columns, genz_seconds, metrics, on_device

import diffgenz as dgz
from diffgenz.studies.sweep import program
from diffgenz.studies.sweep.engine import Engine
from diffgenz.ui.tables import number, table

DENSE, EXPERTS = "meta-llama/Llama-3.1-70B", "deepseek-ai/DeepSeek-V3"
GOALS = {
    "minimize": ("tpot", "cost_per_million_output_tokens"),
    "maximize": ("tokens_per_second_per_accelerator",),
}

FITS: dict[str, dict[str, str]] = {"fitted": {}, "roofline": {"fit": "none"}}
"""What times the kernels, and how a platform is loaded for it."""


def space(model: str, count: int, fit: str, scale: float = 1.0) -> dgz.Space:
    """A space of hypothetical platforms and deployments.

    Arguments:
        model: `DENSE` or `EXPERTS`.
        count: configurations.
        fit: what times the kernels, a key of `FITS`.
        scale: factor on the bounds of the hardware's peak and bandwidths; it does not change the
            structure.
    """
    experts = model == EXPERTS
    linear = "fp8_block" if experts else "bf16"
    precision = dgz.Precision(weights=linear, activations=linear)
    peak = "peak_flops[fp8]" if experts else "peak_flops[bf16]"
    plan = dgz.Parallelism(1, expert=64, attention_data=64) if experts else dgz.Parallelism(8)
    system = "h200_sxm" if experts else "h100_sxm"
    platform = dgz.load_platform(system, 64, **FITS[fit])
    layouts = {
        f"ep {ranks}": dgz.Parallelism(1, data=64 // ranks, expert=ranks, attention_data=ranks)
        for ranks in (8, 16, 32, 64)
    }
    ranks = (
        {"plan": dgz.axes.choice(layouts).sampled()}
        if experts
        else {"tensor": dgz.axes.values(1, 2, 4, 8).sampled()}
    )
    chat = dgz.Workload(64, 2048, 256)
    return dgz.Space(
        dgz.Scenario(dgz.load_model(model), platform, chat, plan, precision, WHOLE),
        {
            peak: dgz.axes.log_uniform(scale * 1e14, scale * 1e16),
            "memory_bandwidth": dgz.axes.log_uniform(scale * 1e12, scale * 16e12),
            "memory_capacity": dgz.axes.log_uniform(40e9, 600e9),
            "network[0].bandwidth": dgz.axes.log_uniform(scale * 5e10, scale * 2e12),
            "network[0].latency": dgz.axes.log_uniform(2e-7, 5e-6),
            "launch_latency": dgz.axes.log_uniform(5e-7, 5e-6),
            "accelerator.price": dgz.axes.log_uniform(1 / 3600, 20 / 3600),
            "workload.batch": dgz.axes.integers(1, 1024).sampled(),
            "workload.input_tokens": dgz.axes.integers(128, 16384, 128).sampled(),
            **ranks,
        },
        samples=count,
    )


def swept(model: str, count: int, fit: str) -> dict[str, Any]:
    """One sweep, in this process.

    Arguments:
        model: `DENSE` or `EXPERTS`.
        count: configurations.
        fit: what times the kernels, a key of `FITS`.

    Returns:
        Seconds of sweeping and of compiling, points on the front, feasible configurations, and the
        peak memory of this process in B.
    """
    engine = Engine(space(model, count, fit), (dgz.Pareto(**GOALS),))
    begun = time.perf_counter()
    engine.reduce(0, min(count, engine.batch))
    ready = time.perf_counter()
    outcome = engine.reduce(0, count)
    seconds = time.perf_counter() - ready
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    front = len(outcome.states[0]["indices"])
    return {
        "seconds": seconds,
        "compile": ready - begun,
        "front": front,
        "feasible": outcome.tally.feasible,
        "peak_memory": peak,
    }


def costs(model: str, fit: str) -> list[dict[str, Any]]:
    """What each of the three programs of a batch costs a configuration.

    Arguments:
        model: `DENSE` or `EXPERTS`.
        fit: what times the kernels, a key of `FITS`.

    Returns:
        A row for each program: fusions, B and FLOP as compiled, and nanoseconds as measured.
    """
    engine = Engine(space(model, 10**8, fit), (dgz.Pareto(**GOALS),))
    work, _ = engine._next(0, 10**8)
    asked = (work._asked, engine.space.decoder(0), work._offsets, work._run)
    levels, decoded = program._decode(*asked)
    estimated = (work._estimated, work._leaves, decoded)
    raw = program._estimate(*estimated)
    thresholds = tuple(
        reduction.threshold(state)
        for reduction, state in zip(engine.reductions, engine.start().states, strict=True)
    )
    columns, batch = work._level_columns(levels), np.uint32(engine.batch)
    screened = (work._screened, raw, columns, work._offsets, batch, thresholds)
    parts: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "decode": (program._decode, asked),
        "estimate": (program._estimate, estimated),
        "screen": (program._screen, screened),
    }
    rows = []
    for name, (function, arguments) in parts.items():
        compiled = function.lower(*arguments).compile()
        spent: Any = compiled.cost_analysis()
        fusions = len(re.findall(r"fusion\(", (compiled.as_text() or "").split("ENTRY")[-1]))
        seconds = timed(lambda f=function, a=arguments: jax.block_until_ready(f(*a)), 25).median
        row = {
            "name": f"{model}, {fit}: {name}",
            "fusions": fusions,
            "bytes": spent["bytes accessed"] / engine.batch,
            "flop": spent["flops"] / engine.batch,
        }
        rows.append(row | {"nanoseconds": 1e9 * seconds / engine.batch})
    return rows


def machine_limits() -> tuple[float, float]:
    """The B/s and the FLOP/s that XLA reaches on this machine.

    The first is that of adding two arrays which the caches hold, as they hold a batch's columns;
    the second that of chains of multiply-adds.
    """
    a, b = jnp.ones(2**16), jnp.ones(2**16)
    add = jax.jit(lambda xs, y: [x + y for x in xs])
    xs = [a * k for k in range(32)]
    seconds = timed(lambda: jax.block_until_ready(add(xs, b)), 25).median
    chain = jax.jit(lambda x: chains(x, 32))
    flop_seconds = timed(lambda: jax.block_until_ready(chain(a)), 25).median
    return 32 * 3 * 4 * 2**16 / seconds, 16 * 32 * 2**16 / flop_seconds


def chains(x: Any, times: int) -> Any:
    """Eight chains of x -> x x + c side by side, each run `times` times: 16 FLOP each time."""
    values = [x + 0.01 * chain for chain in range(8)]
    for _ in range(times):
        values = [value * value + 0.1 for value in values]
    return sum(values)


def in_a_process(model: str, count: int, fit: str) -> dict[str, Any]:
    """`swept` in a process of its own; the arguments are the same."""
    command = [sys.executable, __file__, "--one", model, str(count), fit]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def brute_force_agrees(model: str, count: int, fit: str) -> bool:
    """Whether a sweep's front is the one that comparing all pairs of single estimates gives.

    Arguments:
        model: `DENSE` or `EXPERTS`.
        count: configurations.
        fit: what times the kernels, a key of `FITS`.
    """
    few = space(model, count, fit)
    indices = list(range(count))
    front = dgz.sweep(few, {"front": dgz.Pareto(**GOALS)}, batch=1000).indices("front")
    m = program.metrics_at(few, indices)
    points = np.stack(
        [np.asarray(m[name]) for name in GOALS["minimize"]]
        + [-np.asarray(m[name]) for name in GOALS["maximize"]],
        1,
    )
    fits = np.asarray(m["memory.total"]) <= np.asarray(few.coordinates(indices)["memory_capacity"])
    able = points[fits]
    beaten = np.array([((able <= point).all(1) & (able < point).any(1)).any() for point in points])
    return sorted(front) == np.flatnonzero(fits & ~beaten).tolist()


def float64_error(model: str, count: int, fit: str, seed: int = 0) -> float:
    """The largest relative difference of a metric from the same estimate in float64.

    Arguments:
        model: `DENSE` or `EXPERTS`; the metrics are those that its front uses.
        count: random configurations that are compared.
        fit: what times the kernels, a key of `FITS`.
        seed: of the random generator.
    """
    whole = space(model, 10**9, fit)
    indices = [int(index) for index in np.random.default_rng(seed).integers(0, whole.size, count)]
    ours = program.metrics_at(whole, indices)
    scenarios = [whole.configuration(index) for index in indices]

    def stacked(*leaves: Any) -> jax.Array:
        return jnp.asarray(np.array([np.asarray(leaf) for leaf in leaves], np.float64))

    with jax.enable_x64(True):
        wide = jax.tree.map(stacked, *scenarios)
        exact = jax.jit(jax.vmap(dgz.estimate))(wide)

    def error(name: str) -> float:
        reference = np.asarray(getattr(exact, name), np.float64)
        return float(np.max(np.abs(np.asarray(ours[name]) / reference - 1)))

    return max(error(name) for name in (*GOALS["minimize"], *GOALS["maximize"]))


def recompilations(model: str) -> int:
    """Programs that a second sweep of the same structure, with other bounds and size, compiles."""
    goals = {"front": dgz.Pareto(**GOALS)}
    dgz.sweep(space(model, 10_000, "fitted"), goals)
    compiled: list[Any] = [program._decode, program._estimate, program._screen]
    before = [function._cache_size() for function in compiled]
    dgz.sweep(space(model, 20_000, "fitted", scale=1.5), goals)
    return sum(
        function._cache_size() - size for function, size in zip(compiled, before, strict=True)
    )


def numpy_part(seed: int) -> tuple[float, float]:
    """The work of one process of the numpy baseline.

    Arguments:
        seed: of the configurations.

    Returns:
        The best time per token of 1e5 configurations, in s, and their number.
    """
    c = {name: values.astype(np.float64) for name, values in columns(REFERENCE, seed).items()}
    return float(numpy_estimate(c)["tpot"].min()), REFERENCE


def numpy_rate(parts: int) -> float:
    """Configurations/s of the same formulas in numpy, with a process for each core.

    Arguments:
        parts: of 1e5 configurations, which the processes share.
    """
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(numpy_part, range(os.cpu_count() or 1)))
        begun = time.perf_counter()
        total = sum(count for _, count in pool.map(numpy_part, range(parts)))
        return total / (time.perf_counter() - begun)


def main() -> None:
    """Measure, print, write."""
    parser = parser_of(__doc__)
    one = ("MODEL", "COUNT", "FIT")
    parser.add_argument("--one", nargs=3, metavar=one, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(swept(options.one[0], int(options.one[1]), options.one[2])))
        return
    report, quick = Report(), options.quick
    sizes = [(DENSE, 10**6)] if quick else [(DENSE, 10**8), (EXPERTS, 10**7)]
    bare = Program(metrics, on_device(columns(REFERENCE, 0)))
    example = on_device(columns(REFERENCE, 1))
    rates = []
    asked = [pair for pair in itertools.product(sizes, FITS) if not quick or pair[1] == "fitted"]
    for (model, count), fit in asked:
        # Bare estimates run in between, so that a machine whose speed drifts slows both.
        rates.append(REFERENCE / timed(lambda: bare(example), 5 if quick else 15).median)
        row = in_a_process(model, count, fit)
        report.rows.append(_row(f"{model}, {fit}", count, count / row["seconds"]) | row)
    bare_rate = float(np.median(rates))
    in_numpy = numpy_rate(4 if quick else 20)
    report.rows += [
        _row("bare estimates, all metrics (throughput.py)", REFERENCE, bare_rate),
        _row("numpy, the same formulas, all cores", REFERENCE, in_numpy),
    ]
    genz = genz_seconds(3 if quick else 50)
    if genz is not None:
        report.rows.append(_row("genz-llm, prefill + decode, extrapolated", 1, 1 / genz))

    rate = {row["name"]: row["per_second"] for row in report.rows}
    if not quick:
        # A quick run is too small to amortise its start, and is not extrapolated.
        for fit, dense_target, experts_target in (("fitted", 12, 6), ("roofline", 10, 4)):
            seconds = 1e8 / rate[f"{DENSE}, {fit}"]
            report.check(f"1e8 dense configurations, front of 3, {fit}", seconds, "s", dense_target)
            seconds = 1e7 / rate[f"{EXPERTS}, {fit}"]
            name = f"1e7 DeepSeek-V3 configurations, front of 3, {fit}"
            report.check(name, seconds, "s", experts_target)
        share = rate[f"{DENSE}, roofline"] / bare_rate
        report.check("sweep over bare estimates, roofline", share, "x", 0.6, at_least=True)
    peak = max(row["peak_memory"] for row in report.rows if "peak_memory" in row)
    report.check("peak memory of a sweep", peak / 1e9, "GB", 1)
    report.check("programs compiled by a second sweep", recompilations(DENSE), "", 0)
    few = 2_000 if quick else 10_000
    agree = [brute_force_agrees(model, few, "fitted") for model in (DENSE, EXPERTS)]
    report.check("fronts equal to brute force", sum(agree), "of 2", 2, at_least=True)
    few = 200 if quick else 2_000
    error = max(float64_error(model, few, "fitted") for model in (DENSE, EXPERTS))
    report.check("float32 against float64", error, "relative", 1e-5)

    fits = ("fitted",) if quick else FITS
    spent = [row for model, _ in sizes for fit in fits for row in costs(model, fit)]
    print(_rates_table(report.rows))
    print(_costs_table(spent))
    report.rows += spent
    report.finish(options.json)


def _row(name: str, count: int, per_second: float) -> dict[str, Any]:
    return {"name": name, "configurations": count, "per_second": per_second}


def _rates_table(rows: list[dict[str, Any]]) -> str:
    """The sweeps and the baselines, a line each."""

    def cells(row: dict[str, Any]) -> tuple[str, ...]:
        rates = (number(row[key]) for key in ("configurations", "per_second"))
        keys = ("seconds", "compile", "front")
        others = (number(row[key]) if key in row else "-" for key in keys)
        peak = number(row["peak_memory"] / 1e6) if "peak_memory" in row else "-"
        return (row["name"], *rates, *others, peak)

    header = ("", "configurations", "per second", "seconds", "compile", "front", "peak MB")
    return table(header, [cells(row) for row in rows], "l")


def _costs_table(spent: list[dict[str, Any]]) -> str:
    """What the programs of a batch cost a configuration, beside this machine's limits."""
    rate, flops = machine_limits()

    def cells(row: dict[str, Any]) -> tuple[str, ...]:
        counts = (number(row[key]) for key in ("bytes", "flop", "nanoseconds"))
        limits = (1e9 * row["bytes"] / rate, 1e9 * row["flop"] / flops)
        return (row["name"], str(row["fusions"]), *counts, *map(number, limits))

    header = ("", "fusions", "B", "FLOP", "ns", "ns for the bytes", "ns for the FLOP")
    title = (
        "\nA configuration's way through the programs; limits of this machine: "
        f"{rate / 1e9:.0f} GB/s from cache, {flops / 1e9:.0f} GFLOP/s\n\n"
    )
    return title + table(header, [cells(row) for row in spent], "l")


if __name__ == "__main__":
    main()
