"""What tests share: a cluster built by hand, every leaf of a record by name, comparisons."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from diffgenz import (
    HARD,
    Accelerator,
    Breakdown,
    Estimate,
    Level,
    Parallelism,
    Platform,
    Precision,
    Scenario,
    breakdown,
    estimate,
)
from diffgenz.core.leaves import leaf_at, leaf_names
from diffgenz.hardware.topology import Fabric, Switch
from diffgenz.inference.timing.execution import Execution
from diffgenz.inference.timing.machine import Machine
from diffgenz.kernels.families import FAMILIES
from diffgenz.kernels.library import Library

SHARPNESSES = (1, 2, 4, 8, HARD)

CHIP = {
    "name": "chip",
    "peak_flops": {"bf16": 1e15, "fp8": 2e15},
    "memory_bandwidth": 4e12,
    "memory_capacity": 100e9,
    "memory_reserve": 2e9,
    "launch_latency": 2e-6,
    "idle_power": 100.0,
    "compute_power": 400.0,  # 4e-13 J/FLOP in bf16
    "memory_power": 200.0,  # 5e-11 J/B
    "price": 1e-3,
}
NODE = {
    "name": "node",
    "topology": Switch(),
    "size": 8,
    "bandwidth": 4e11,
    "latency": 1e-6,
    "power": 40.0,  # 1e-10 J/B
}
FABRIC = {
    "name": "fabric",
    "topology": Fabric(),
    "size": 1024,
    "bandwidth": 5e10,
    "latency": 5e-6,
    "power": 5.0,  # 1e-10 J/B
}


def visits(parts: int, experts: int, picks: int) -> float:
    """Parts that hold an expert of a token, of which all its experts are different ones."""
    missed = math.comb(experts - experts // parts, picks) / math.comb(experts, picks)
    return parts * (1 - missed)


def make_cluster(accelerators: float = 64) -> Platform:
    """Accelerators in nodes of 8, with round numbers."""
    return Platform(Accelerator(**CHIP), (Level(**NODE), Level(**FABRIC)), accelerators)


def fitted_cluster(library: Library | None = None) -> Platform:
    """The cluster with fitted kernels; by default with those of every family, as unfitted as can
    be."""
    if library is None:
        library = Library({name: {"bf16": family.form()} for name, family in FAMILIES.items()})
    cluster = make_cluster()
    return cluster.replace(
        accelerator=cluster.accelerator.replace(compute_units=100.0, kernels=library)
    )


def make_machine(
    platform: Platform, plan: Parallelism, precision: Precision | None = None
) -> Machine:
    """The machine that a plan makes of a platform, in bf16 unless other formats are given."""
    execution = Execution.of(platform.accelerator, precision or Precision())
    return Machine.of(platform, plan, execution)


def as_double(tree):
    """The same numbers in float64."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), tree)


@eqx.filter_jit
def explained(case: Scenario) -> tuple[Estimate, Breakdown]:
    """The estimate and the breakdown of one configuration, by one program: half the compiling."""
    return estimate(case), breakdown(case)


def named_leaves(tree) -> dict[str, jax.Array]:
    """Every number of a record, by name, as `elasticities` calls it."""
    return {name: leaf_at(tree, path) for name, path in leaf_names(tree).items()}


def scaled_one_by_one(tree, factor: float):
    """A batch of the record, one entry for each of its leaves, that leaf times `factor`."""
    leaves, structure = jax.tree.flatten(tree)
    rows = [
        jnp.full(len(leaves), leaf).at[index].multiply(factor) for index, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, rows)


def stack(trees):
    """A batch of records of one structure."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def rows_of(tree, *indices):
    """Some entries of a batch: a batch of them, or for one index the entry."""
    chosen = indices[0] if len(indices) == 1 else np.array(indices)
    return jax.tree.map(lambda leaf: leaf[chosen], tree)


def assert_close(actual, expected, rtol: float, atol: float = 0.0) -> None:
    """Equal, leaf by leaf, within a relative tolerance."""
    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(
            np.asarray(a, float), np.asarray(e, float), rtol=rtol, atol=atol
        ),
        actual,
        expected,
    )


def assert_finite(tree) -> None:
    """No NaN and no infinity in any leaf."""
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)), tree


def assert_derivatives_are_differences(
    function, at, rtol: float = 1e-8, atol: float = 1e-8, step: float = 1e-5
) -> None:
    """First and second derivatives of a scalar function, in float64, are central differences.

    Along one direction; both modes, and for the second order all four of their pairs, in one
    program.

    Arguments:
        function: of an array.
        at: where.
        rtol, atol: tolerances.
        step: of the differences.
    """
    direction = jnp.asarray(np.random.default_rng(0).normal(size=np.shape(at)))
    reverse, forward = jax.grad(function), jax.jacfwd(function)

    def along(x):
        slopes = [reverse(x), forward(x)]
        second = [jax.jvp(slope, (x,), (direction,))[1] for slope in (reverse, forward)]
        second += [
            jax.grad(lambda y, slope=slope: jnp.vdot(slope(y), direction))(x)
            for slope in (reverse, forward)
        ]
        return function(x), slopes, second

    points = at + step * jnp.asarray([0.0, 1.0, -1.0]).reshape(-1, *[1] * np.ndim(at)) * direction
    values, slopes, second = jax.jit(jax.vmap(along))(points)
    for slope in slopes:
        assert_close(
            jnp.vdot(slope[0], direction), (values[1] - values[2]) / (2 * step), rtol, atol
        )
    for curvature in second:
        assert_close(curvature[0], (slopes[0][1] - slopes[0][2]) / (2 * step), rtol, atol)
