"""Speed of dense estimates with fitted kernels, and of their gradients, beside the roofline's.

    python benchmarks/calibrated.py [--quick] [--json OUT]

The configurations are those of throughput.py, where every number varies. Kernels are the shipped
fits of H100; in each configuration every parameter is drawn between 80 and 100 % of its value.
Hardware gradients are with respect to all numbers of accelerator and network; "and parameters"
adds those of the kernels. The same run measures the accuracy of all against float64, and counts
fusions and bytes, which noise cannot blur.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from report import Report, parser_of, seconds_of
from throughput import (
    REFERENCE,
    Program,
    columns,
    configuration,
    finite_share,
    metrics_of,
    objective,
    rate_cells,
    rate_row,
    timing_of,
)

import diffgenz as dgz
from diffgenz.core.leaves import leaf_names, number_at
from diffgenz.kernels.library import Library
from diffgenz.ui.tables import number, table

SYSTEM = "h100_sxm"
FAMILIES = ("gemm", "prefill", "decode", "elementwise", "all_reduce")

ROOFLINE, ESTIMATE, HARDWARE, PARAMETERS = (
    "roofline",
    "calibrated estimate",
    "hardware gradient",
    "gradient of hardware and parameters",
)
COUNTS = {ESTIMATE: (38, 1_680), HARDWARE: (148, 8_000), PARAMETERS: (313, 16_800)}
"""Most fusions, and most B of a configuration, that each program may have."""

Numbers = tuple[dict[str, Any], Library]
"""The numbers of a configuration by name, and its kernels."""


def drawn(count: int, seed: int) -> Numbers:
    """Random configurations in float64: their numbers and their kernels.

    Arguments:
        count: configurations.
        seed: of the random generator.
    """
    random = np.random.default_rng(seed + 1000)
    shipped = dgz.load_platform(SYSTEM, 8).accelerator.kernels
    assert shipped is not None
    kernels = Library({family: {"bf16": shipped.forms[family]["bf16"]} for family in FAMILIES})
    varied = jax.tree.map(lambda leaf: np.float64(leaf) * random.uniform(0.8, 1.0, count), kernels)
    return columns(count, seed) | {"units": random.integers(16, 257, count).astype(float)}, varied


def calibrated(numbers: Numbers) -> dgz.Scenario:
    """The scenario of one configuration, with fitted kernels."""
    case = configuration(numbers[0])
    chip = case.platform.accelerator.replace(kernels=numbers[1], compute_units=numbers[0]["units"])
    return case.replace(platform=case.platform.replace(accelerator=chip))


def estimate(numbers: Numbers) -> dict[str, Any]:
    """Every metric of the estimate of one configuration, with fitted kernels."""
    return metrics_of(dgz.estimate(calibrated(numbers)))


def roofline(numbers: Numbers) -> dict[str, Any]:
    """Every metric of the same configuration without fitted kernels."""
    return metrics_of(dgz.estimate(configuration(numbers[0])))


def parameter_gradient(numbers: Numbers) -> dgz.Platform:
    """Derivatives of log TTFT + log TPOT with respect to hardware and kernels' parameters."""
    case = calibrated(numbers)
    return jax.grad(objective)(case.platform, case)


def hardware_gradient(numbers: Numbers) -> dgz.Platform:
    """Derivatives of log TTFT + log TPOT with respect to hardware alone."""
    case = calibrated(numbers)
    kernels = case.platform.accelerator.kernels

    def with_kernels(hardware: dgz.Platform, library: Library | None) -> dgz.Platform:
        return hardware.replace(accelerator=hardware.accelerator.replace(kernels=library))

    def of(hardware: dgz.Platform) -> Any:
        return objective(with_kernels(hardware, kernels), case)

    return jax.grad(of)(with_kernels(case.platform, None))


def cast(numbers: Numbers, dtype: Any) -> Numbers:
    """The same numbers on the device, in `dtype`."""
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), dtype), numbers)


