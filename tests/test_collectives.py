"""Collectives: hand-worked alpha-beta times per wiring, textbook volumes, and what holds for all of them."""

import math

import jax
import jax.numpy as jnp
import pytest
from support import SHARPNESSES, assert_close, assert_finite

from diffgenz.core.smooth import HARD
from diffgenz.hardware.platform import Level
from diffgenz.hardware.specs import TOPOLOGIES
from diffgenz.hardware.topology import Ranks, topology_named
from diffgenz.inference.timing.collectives import Group, Link

WIRINGS = [(name, d) for name in TOPOLOGIES for d in ((2, 3) if name == "torus" else (1,))]
COLLECTIVES = ("all_reduce", "all_gather")
LATENCY, PER_BYTE = 1e-6, 1 / 4e11

wirings = pytest.mark.parametrize(("name", "dimensions"), WIRINGS)
collectives = pytest.mark.parametrize("collective", COLLECTIVES)
sharpnesses = pytest.mark.parametrize("sharpness", SHARPNESSES)

HAND = [  # wiring, accelerators in the level, ranks, collective, and its algorithms: (latencies, share of the volume)
    ("switch", 1, 8, 8, "all_reduce", [(2, 2 * 7 / 8), (1, 7)]),
    ("switch", 1, 8, 2, "all_reduce", [(2, 1), (1, 1)]),
    ("switch", 1, 8, 8, "all_gather", [(1, 7 / 8)]),
    ("mesh", 1, 8, 8, "all_reduce", [(2, 2 * 7 / 8), (1, 7)]),
    (
        "mesh",
        1,
        8,
        4,
        "all_reduce",
        [(2, 2 * 7 / 4), (1, 7)],
    ),  # 3 of 7 links: V / 4 over one link of B / 7, twice
    ("mesh", 1, 8, 4, "all_gather", [(1, 7 / 4)]),
    ("torus", 2, 256, 16, "all_reduce", [(2 * 2 * 3, 2 * 15 / 16)]),  # 4 x 4, both rings both ways
    (
        "torus",
        2,
        256,
        4,
        "all_reduce",
        [(2 * 2 * 1, 2 * 2 * 3 / 4)],
    ),  # 2 x 2: no wrap-around, 2 of 4 links
    ("torus", 3, 4096, 64, "all_gather", [(3 * 3, 63 / 64)]),  # 4 x 4 x 4
    ("torus", 3, 4096, 8, "all_gather", [(3 * 1, 2 * 7 / 8)]),  # 2 x 2 x 2: 3 of 6 links
    ("fabric", 1, 1024, 8, "all_reduce", [(2 * 7, 2 * 7 / 8), (2 * 3, 2)]),  # ring, tree
    ("fabric", 1, 1024, 8, "all_gather", [(3, 7 / 8)]),
]


def link(name, dimensions, size, latency=LATENCY, per_byte=PER_BYTE):
    return Link.of(Level("level", topology_named(name, dimensions), size, 1 / per_byte, latency))


def seconds(collective, links, ranks, volume, sharpness=HARD):
    return getattr(Group.of(jnp.asarray(float(ranks)), links), collective)(
        jnp.asarray(volume), sharpness
    )


@pytest.mark.parametrize("volume", [1e3, 1e6, 1e9])
@pytest.mark.parametrize(("name", "dimensions", "size", "ranks", "collective", "algorithms"), HAND)
def test_hard_time_is_that_of_the_fastest_algorithm_by_hand(
    name, dimensions, size, ranks, collective, algorithms, volume
):
    expected = min(steps * LATENCY + share * volume * PER_BYTE for steps, share in algorithms)
    assert_close(seconds(collective, [link(name, dimensions, size)], ranks, volume), expected, 1e-6)


@sharpnesses
def test_the_choice_among_algorithms_is_a_smooth_minimum(sharpness):
    two_shot, one_shot = 2 * LATENCY + 2 * 7 / 8 * 5e4 * PER_BYTE, LATENCY + 7 * 5e4 * PER_BYTE
    expected = (
        min(two_shot, one_shot)
        if sharpness == HARD
        else (two_shot**-sharpness + one_shot**-sharpness) ** (-1 / sharpness)
    )
    assert_close(seconds("all_reduce", [link("switch", 1, 8)], 8, 5e4, sharpness), expected, 1e-6)


@wirings
@collectives
@sharpnesses
def test_one_rank_costs_nothing(name, dimensions, collective, sharpness):
    assert seconds(collective, [link(name, dimensions, 64)], 1, 1e9, sharpness) == 0


@wirings
def test_one_rank_has_nobody_to_exchange_with(name, dimensions):
    alone = Ranks(jnp.asarray(1.0), jnp.asarray(1.0), jnp.asarray(64.0))
    for schedule in topology_named(name, dimensions).all_to_all(alone):
        assert (schedule.steps, schedule.share) == (0, 0)


