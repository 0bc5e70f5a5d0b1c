"""Collectives: alpha-beta times by hand, of one level and of several."""

import jax.numpy as jnp
import numpy as np
import pytest
from support import SHARPNESSES, assert_close

from diffgenz.core.smooth import HARD
from diffgenz.hardware.network import Level
from diffgenz.hardware.topology import topology_named
from diffgenz.inference.timing.collectives import Group, Link

COLLECTIVES = ("all_reduce", "all_gather")
LATENCY, PER_BYTE = 1e-6, 1 / 4e11
collectives = pytest.mark.parametrize("collective", COLLECTIVES)
sharpnesses = pytest.mark.parametrize("sharpness", SHARPNESSES)

HAND = [
    ("switch", 1, 8, 8, "all_reduce", [(2, 2 * 7 / 8), (1, 7)]),
    ("switch", 1, 8, 2, "all_reduce", [(2, 1), (1, 1)]),
    ("switch", 1, 8, 8, "all_gather", [(1, 7 / 8)]),
    ("mesh", 1, 8, 8, "all_reduce", [(2, 2 * 7 / 8), (1, 7)]),
    # 3 of 7 links: V / 4 over one link of B / 7, twice
    ("mesh", 1, 8, 4, "all_reduce", [(2, 2 * 7 / 4), (1, 7)]),
    ("mesh", 1, 8, 4, "all_gather", [(1, 7 / 4)]),
    # 4 x 4, both rings both ways
    ("torus", 2, 256, 16, "all_reduce", [(2 * 2 * 3, 2 * 15 / 16)]),
    # 2 x 2: no wrap-around, 2 of 4 links
    ("torus", 2, 256, 4, "all_reduce", [(2 * 2 * 1, 2 * 2 * 3 / 4)]),
    # 4 x 4 x 4
    ("torus", 3, 4096, 64, "all_gather", [(3 * 3, 63 / 64)]),
    # 2 x 2 x 2: 3 of 6 links
    ("torus", 3, 4096, 8, "all_gather", [(3 * 1, 2 * 7 / 8)]),
    # ring, tree
    ("fabric", 1, 1024, 8, "all_reduce", [(2 * 7, 2 * 7 / 8), (2 * 3, 2)]),
    ("fabric", 1, 1024, 8, "all_gather", [(3, 7 / 8)]),
]
"""A wiring, its dimensions, accelerators in the level, ranks, a collective, and its algorithms:
latencies, and the share of the volume on the wire."""


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
    expected = min(two_shot, one_shot)
    if sharpness != HARD:
        expected = (two_shot**-sharpness + one_shot**-sharpness) ** (-1 / sharpness)
    assert_close(seconds("all_reduce", [link("switch", 1, 8)], 8, 5e4, sharpness), expected, 1e-6)


@sharpnesses
@pytest.mark.parametrize("volume", [0.0, 1e3, 1e6, 1e9])
@pytest.mark.parametrize(("name", "steps", "share"), [("switch", 1, 1), ("fabric", 2, 1)])
def test_two_ranks_take_the_algorithm_that_always_wins(name, steps, share, volume, sharpness):
    """One shot on a switch, the ring on a fabric: the other takes no part in the choice."""
    now = seconds("all_reduce", [link(name, 1, 64)], 2, volume, sharpness)
    assert_close(now, steps * LATENCY + share * volume * PER_BYTE, 2e-7)


@sharpnesses
@pytest.mark.parametrize("ranks", [2, 3, 4, 8, 64])
@pytest.mark.parametrize("name", ["switch", "mesh", "fabric"])
def test_nothing_is_shorter_than_its_fastest_algorithm_lets_it_be(name, ranks, sharpness):
    """A smooth minimum of two is at least 2**(-1/p) times the smaller: so where they are equal."""
    wires = [link(name, 1, 64)]
    ranks_there = Group.of(jnp.asarray(float(ranks)), wires).rungs[0].ranks
    first, second = topology_named(name, 1).all_reduce(ranks_there)
    tie = LATENCY * (second.steps - first.steps) / (PER_BYTE * (first.share - second.share))
    for volume in (1e3, 1e6, 1e9, abs(float(tie)) if np.isfinite(tie) else 1e5):
        fastest = min(s.steps * LATENCY + s.share * volume * PER_BYTE for s in (first, second))
        now = float(seconds("all_reduce", wires, ranks, volume, sharpness))
        least = 1.0 if ranks == 2 or sharpness == HARD else 2 ** (-1 / sharpness)
        assert least * (1 - 1e-6) <= now / float(fastest) <= 1 + 1e-6


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


def test_ranks_at_a_distance_leave_the_node_sooner(cluster):
    """4 ranks: neighbours share a node of 8, 8 apart none do; 8 ranks 2 apart are 4 in each of
    2."""
    links, volume = tuple(Link.of(level) for level in cluster.network), jnp.asarray(1e6)

    def gathered(count, stride):
        ranks, distance = jnp.asarray(float(count)), jnp.asarray(float(stride))
        return Group.of(ranks, links, distance).all_gather(volume, HARD)

    assert_close(gathered(4, 1), 1e-6 + 3 / 4 * 1e6 / 4e11, rtol=1e-6)
    assert_close(gathered(4, 8), 2 * 5e-6 + 3 / 4 * 1e6 / 5e10, rtol=1e-6)
    two_nodes = 1e-6 + 3 / 4 * 1e6 / 4e11 + 5e-6 + 1 / 2 * (1e6 / 4) / 5e10
    assert_close(gathered(8, 2), two_nodes, rtol=1e-6)
    assert_close(gathered(8, 1), seconds("all_gather", links, 8, 1e6), rtol=1e-6)


def test_a_message_takes_its_latency_and_its_bytes():
    assert_close(link("switch", 1, 8).send(jnp.asarray(1e6)), LATENCY + 1e6 * PER_BYTE, 1e-6)
    half = Level("level", topology_named("switch"), 8, 4e11, 0.0, efficiency=0.5)
    assert_close(Link.of(half).per_byte, 2 * PER_BYTE, 1e-6)
