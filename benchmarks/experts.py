"""Estimates and hardware gradients per second of DeepSeek-V3, with the accuracy of the same run.

    python benchmarks/experts.py [--quick] [--json OUT]

DeepSeek-V3 has latent attention, shared and routed experts, and expert parallelism. Batch, token
counts, overlap, plan and every hardware number vary from configuration to configuration. An
estimate is every metric of `Estimate`; a gradient is that of log TTFT + log TPOT with respect to
all hardware numbers. Each row says what times the kernels: the roofline, at 1e5 configurations a
call, or the fitted kernels of H200, whose parameters are constants, at 2**14 a call. The same run
compares configurations with float64, and counts fusions and bytes, which noise cannot blur.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from dense import WHOLE, cast, with_kernels
from report import Report, parser_of
from throughput import (
    BLOCK,
    FITTED,
    REFERENCE,
    ROOFLINE,
    Program,
    count_cells,
    finite_share,
    interleaved,
    rate_cells,
    rate_row,
)

import diffgenz as dgz
from diffgenz.core.batches import keep_memory
from diffgenz.kernels.library import Library
from diffgenz.ui.tables import number, table

MODEL = "deepseek-ai/DeepSeek-V3"
SYSTEM = "h200_sxm"
KEYS = (("estimate", ROOFLINE), ("gradient", ROOFLINE), ("estimate", FITTED), ("gradient", FITTED))
COUNTS = dict(zip(KEYS, ((59, 1_596), (109, 4_450), (102, 2_751), (397, 11_750)), strict=True))
"""Most fusions, and most B of a configuration, that each program may have.

They are up to 5 % above the counts of an earlier version: with the roofline, 57 and 1,520 for the
estimate, 104 and 3,960 for the gradient; with fitted kernels 98 and 2,620, 378 and 10,988. Slopes
to what collectives take to start on each network level add 430 and 620 to gradients. Before
the groups of the router were modelled, of which a token visits four, the estimates took 47 and
1,248, and 84 and 2,272.
"""
CPU = {("estimate", FITTED): 140, ("gradient", FITTED): 600}
"""Most ns of one core that a configuration may take at 2**14 a call."""
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
    platform = dgz.load_platform(SYSTEM, 64, fit="none")

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


def fitted_kernels() -> Library:
    """The fitted kernels of the accelerator."""
    shipped = dgz.load_platform(SYSTEM, 64).accelerator.kernels
    assert shipped is not None
    return shipped


def estimate(numbers: Numbers, kernels: Library | None) -> dgz.Estimate:
    """The estimate of one configuration, with linear layers in fp8.

    Arguments:
        numbers: the configuration.
        kernels: fitted kernels; None: the roofline times all.
    """
    platform, workload, plan = numbers
    model, platform = dgz.load_model(MODEL), with_kernels(platform, kernels)
    precision = dgz.Precision(weights="fp8_block", activations="fp8_block")
    return dgz.estimate(dgz.Scenario(model, platform, workload, plan, precision, WHOLE))


def gradient(numbers: Numbers, kernels: Library | None) -> dgz.Platform:
    """Derivatives of log TTFT + log TPOT of one configuration with respect to its hardware."""

    def objective(platform: dgz.Platform) -> Any:
        result = estimate((platform, *numbers[1:]), kernels)
        return jnp.log(result.ttft) + jnp.log(result.tpot)

    return jax.grad(objective)(numbers[0])


def forward_error(drawn: Numbers, ours: dgz.Estimate, kernels: Library | None, count: int) -> float:
    """The largest relative difference of a metric from the same estimate in float64.

    Arguments:
        drawn: the configurations, in float64.
        ours: their estimates in float32.
        kernels: what timed them; None: the roofline.
        count: how many of them are compared, from the first.
    """
    first = jax.tree.map(lambda leaf: leaf[:count], drawn)
    with jax.enable_x64(True):
        exact = jax.jit(jax.vmap(lambda each: estimate(each, kernels)))(cast(first, jnp.float64))

    def error(name: str) -> float:
        single, double = np.asarray(getattr(ours, name))[:count], np.asarray(getattr(exact, name))
        return float(np.max(np.abs(single / double - 1)))

    return max(map(error, ("ttft", "tpot", "throughput", "energy_per_output_token")))


def main() -> None:
    """Measure, print, write."""
    options = parser_of(__doc__, "fewer runs").parse_args()
    repeats = 3 if options.quick else 11
    report = Report()
    keep_memory()
    with jax.enable_x64(True):
        drawn = jax.tree.map(np.asarray, configurations(REFERENCE, 0))
    block = jax.tree.map(lambda leaf: leaf[:BLOCK], drawn)
    kernels = {ROOFLINE: None, FITTED: fitted_kernels()}
    numbers = {ROOFLINE: cast(drawn, jnp.float32), FITTED: cast(block, jnp.float32)}
    functions = {"estimate": estimate, "gradient": gradient}
    programs = {
        (name, by): Program(
            lambda each, function=functions[name], by=by: function(each, kernels[by]), numbers[by]
        )
        for name, by in KEYS
    }
    runs = {
        key: lambda run=program, at=numbers[key[1]]: run(at) for key, program in programs.items()
    }
    measured = interleaved(runs, repeats)
    counts = {ROOFLINE: REFERENCE, FITTED: BLOCK}
    report.rows = [
        rate_row(name, counts[by], each.wall, by) | programs[name, by].counts
        for (name, by), each in measured.items()
    ]
    seconds = {key: each.wall.median for key, each in measured.items()}
    rate = REFERENCE / seconds["estimate", ROOFLINE] / 1e6
    report.check("DeepSeek-V3 estimates at 1e5 a call, roofline", rate, "M/s", 6, at_least=True)
    ratio = seconds["gradient", ROOFLINE] / seconds["estimate", ROOFLINE]
    report.check("gradient over estimate, roofline", ratio, "x", 7)
    for (name, by), target in CPU.items():
        spent = measured[name, by].cpu.fastest / BLOCK * 1e9
        report.check(f"{name}, {by}: of one core, 2**14 a call", spent, "ns", target)
    for by in (ROOFLINE, FITTED):
        finite = 100 * finite_share(programs["gradient", by](numbers[by]))
        report.check(f"finite gradients, {by}", finite, "%", 100, at_least=True)
        ours = programs["estimate", by](numbers[by])
        count = 1_000 if options.quick else min(20_000, counts[by])
        error = forward_error(drawn, ours, kernels[by], count)
        report.check(f"float32 against float64, {by}", error, "relative", 1e-5)
    for key, most in COUNTS.items():
        programs[key].check(report, ", ".join(key), *most)
    cells = [
        (
            row["name"],
            row["kernels"],
            number(row["configurations"]),
            *rate_cells(row),
            *count_cells(row),
        )
        for row in report.rows
    ]
    header = (MODEL, "timed by", "a call", "per second", "slowest", "fastest", "fusions", "B")
    print(table((*header, "FLOP"), cells, "ll"))
    report.finish(options.json)


if __name__ == "__main__":
    main()
