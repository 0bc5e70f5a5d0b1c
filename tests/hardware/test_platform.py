"""Platforms: what a file becomes, and what the records refuse."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from support import CHIP, FABRIC, NODE, assert_close

from diffgenz import Accelerator, Level, MemoryTier, Platform, load_platform
from diffgenz.core.errors import InputError
from diffgenz.hardware.specs import list_systems, read_spec

SYSTEMS = list_systems()
systems = pytest.mark.parametrize("system", SYSTEMS)


@pytest.mark.parametrize(
    "system",
    [
        system
        for system in SYSTEMS
        if system not in ("groq_lpu", "cerebras_wse3") and not system.startswith("cpu")
    ],
)
def test_ridge_point_of_accelerators_with_dram(system):
    ridge = load_platform(system).accelerator.ridge_point
    assert 10 <= float(ridge.get("bf16", ridge.get("fp16"))) <= 2000


@systems
def test_a_platform_carries_the_figures_of_its_file(system):
    spec, platform = read_spec(system), load_platform(system)
    chip = platform.accelerator
    assert float(chip.memory_bandwidth) == pytest.approx(spec.memory["bandwidth"], rel=1e-7)
    assert {
        key: pytest.approx(float(peak), rel=1e-7) for key, peak in chip.peak_flops.items()
    } == spec.peak_flops
    assert [float(level.size) for level in platform.network] == [
        level.figures["size"] for level in spec.network
    ]
    assert (chip.price is None) == (not spec.price)


@systems
def test_full_use_draws_tdp(system):
    """Idle power, and compute, memory and network at full use: together TDP.

    The last three are as 4 : 2 : 1.
    """
    platform, tdp = load_platform(system), read_spec(system).power["tdp"]
    chip, link = platform.accelerator, platform.network[0]
    powers = [chip.compute_power, chip.memory_power, link.power]
    assert_close([power / link.power for power in powers], [4, 2, 1], 1e-6)
    assert_close(chip.idle_power + sum(powers), tdp, 1e-6)


@systems
def test_a_byte_costs_as_much_on_every_level(system):
    levels = load_platform(system).network
    costs = [level.power / level.bandwidth for level in levels]
    assert_close(costs, [costs[0]] * len(levels), 1e-6)


# a record, how it is built, and the fields that must be above zero, may be zero, or are shares
RECORDS = {
    "Accelerator": (
        Accelerator,
        CHIP,
        ("memory_bandwidth", "memory_capacity"),
        (
            "memory_reserve",
            "launch_latency",
            "idle_power",
            "compute_power",
            "memory_power",
            "price",
        ),
    ),
    "Level": (Level, NODE, ("bandwidth",), ("latency", "power")),
    "MemoryTier": (
        MemoryTier,
        {"name": "host", "capacity": 1e12, "bandwidth": 6e10},
        ("capacity", "bandwidth"),
        (),
    ),
}

SHARES = [
    ("Accelerator", "compute_efficiency"),
    ("Accelerator", "memory_efficiency"),
    ("Level", "efficiency"),
]

BAD = [
    *(
        (record, field, value)
        for record, (_, _, above, _) in RECORDS.items()
        for field in above
        for value in (0.0, -1.0, float("nan"), float("inf"))
    ),
    *(
        (record, field, value)
        for record, (*_, least) in RECORDS.items()
        for field in least
        for value in (-1.0, float("nan"), float("inf"))
    ),
    *(
        (record, field, value)
        for record, field in SHARES
        for value in (0.0, -1.0, 1.5, float("nan"))
    ),
    *(("Level", "size", value) for value in (0.0, 0.5, -8.0, float("nan"))),
]


@pytest.mark.parametrize(("record", "field", "value"), BAD)
def test_a_bad_number_is_refused_by_field_and_value(record, field, value):
    kind, arguments, *_ = RECORDS[record]
    with pytest.raises(InputError, match=f"{field}: {value:g} is not allowed"):
        kind(**arguments | {field: value})
    with pytest.raises(InputError, match=f"{field}: {value:g} is not allowed"):
        kind(**arguments).replace(**{field: value})
    with pytest.raises(InputError, match=f"{field}: {value:g} is not allowed"):
        kind(**arguments | {field: jnp.array([arguments.get(field, 1.0), value])})


def test_a_bad_number_in_a_table_is_refused_by_key():
    with pytest.raises(InputError, match=r"peak_flops\[fp8\]: -1 is not allowed"):
        Accelerator(**CHIP | {"peak_flops": {"bf16": 1.0, "fp8": -1.0}})


@pytest.mark.parametrize("accelerators", [0, -1, float("nan"), float("inf")])
def test_a_bad_number_of_accelerators_is_refused(cluster, accelerators):
    with pytest.raises(InputError, match=f"accelerators: {accelerators:g} is not allowed"):
        cluster.replace(accelerators=accelerators)


def test_more_accelerators_than_the_network_connects_are_refused(cluster):
    with pytest.raises(
        InputError, match=r"accelerators: 2000 .*1024.*fabric|accelerators: 2000 .*fabric.*1024"
    ):
        cluster.replace(accelerators=2000)
    with pytest.raises(InputError, match="accelerators: 2 .*network"):
        Platform(Accelerator(**CHIP), (), 2)


def test_levels_that_do_not_grow_outwards_are_refused():
    with pytest.raises(InputError, match="network"):
        Platform(
            Accelerator(**CHIP), (Level(**NODE | {"size": 16}), Level(**FABRIC | {"size": 8})), 4
        )


def test_replace_refuses_unknown_fields_with_the_nearest(cluster):
    with pytest.raises(
        InputError,
        match="Accelerator field: 'memory_bandwith' is not known; did you mean memory_bandwidth",
    ):
        cluster.accelerator.replace(memory_bandwith=1.0)


def test_replace_changes_one_field_only(cluster):
    faster = cluster.accelerator.replace(memory_bandwidth=8e12)
    assert faster.memory_bandwidth == 2 * cluster.accelerator.memory_bandwidth
    assert eqx.tree_equal(faster.replace(memory_bandwidth=4e12), cluster.accelerator)


def test_records_are_built_under_jit_and_vmap(cluster):
    def ridge(bandwidth):
        return cluster.replace(
            accelerator=cluster.accelerator.replace(memory_bandwidth=bandwidth)
        ).accelerator.ridge_point["bf16"]

    bandwidths = jnp.array([1e12, 2e12, 4e12])
    assert_close(jax.jit(jax.vmap(ridge))(bandwidths), 1e15 / bandwidths, 1e-6)


def test_counts_are_floating_point(cluster):
    assert all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(cluster))


def test_a_format_that_the_accelerator_lacks_is_refused_with_those_it_has(cluster):
    with pytest.raises(InputError, match="chip has no nvfp4 arithmetic; it has bf16, fp8"):
        cluster.accelerator.peak("nvfp4")
