"""Speed of dense estimates and of their hardware gradients, with the accuracy of the same run.

    python benchmarks/throughput.py [--quick] [--json OUT]

Every number of model, platform, workload, plan and precision varies from configuration to
configuration; sizes are integers, as they are in life. An estimate is every metric of `Estimate`.
The same run measures the baselines: the same formulas in plain numpy (`numpy_baseline.py`, which
is also the independent check) and `genz-llm` where it is installed
(pip install "diffgenz[genz]").
"""

import contextlib
import io
import re
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpy_baseline import estimate as numpy_estimate
from report import Report, Timing, parser_of, seconds_of, timed

import diffgenz as dgz
from diffgenz.core.batches import wide_vectors
from diffgenz.core.leaves import leaf_names, number_at
from diffgenz.hardware.accelerator import Accelerator
from diffgenz.hardware.network import Level
from diffgenz.hardware.platform import Platform
from diffgenz.hardware.topology import Fabric, Switch
from diffgenz.models.blocks.attention import Attention
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.model import Model, Repeated
from diffgenz.ui.tables import number, table

REFERENCE = 100_000
"""Configurations in a call for which the targets are set."""

COLUMNS: dict[str, Any] = {
    "layers": lambda r, n: r.integers(16, 130, n),
    "hidden": lambda r, n: 128 * r.integers(8, 130, n),
    "vocabulary": lambda r, n: r.integers(30_000, 260_000, n),
    "heads": lambda r, n: r.integers(8, 130, n),
    "kv_heads": lambda r, n: r.integers(1, 17, n),
    "head_dim": lambda r, n: r.choice([64, 96, 128, 192, 256], n),
    "intermediate": lambda r, n: 128 * r.integers(16, 400, n),
    "peak": lambda r, n: 10 ** r.uniform(13.5, 16, n),
    "bandwidth": lambda r, n: 10 ** r.uniform(11.5, 13.5, n),
    "capacity": lambda r, n: r.uniform(16e9, 300e9, n),
    "reserve": lambda r, n: r.uniform(0, 5e9, n),
    "launch": lambda r, n: r.uniform(0.5e-6, 6e-6, n),
    "idle_power": lambda r, n: r.uniform(50, 400, n),
    "compute_power": lambda r, n: r.uniform(50, 1000, n),
    "memory_power": lambda r, n: r.uniform(20, 400, n),
    "price": lambda r, n: r.uniform(1, 10, n) / 3600,
    "compute_efficiency": lambda r, n: r.uniform(0.4, 1, n),
    "memory_efficiency": lambda r, n: r.uniform(0.4, 1, n),
    "node": lambda r, n: r.choice([4, 8, 16, 72], n),
    "link": lambda r, n: 10 ** r.uniform(10.3, 12.3, n),
    "link_latency": lambda r, n: r.uniform(0.2e-6, 3e-6, n),
    "link_efficiency": lambda r, n: r.uniform(0.5, 1, n),
    "link_power": lambda r, n: r.uniform(5, 100, n),
    "nic": lambda r, n: 10 ** r.uniform(9.5, 11.3, n),
    "nic_latency": lambda r, n: r.uniform(1e-6, 10e-6, n),
    "nic_efficiency": lambda r, n: r.uniform(0.5, 1, n),
    "nic_power": lambda r, n: r.uniform(1, 30, n),
    "batch": lambda r, n: r.integers(1, 513, n),
    "input_tokens": lambda r, n: r.integers(1, 16_385, n),
    "output_tokens": lambda r, n: r.integers(1, 2_049, n),
    "tp": lambda r, n: r.choice([1, 2, 3, 4, 6, 8], n),
    "pp": lambda r, n: r.choice([1, 2, 3, 4, 8], n),
    "dp": lambda r, n: r.choice([1, 2, 4], n),
    "overlap": lambda r, n: r.uniform(0, 1, n),
    "dtype_size": lambda r, n: r.choice([2, 4], n),
    "weight_size": lambda r, n: r.choice([0.5, 1, 2], n),
    "activation_size": lambda r, n: r.choice([1, 2], n),
    "kv_cache_size": lambda r, n: r.choice([0.5, 1, 2], n),
}
"""Draws of each number: a function of the random generator and the number of configurations.

Units are SI: FLOP/s, B/s, B, s, W, USD/s; efficiencies and the overlap are shares, and sizes of
formats are B per element.
"""