@wirings
@collectives
@pytest.mark.parametrize("ranks", [1, 2, 8, 64])
def test_derivatives_are_finite(name, dimensions, collective, ranks):
    def time(volume, latency, bandwidth):
        return seconds(
            collective,
            [Link.of(Level("level", topology_named(name, dimensions), 64, bandwidth, latency))],
            ranks,
            volume,
            8,
        )

    at = (jnp.asarray(1e6), jnp.asarray(LATENCY), jnp.asarray(1 / PER_BYTE))
    assert_finite(jax.grad(time, argnums=(0, 1, 2))(*at))
    assert_finite(jax.hessian(time, argnums=(0, 1, 2))(*at))


@wirings
@pytest.mark.parametrize("ranks", [64, 256])
def test_large_messages_move_the_textbook_volumes(name, dimensions, ranks):
    share = (ranks - 1) / ranks
    links = [link(name, dimensions, ranks, latency=0.0)]
    assert_close(seconds("all_reduce", links, ranks, 1e9), 2 * share * 1e9 * PER_BYTE, 1e-6)
    assert_close(seconds("all_gather", links, ranks, 1e9), share * 1e9 * PER_BYTE, 1e-6)


@wirings
@pytest.mark.parametrize("ranks", [64, 256])
def test_all_to_all_moves_each_ranks_data_once_and_farther_on_a_torus(name, dimensions, ranks):
    crossing = max(1.0, dimensions * ranks ** (1 / dimensions) / 4) if name == "torus" else 1.0
    all_ranks = Ranks(jnp.asarray(float(ranks)), jnp.asarray(1 / ranks), jnp.asarray(float(ranks)))
    assert_close(
        topology_named(name, dimensions).all_to_all(all_ranks)[0].share,
        (ranks - 1) / ranks * crossing,
        1e-6,
    )


@wirings
@collectives
@sharpnesses
def test_never_slower_on_a_better_network_nor_faster_with_more_to_move(
    name, dimensions, collective, sharpness
):
    def time(bandwidth, latency, volume):
        return seconds(
            collective,
            [Link.of(Level("level", topology_named(name, dimensions), 64, bandwidth, latency))],
            16,
            volume,
            sharpness,
        )

    up = jnp.logspace(0, 4, 9)
    ones = jnp.ones(9)
    assert (jnp.diff(jax.vmap(time)(1e9 * up, 1e-6 * ones, 1e6 * ones)) <= 0).all()
    assert (jnp.diff(jax.vmap(time)(1e11 * ones, 1e-9 * up, 1e6 * ones)) >= 0).all()
    assert (jnp.diff(jax.vmap(time)(1e11 * ones, 1e-6 * ones, 1e3 * up)) >= 0).all()


@pytest.mark.parametrize(
    "name", ["switch", "fabric"]
)  # on a mesh or torus, more ranks have more links between them
@collectives
def test_more_ranks_are_never_faster(name, collective):
    times = [
        float(seconds(collective, [link(name, 1, 64)], ranks, 1e6)) for ranks in (1, 2, 4, 8, 64)
    ]
    assert times == sorted(times)


@wirings
@collectives
def test_twice_as_fast_in_everything_is_twice_as_fast(name, dimensions, collective):
    now = seconds(collective, [link(name, dimensions, 64)], 16, 1e6, 8)
    faster = seconds(
        collective, [link(name, dimensions, 64, LATENCY / 2, PER_BYTE / 2)], 16, 1e6, 8
    )
    assert_close(faster, now / 2, 1e-6)


@pytest.mark.parametrize("volume", [1e4, 1e6, 1e9])
def test_two_nodes_of_eight_reduce_inside_then_an_eighth_outside(volume):
    links = [link("switch", 1, 8), link("fabric", 1, 1024, 5e-6, 1 / 5e10)]
    inside = min(2 * LATENCY + 2 * 7 / 8 * volume * PER_BYTE, LATENCY + 7 * volume * PER_BYTE)
    outside = min(2 * 5e-6 + 2 * 1 / 2 * volume / 8 / 5e10, 2 * 5e-6 + 2 * volume / 8 / 5e10)
    assert_close(seconds("all_reduce", links, 16, volume), inside + outside, 1e-6)
    gather = LATENCY + 7 / 8 * volume * PER_BYTE + 5e-6 + 1 / 2 * volume / 8 / 5e10
    assert_close(seconds("all_gather", links, 16, volume), gather, 1e-6)


@collectives
def test_ranks_that_fill_an_inner_level_leave_the_outer_one_alone(collective):
    inner = link("switch", 1, 8)
    alone = seconds(collective, [inner], 8, 1e6)
    for outer in (link("fabric", 1, 1024), link("fabric", 1, 1024, 1.0, 1.0)):
        assert seconds(collective, [inner, outer], 8, 1e6) == alone


def test_a_message_takes_its_latency_and_its_bytes():
    assert_close(link("switch", 1, 8).send(jnp.asarray(1e6)), LATENCY + 1e6 * PER_BYTE, 1e-6)
    assert math.isclose(
        float(
            Link.of(Level("level", topology_named("switch"), 8, 4e11, 0.0, efficiency=0.5)).per_byte
        ),
        2 * PER_BYTE,
        rel_tol=1e-6,
    )
