"""Laws of collectives, for every wiring: textbook volumes, monotone, homogeneous, smooth."""

import jax
import jax.numpy as jnp
import pytest
from support import SHARPNESSES, assert_close, assert_finite

from diffgenz.core.smooth import HARD
from diffgenz.hardware.network import Level
from diffgenz.hardware.topology import TOPOLOGIES, Ranks, topology_named
from diffgenz.inference.timing.collectives import Group, Link

WIRINGS = [(name, d) for name in TOPOLOGIES for d in ((2, 3) if name == "torus" else (1,))]
COLLECTIVES = ("all_reduce", "all_gather")
LATENCY, PER_BYTE = 1e-6, 1 / 4e11
wirings = pytest.mark.parametrize(("name", "dimensions"), WIRINGS)
collectives = pytest.mark.parametrize("collective", COLLECTIVES)
sharpnesses = pytest.mark.parametrize("sharpness", SHARPNESSES)


def link(name, dimensions, size, latency=LATENCY, per_byte=PER_BYTE):
    return Link.of(Level("level", topology_named(name, dimensions), size, 1 / per_byte, latency))


def seconds(collective, links, ranks, volume, sharpness=HARD):
    return getattr(Group.of(jnp.asarray(float(ranks)), links), collective)(
        jnp.asarray(volume), sharpness
    )


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


@pytest.mark.parametrize("name", ["switch", "fabric"])
@collectives
def test_more_ranks_are_never_faster(name, collective):
    """On a mesh or torus they may be: more ranks have more links between them."""
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