def columns(count: int, seed: int) -> dict[str, np.ndarray]:
    """Random configurations, as one array per number in float32, the library's own precision.

    Arguments:
        count: configurations.
        seed: of the random generator.
    """
    rng = np.random.default_rng(seed)
    drawn = {name: np.asarray(draw(rng, count), np.float32) for name, draw in COLUMNS.items()}
    drawn["kv_heads"] = np.minimum(drawn["kv_heads"], drawn["heads"])
    return drawn | {"mlps": drawn["layers"].copy()}


def configuration(c: dict[str, Any]) -> dgz.Scenario:
    """The scenario of one configuration, given its numbers by name (`columns`)."""
    attention = Attention(heads=c["heads"], kv_heads=c["kv_heads"], head_dim=c["head_dim"])
    mlp = MLP(intermediate=c["intermediate"])
    blocks = (Repeated(attention, c["layers"]), Repeated(mlp, c["mlps"]))
    model = Model("random", c["hidden"], c["vocabulary"], blocks)
    accelerator = Accelerator(
        name="random",
        peak_flops={"bf16": c["peak"]},
        memory_bandwidth=c["bandwidth"],
        memory_capacity=c["capacity"],
        memory_reserve=c["reserve"],
        launch_latency=c["launch"],
        idle_power=c["idle_power"],
        compute_power=c["compute_power"],
        memory_power=c["memory_power"],
        price=c["price"],
        compute_efficiency=c["compute_efficiency"],
        memory_efficiency=c["memory_efficiency"],
    )
    link = (c[name] for name in ("link", "link_latency", "link_efficiency", "link_power"))
    node = Level("node", Switch(), c["node"], *link)
    nic = (c[name] for name in ("nic", "nic_latency", "nic_efficiency", "nic_power"))
    fabric = Level("fabric", Fabric(), 65536.0, *nic)
    precision = dgz.Precision().with_sizes(
        c["dtype_size"], c["weight_size"], c["activation_size"], c["kv_cache_size"]
    )
    platform = Platform(accelerator, (node, fabric), 65536.0)
    plan = dgz.Parallelism(c["tp"], c["pp"], c["dp"], c["overlap"])
    workload = dgz.Workload(c["batch"], c["input_tokens"], c["output_tokens"])
    return dgz.Scenario(model, platform, workload, plan, precision)


def metrics(c: dict[str, Any]) -> dict[str, Any]:
    """Every metric of the estimate of one configuration."""
    return metrics_of(dgz.estimate(configuration(c)))


METRICS = (
    "ttft",
    "tpot",
    "end_to_end",
    "throughput",
    "tokens_per_second_per_user",
    "tokens_per_second_per_accelerator",
    "energy_per_output_token",
    "cost_per_million_output_tokens",
)
MEMORY = ("weights", "kv_cache", "activations", "total")
"""The metrics of an estimate, and those of its memory."""


def metrics_of(e: dgz.Estimate) -> dict[str, Any]:
    """The metrics of an estimate, by name."""
    own = {name: getattr(e, name) for name in METRICS}
    return own | {name: getattr(e.memory, name) for name in MEMORY}


def objective(platform: Platform, case: dgz.Scenario) -> Any:
    """log TTFT + log TPOT of a scenario whose platform is replaced.

    Arguments:
        platform: the platform, with respect to which gradients are taken.
        case: the rest of the scenario.
    """
    e = dgz.estimate(case.replace(platform=platform))
    return jnp.log(e.ttft) + jnp.log(e.tpot)


def gradient(c: dict[str, Any]) -> Platform:
    """The derivatives of the objective with respect to every hardware number of a configuration."""
    case = configuration(c)
    return jax.grad(objective)(case.platform, case)


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

    def check(self, report: Report, name: str, *, fusions: int, size: float) -> None:
        """Add two checks to a report, one of the fusions and one of the bytes.

        Arguments:
            report: where they are added.
            name: of the program.
            fusions: most of them that are allowed.
            size: most B of a configuration that are allowed.
        """
        report.check(f"{name}: fusions", self.fusions, "", fusions)
        report.check(f"{name}: bytes a configuration", self.bytes, "B", size)


