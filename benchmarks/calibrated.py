"""Speed of dense estimates with fitted kernels, and of their gradients, beside the roofline's.

    python benchmarks/calibrated.py [--quick] [--json OUT]

The configurations are those of throughput.py, where every number varies. Kernels are the shipped
fits of H100; in each configuration every parameter is drawn between 80 and 100 % of its value.
Hardware gradients are with respect to all numbers of accelerator and network; "and parameters"
adds those of the kernels. Programs are timed at 2**14 configurations a call, whose columns stay in
the caches, and at 1e5. The same run measures the accuracy of all against float64, and counts
fusions, bytes and FLOP, which noise cannot blur.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from dense import (
    Fitted,
    cast,
    configuration,
    direction_error,
    double_error,
    fitted_columns,
    fitted_configuration,
    fitted_kernels,
    fitted_metrics,
    hardware_gradient,
    metrics_of,
    objective,
    on_edge,
)
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
from diffgenz.ui.tables import number, table

PLAIN, ESTIMATE, HARDWARE, PARAMETERS = (
    "roofline estimate",
    "calibrated estimate",
    "hardware gradient",
    "gradient of hardware and parameters",
)
RATES = {ESTIMATE: 18, HARDWARE: 4.5, PARAMETERS: 1.8}
"""Million configurations per second at 1e5 a call that each program must reach."""

COUNTS = {
    ESTIMATE: (42, 1_700, 2_400),
    HARDWARE: (185, 7_100, 8_900),
    PARAMETERS: (310, 13_500, 27_500),
}
"""Most fusions, and most B and FLOP of a configuration, that each program may have.

What collectives take to start on a network level is a number of the hardware, too: its slopes are
4 % of the gradient's FLOP.
"""


def drawn(count: int, seed: int) -> Fitted:
    """Random configurations in float32: their numbers and their kernels.

    Arguments:
        count: configurations.
        seed: of the random generator.
    """
    random = np.random.default_rng(seed + 2000)

    def varied(leaf: Any) -> np.ndarray:
        return (np.float64(leaf) * random.uniform(0.8, 1.0, count)).astype(np.float32)

    return fitted_columns(count, seed), jax.tree.map(varied, fitted_kernels())


def roofline(numbers: Fitted) -> dict[str, Any]:
    """Every metric of the same configuration without fitted kernels."""
    return metrics_of(dgz.estimate(configuration(numbers[0])))


def parameter_gradient(numbers: Fitted) -> dgz.Platform:
    """Derivatives of log TTFT + log TPOT with respect to hardware and kernels' parameters."""
    case = fitted_configuration(numbers)
    return jax.grad(objective)(case.platform, case)


PROGRAMS = {
    PLAIN: roofline,
    ESTIMATE: fitted_metrics,
    HARDWARE: hardware_gradient,
    PARAMETERS: parameter_gradient,
}


def main() -> None:
    """Measure, print, write."""
    options = parser_of(__doc__).parse_args()
    report = Report()
    keep_memory()
    numbers = {count: cast(drawn(count, seed=0), jnp.float32) for count in (BLOCK, REFERENCE)}
    programs = {
        (name, count): Program(PROGRAMS[name], numbers[count])
        for count, names in ((BLOCK, (ESTIMATE, HARDWARE)), (REFERENCE, PROGRAMS))
        for name in names
    }
    runs = {
        key: lambda run=program, at=numbers[key[1]]: run(at) for key, program in programs.items()
    }
    timings = {
        key: measured.wall
        for key, measured in interleaved(runs, 5 if options.quick else 25).items()
    }
    report.rows = [
        rate_row(name, count, timing, ROOFLINE if name == PLAIN else FITTED)
        | programs[name, count].counts
        for (name, count), timing in timings.items()
    ]
    for name, target in RATES.items():
        rate = REFERENCE / timings[name, REFERENCE].median / 1e6
        report.check(f"{name}, 1e5 a call", rate, "M/s", target, at_least=True)
    ratio = timings[HARDWARE, BLOCK].median / timings[ESTIMATE, BLOCK].median
    report.check("hardware gradient over estimate, 2**14 a call", ratio, "x", 4.5)
    slopes = programs[PARAMETERS, REFERENCE](numbers[REFERENCE])
    report.check("finite gradients", 100 * finite_share(slopes), "%", 100, at_least=True)
    exact = drawn(2_000 if options.quick else 100_000, seed=1)
    edges = on_edge(exact[0])
    error = double_error(fitted_metrics, exact, but=edges)
    report.check("float32 against float64, off the edges of tiles", error, "relative", 1e-5)
    report.check("configurations on the edge of a tile", 100 * edges.mean(), "%", 0.1)
    case = jax.vmap(fitted_configuration)(drawn(50 if options.quick else 1_000, seed=2))
    error = direction_error(objective, case.platform, case)
    report.check("gradient against float64 differences", error, "relative", 1e-3)
    for name, counts in COUNTS.items():
        programs[name, REFERENCE].check(report, name, *counts)
    cells = [
        (row["name"], number(row["configurations"]), *rate_cells(row), *count_cells(row))
        for row in report.rows
    ]
    header = ("", "a call", "per second", "slowest", "fastest", "fusions", "B", "FLOP")
    print(table(header, cells, "l"))
    report.finish(options.json)


if __name__ == "__main__":
    main()