def forward_error(count: int) -> float:
    """The largest relative difference of any metric from the same in float64.

    Arguments:
        count: random configurations that are compared.
    """
    numbers = drawn(count, seed=1)
    ours = jax.jit(jax.vmap(estimate))(cast(numbers, jnp.float32))
    with jax.enable_x64(True):
        exact = jax.jit(jax.vmap(estimate))(cast(cast_to_single(numbers), jnp.float64))
    return max(
        float(np.max(np.abs(np.asarray(ours[name], np.float64) / np.asarray(exact[name]) - 1)))
        for name in exact
    )


def cast_to_single(numbers: Numbers) -> Numbers:
    """The numbers rounded to float32, so that both precisions start from the same ones."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), numbers)


def gradient_error(count: int) -> float:
    """The largest difference of an elasticity from central differences in float64.

    It is taken along random directions, and relative where the elasticity is above 0.01.

    Arguments:
        count: random configurations that are compared.
    """
    numbers = cast_to_single(drawn(count, seed=2))
    random, step, worst = np.random.default_rng(3), 1e-5, 0.0
    slopes = jax.jit(jax.vmap(parameter_gradient))(cast(numbers, jnp.float32))
    with jax.enable_x64(True):
        case = jax.vmap(calibrated)(cast(numbers, jnp.float64))
        leaves, structure = jax.tree.flatten(case.platform)
        abouts = [number_at(case.platform, at) for at in leaf_names(case.platform).values()]
        moving = [about is None or not about.structure for about in abouts]
        value = jax.jit(jax.vmap(objective))
        for _ in range(8):
            direction = [random.normal(size=count) * move for move in moving]

            def along(sign: int, direction: list[Any] = direction) -> Any:
                pairs = zip(leaves, direction, strict=True)
                moved = [leaf * np.exp(sign * step * d) for leaf, d in pairs]
                return value(jax.tree.unflatten(structure, moved), case)

            exact = np.asarray(along(1) - along(-1)) / (2 * step)
            parts = zip(jax.tree.leaves(slopes), leaves, direction, strict=True)
            ours = sum(np.asarray(slope, np.float64) * np.asarray(x) * d for slope, x, d in parts)
            error = np.abs(ours - exact) / np.maximum(np.abs(exact), 0.01)
            worst = max(worst, float(np.max(error)))
    return worst


def main() -> None:
    """Measure, print, write."""
    options = parser_of(__doc__).parse_args()
    report, repeats = Report(), 5 if options.quick else 25
    numbers = cast(drawn(REFERENCE, seed=0), jnp.float32)
    functions = {
        ROOFLINE: roofline,
        ESTIMATE: estimate,
        HARDWARE: hardware_gradient,
        PARAMETERS: parameter_gradient,
    }
    programs = {name: Program(function, numbers) for name, function in functions.items()}
    ends = {name: program(numbers) for name, program in programs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):  # interleaved, so that a machine whose speed drifts slows all
        for name, program in programs.items():
            seconds[name].append(seconds_of(lambda run=program: run(numbers)))
    timings = {name: timing_of(each) for name, each in seconds.items()}
    report.rows = [
        rate_row(name, REFERENCE, timing) | programs[name].counts
        for name, timing in timings.items()
    ]
    base = timings[ESTIMATE].median
    rate = REFERENCE / base / 1e6
    report.check("calibrated estimates, everything varying", rate, "M/s", 10, at_least=True)
    for name in (HARDWARE, PARAMETERS):
        report.check(f"{name} over estimate", timings[name].median / base, "x", 7)
    finite = 100 * finite_share(ends[PARAMETERS])
    report.check("finite gradients", finite, "%", 100, at_least=True)
    error = forward_error(2_000 if options.quick else 100_000)
    report.check("float32 against float64", error, "relative", 1e-5)
    error = gradient_error(50 if options.quick else 1_000)
    report.check("gradient against float64 differences", error, "relative", 1e-3)
    for name, (fusions, size) in COUNTS.items():
        programs[name].check(report, name, fusions=fusions, size=size)
    counts = ("fusions", "bytes", "flop")
    cells = [
        (row["name"], *rate_cells(row), *(number(row[key]) for key in counts))
        for row in report.rows
    ]
    header = ("at 1e5 a call", "per second", "slowest", "fastest", "fusions", "B", "FLOP")
    print(table(header, cells, "l"))
    report.finish(options.json)


if __name__ == "__main__":
    main()