def on_device(c: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """The columns as JAX arrays."""
    return {name: jnp.asarray(values) for name, values in c.items()}


def rate_row(name: str, count: int, timing: Timing) -> dict[str, Any]:
    """A row of the table: configurations, and their rate per second with its spread.

    Arguments:
        name: of the row.
        count: configurations that a run evaluates.
        timing: of the runs.
    """
    return {
        "name": name,
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

    reference = on_device(columns(REFERENCE, seed=0))
    forward, backward = Program(metrics, reference), Program(gradient, reference)
    repeats = 9 if options.quick else 25
    # Interleaved, so that a machine whose speed drifts slows both.
    estimates, slopes = [], []
    forward(reference)
    backward(reference)
    for _ in range(repeats):
        estimates.append(seconds_of(lambda: forward(reference)))
        slopes.append(seconds_of(lambda: backward(reference)))
    estimate_timing, gradient_timing = timing_of(estimates), timing_of(slopes)

    for count in (1_000, 10_000, REFERENCE, 1_000_000, 10_000_000)[: 3 if options.quick else 5]:
        if count == REFERENCE:
            report.rows.append(rate_row("estimate", count, estimate_timing))
            report.rows.append(rate_row("gradient", count, gradient_timing))
            continue
        if count < REFERENCE:
            report.rows.append(_measure("estimate", metrics, columns(count, seed=0), 50))
        else:
            report.rows.append(rate_row("estimate", count, _in_calls(forward, count)))
    wide = {name: values.astype(np.float64) for name, values in columns(REFERENCE, seed=0).items()}
    numpy_timing = timed(lambda: numpy_estimate(wide), 1 if options.quick else 3)
    report.rows.append(rate_row("numpy, the same formulas", REFERENCE, numpy_timing))
    genz = genz_seconds(3 if options.quick else 10)
    if genz is not None:
        report.rows.append(rate_row("genz-llm, prefill + decode", 1, Timing(genz, genz, genz)))

    rate, slope_rate = (
        REFERENCE / timing.median / 1e6 for timing in (estimate_timing, gradient_timing)
    )
    report.check("full dense estimates at 1e5 a call", rate, "M/s", 20, at_least=True)
    error = forward_error(2_000 if options.quick else 100_000)
    report.check("float32 against float64 (independent numpy)", error, "relative", 2e-6)
    report.check("gradients at 1e5 a call", slope_rate, "M/s", 5, at_least=True)
    report.check("gradient over estimate", rate / slope_rate, "x", 6)
    finite = 100 * finite_share(backward(reference))
    report.check("finite gradients", finite, "%", 100, at_least=True)
    error = gradient_error(50 if options.quick else 1_000)
    report.check("gradient against float64 differences", error, "relative", 1e-4)
    forward.check(report, "estimate", fusions=40, size=1_000)
    backward.check(report, "gradient", fusions=110, size=5_000)
    report.check("estimate: trace and compile", forward.compile_seconds, "s", 2)
    report.check("gradient: trace and compile", backward.compile_seconds, "s", 5)

    cells = [(row["name"], number(row["configurations"]), *rate_cells(row)) for row in report.rows]
    print(table(("", "configurations", "per second", "slowest", "fastest"), cells, "l"))
    print(f"\nestimate: {forward.flops:.0f} FLOP a configuration; gradient: {backward.flops:.0f}")
    report.finish(options.json)


def rate_cells(row: dict[str, Any]) -> tuple[str, ...]:
    """The rates of a row (`rate_row`) for people: median, slowest and fastest."""
    names = ("per_second", "per_second_slowest", "per_second_fastest")
    return tuple(number(row[name]) for name in names)


def finite_share(tree: Any) -> float:
    """The share of a tree's numbers that are finite: the mean over its arrays of each one's."""
    leaves = jax.tree.leaves(eqx.filter(tree, eqx.is_array))
    return float(np.mean([np.isfinite(np.asarray(leaf)).mean() for leaf in leaves]))


def _in_calls(program: Program, count: int) -> Timing:
    """The seconds of many configurations in calls of `REFERENCE`, 20 different ones at most."""
    calls = count // REFERENCE
    batches = [on_device(columns(REFERENCE, seed)) for seed in range(min(calls, 20))]
    return timed(lambda: [program(batches[i % len(batches)]) for i in range(calls)], 3)


def _measure(name: str, function: Any, c: dict[str, np.ndarray], repeats: int) -> dict[str, Any]:
    """The row of a function that is compiled for the configurations `c` alone."""
    example = on_device(c)
    program = Program(function, example)
    return rate_row(name, len(c["batch"]), timed(lambda: program(example), repeats))


def timing_of(seconds: list[float]) -> Timing:
    """The median and the extremes of the seconds of repeated runs."""
    return Timing(float(np.median(seconds)), min(seconds), max(seconds))


if __name__ == "__main__":
    main()
