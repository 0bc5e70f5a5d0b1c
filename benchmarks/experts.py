"""Estimates and hardware gradients per second of DeepSeek-V3, with the accuracy of the same run.

    python benchmarks/experts.py [--quick] [--json OUT]

DeepSeek-V3 has latent attention, shared and routed experts, and expert parallelism. Batch, token
counts, overlap, plan and every hardware number vary from configuration to configuration. An
estimate is every metric of `Estimate`; a gradient is that of log TTFT + log TPOT with respect to
all hardware numbers. The same run compares configurations with float64, and counts fusions and
bytes, which noise cannot blur.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from report import Report, parser_of, timed
from throughput import REFERENCE, Program, finite_share, rate_cells, rate_row

import diffgenz as dgz
from diffgenz.ui.tables import number, table

MODEL = "deepseek-ai/DeepSeek-V3"
COUNTS = {"estimate": (49, 1_302), "gradient": (102, 3_851)}
"""Most fusions, and most B of a configuration, that each program may have.

They are 5 % above the counts of the version before messages were records: 47 and 1,240 for the
estimate, 98 and 3,668 for the gradient.
"""
PLANS = ((8, 1, 8), (1, 8, 8), (2, 8, 16), (1, 32, 32), (4, 16, 64), (64, 1, 64))
"""Tensor, attention-data and expert ranks of the plans that are drawn from."""

Numbers = tuple[dgz.Platform, dgz.Workload, dgz.Parallelism]


def configurations(count: int, seed: int) -> Numbers:
    """Random configurations in float64, whose hardware is within a factor of two of 64 H200s.

    Arguments:
        count: configurations.
        seed: of the random generator.
    """
    random = np.random.default_rng(seed)
    platform = dgz.load_platform("h200_sxm", 64, fit="none")

    def scale(leaf: Any) -> np.ndarray:
        return np.asarray(leaf, np.float64) * np.exp2(random.uniform(-1, 1, count))

    def keep(leaf: Any) -> np.ndarray:
        return np.full(count, np.asarray(leaf, np.float64))

    scaled, kept = jax.tree.map(scale, platform), jax.tree.map(keep, platform)
    network = tuple(
        level.replace(size=fixed.size, efficiency=fixed.efficiency)
        for level, fixed in zip(scaled.network, kept.network, strict=True)
    )
    accelerator = scaled.accelerator.replace(
        compute_efficiency=random.uniform(0.4, 1, count),
        memory_efficiency=random.uniform(0.4, 1, count),
        tiers=kept.accelerator.tiers,
    )
    plan = np.array(PLANS, dtype=float)[random.integers(len(PLANS), size=count)].T
    ones = np.ones(count)
    sizes = (
        np.floor(np.exp2(random.uniform(low, high, count)))
        for low, high in ((0, 10), (7, 15), (1, 11))
    )
    return (
        dgz.Platform(accelerator, network, kept.accelerators),
        dgz.Workload(*sizes, images=0 * ones),
        dgz.Parallelism(plan[0], ones, ones, random.uniform(0, 1, count), plan[2], plan[1]),
    )


def estimate(numbers: Numbers) -> dgz.Estimate:
    """The estimate of one configuration, with linear layers in fp8."""
    platform, workload, plan = numbers
    precision = dgz.Precision(weights="fp8_block", activations="fp8_block")
    return dgz.estimate(dgz.Scenario(dgz.load_model(MODEL), platform, workload, plan, precision))


def gradient(numbers: Numbers) -> dgz.Platform:
    """Derivatives of log TTFT + log TPOT of one configuration with respect to its hardware."""

    def objective(platform: dgz.Platform) -> Any:
        result = estimate((platform, *numbers[1:]))
        return jnp.log(result.ttft) + jnp.log(result.tpot)

    return jax.grad(objective)(numbers[0])


def cast(tree: Any, dtype: Any) -> Any:
    """The same numbers on the device, in `dtype`."""
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), dtype), tree)


def forward_error(drawn: Numbers, ours: dgz.Estimate, count: int) -> float:
    """The largest relative difference of a metric from the same estimate in float64.

    Arguments:
        drawn: the configurations, in float64.
        ours: their estimates in float32.
        count: how many of them are compared, from the first.
    """
    first = jax.tree.map(lambda leaf: leaf[:count], drawn)
    with jax.enable_x64(True):
        exact = jax.jit(jax.vmap(estimate))(cast(first, jnp.float64))

    def error(name: str) -> float:
        single, double = np.asarray(getattr(ours, name))[:count], np.asarray(getattr(exact, name))
        return float(np.max(np.abs(single / double - 1)))

    return max(map(error, ("ttft", "tpot", "throughput", "energy_per_output_token")))


def main() -> None:
    """Measure, print, write."""
    options = parser_of(__doc__, "fewer runs").parse_args()
    repeats = 3 if options.quick else 11
    report = Report()
    with jax.enable_x64(True):
        drawn = jax.tree.map(np.asarray, configurations(REFERENCE, 0))
    single = cast(drawn, jnp.float32)
    programs = {"estimate": Program(estimate, single), "gradient": Program(gradient, single)}
    seconds = {}
    for name, program in programs.items():
        timing = timed(lambda run=program: run(single), repeats)
        seconds[name] = timing.median
        report.rows.append(rate_row(name, REFERENCE, timing) | program.counts)
    rate = REFERENCE / seconds["estimate"] / 1e6
    report.check("DeepSeek-V3 estimates at 1e5 a call", rate, "M/s", 6, at_least=True)
    report.check("gradient over estimate", seconds["gradient"] / seconds["estimate"], "x", 7)
    finite = 100 * finite_share(programs["gradient"](single))
    report.check("finite gradients", finite, "%", 100, at_least=True)
    ours = programs["estimate"](single)
    error = forward_error(drawn, ours, 1_000 if options.quick else 20_000)
    report.check("float32 against float64", error, "relative", 1e-5)
    for name, (fusions, size) in COUNTS.items():
        programs[name].check(report, name, fusions=fusions, size=size)
    counts = ("fusions", "bytes", "flop")
    cells = [
        (row["name"], *rate_cells(row), *(number(row[key]) for key in counts))
        for row in report.rows
    ]
    header = (MODEL, "per second", "slowest", "fastest", "fusions", "B", "FLOP")
    print(table(header, cells, "l"))
    report.finish(options.json)


if __name__ == "__main__":
    main()
