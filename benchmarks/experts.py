"""Estimates and hardware gradients per second of DeepSeek-V3: latent attention, shared and routed experts, expert parallelism.

    python benchmarks/experts.py [--quick] [--json OUT]

Batch, token counts, formats' sizes, overlap, plan and every hardware number vary from configuration to configuration. An estimate is every metric
of `Estimate`, a gradient that of log TTFT + log TPOT with respect to all hardware numbers. Accuracy: the same configurations in float64.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from report import Report, parser_of, timed

import diffgenz as dgz
from diffgenz.ui.tables import number, table

MODEL = "deepseek-ai/DeepSeek-V3"
PLANS = (
    (8, 1, 8),
    (1, 8, 8),
    (2, 8, 16),
    (1, 32, 32),
    (4, 16, 64),
    (64, 1, 64),
)  # tensor, attention_data, expert


def configurations(count: int, seed: int) -> tuple[dgz.Platform, dgz.Workload, dgz.Parallelism]:
    """`count` random ones, in float64: hardware within a factor of two of 64 H200s."""
    random = np.random.default_rng(seed)
    platform = dgz.load_platform("h200_sxm", 64, fit="none")
    scaled = jax.tree.map(
        lambda leaf: np.asarray(leaf, np.float64) * np.exp2(random.uniform(-1, 1, count)), platform
    )
    kept = jax.tree.map(lambda leaf: np.full(count, np.asarray(leaf, np.float64)), platform)
    network = tuple(
        dgz.Level(
            level.name,
            level.topology,
            fixed.size,
            level.bandwidth,
            level.latency,
            fixed.efficiency,
            level.power,
        )
        for level, fixed in zip(scaled.network, kept.network, strict=True)
    )
    accelerator = scaled.accelerator.replace(
        compute_efficiency=random.uniform(0.4, 1, count),
        memory_efficiency=random.uniform(0.4, 1, count),
        tiers=kept.accelerator.tiers,
    )
    plan = np.array(PLANS, dtype=float)[random.integers(len(PLANS), size=count)].T
    ones = np.ones(count)
    return (
        dgz.Platform(accelerator, network, kept.accelerators),
        dgz.Workload(
            *(
                np.floor(np.exp2(random.uniform(low, high, count)))
                for low, high in ((0, 10), (7, 15), (1, 11))
            ),
            images=0 * ones,
        ),
        dgz.Parallelism(plan[0], ones, ones, random.uniform(0, 1, count), plan[2], plan[1]),
    )


def estimate(platform: dgz.Platform, workload: dgz.Workload, plan: dgz.Parallelism) -> dgz.Estimate:
    """One of them."""
    precision = dgz.Precision(weights="fp8_block", activations="fp8_block")
    case = dgz.Scenario(dgz.load_model(MODEL), platform, workload, plan, precision)
    return dgz.estimate(case)


def objective(platform: dgz.Platform, workload: dgz.Workload, plan: dgz.Parallelism) -> Any:
    """What gradients are of."""
    result = estimate(platform, workload, plan)
    return jnp.log(result.ttft) + jnp.log(result.tpot)


def cast(tree: Any, dtype: Any) -> Any:
    """The same numbers on the device."""
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), dtype), tree)


def main() -> None:
    """Measure, print, write."""
    options = parser_of(__doc__, "fewer runs").parse_args()
    count, repeats = 100_000, 3 if options.quick else 11
    report = Report()
    with jax.enable_x64(True):
        drawn = jax.tree.map(np.asarray, configurations(count, 0))
    single = cast(drawn, jnp.float32)
    forward, gradient = (
        jax.jit(jax.vmap(function)) for function in (estimate, jax.grad(objective))
    )
    rates = {}
    for name, function in (("estimate", forward), ("gradient", gradient)):
        timing = timed(lambda f=function: jax.block_until_ready(f(*single)), repeats)
        rates[name] = timing.median
        report.rows.append(
            {
                "name": name,
                "per_second": count / timing.median,
                "slowest": count / timing.slowest,
                "fastest": count / timing.fastest,
            }
        )
    report.check(
        "DeepSeek-V3 estimates at 1e5 a call",
        count / rates["estimate"] / 1e6,
        "M/s",
        6,
        at_least=True,
    )
    report.check("gradient over estimate", rates["gradient"] / rates["estimate"], "x", 7)
    slopes = gradient(*single)
    finite = np.mean([np.isfinite(leaf).mean() for leaf in jax.tree.leaves(slopes)])
    report.check("finite gradients", float(100 * finite), "%", 100, at_least=True)
    sample = slice(0, 1_000 if options.quick else 20_000)
    part = jax.tree.map(lambda leaf: leaf[sample], drawn)
    with jax.enable_x64(True):
        exact = jax.tree.map(np.asarray, jax.jit(jax.vmap(estimate))(*cast(part, jnp.float64)))
    ours = jax.tree.map(np.asarray, forward(*cast(part, jnp.float32)))
    worst = max(
        float(np.max(np.abs(getattr(ours, name) / getattr(exact, name) - 1)))
        for name in ("ttft", "tpot", "throughput", "energy_per_output_token")
    )
    report.check("float32 against float64", worst, "relative", 1e-5)
    cells = [
        (row["name"], *(f"{row[key]:,.0f}" for key in ("per_second", "slowest", "fastest")))
        for row in report.rows
    ]
    print(table((MODEL, "per second", "slowest", "fastest"), cells, "l"))
    print(f"\ngradient over estimate: {number(rates['gradient'] / rates['estimate'])}")
    report.finish(options.json)


if __name__ == "__main__":
    main()
