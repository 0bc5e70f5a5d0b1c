"""What collectives take at least between nodes: `Level.start`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import assert_close

from diffgenz import load_platform
from diffgenz.hardware.network import Level
from diffgenz.hardware.topology import topology_named
from diffgenz.inference.timing.collectives import Group, Link
from diffgenz.kernels.library import Library

START = 25e-6
COLLECTIVES = ("all_reduce", "all_gather")


def seconds(collective, ranks, volume, start=START, sharpness=20.0):
    near = Level("node", topology_named("switch"), 8, 450e9, 1e-6)
    far = Level("fabric", topology_named("fabric"), 1024, 50e9, 5e-6, start=start)
    group = Group.of(jnp.asarray(float(ranks)), [Link.of(near), Link.of(far)])
    return getattr(group, collective)(jnp.asarray(volume, float), sharpness)


@pytest.mark.parametrize("collective", COLLECTIVES)
@pytest.mark.parametrize("ranks", [1, 2, 8])
def test_nothing_changes_inside_a_node(collective, ranks):
    for volume in (0.0, 1e4, 1e9):
        assert seconds(collective, ranks, volume) == seconds(collective, ranks, volume, start=0.0)


@pytest.mark.parametrize("collective", COLLECTIVES)
@pytest.mark.parametrize("ranks", [16, 24, 256])
def test_between_nodes_it_is_a_floor_that_is_nothing_beside_large_messages(collective, ranks):
    for volume in (0.0, 1e4, 1e7):
        bare = seconds(collective, ranks, volume, start=0.0)
        assert_close(seconds(collective, ranks, volume) - bare, START, 1e-4)
    much = [seconds(collective, ranks, 1e10, start) for start in (0.0, START)]
    assert 1 < much[1] / much[0] < 1.002


@pytest.mark.parametrize("collective", COLLECTIVES)
def test_its_slope_is_one_between_nodes_and_none_inside(collective):
    def slopes(ranks, volume):
        along = jax.grad(
            lambda x: seconds(collective, ranks, x[0], x[1]) * 1e6  # us, so that slopes are seen
        )
        return np.asarray(jax.jit(along)(jnp.array([volume, START])))

    for volume in (0.0, 1e4, 1e9):
        inside, between = slopes(8, volume), slopes(16, volume)
        assert np.isfinite([*inside, *between]).all()
        assert_close(between[1], 1e6, 1e-6)
        assert inside[1] == 0


@pytest.mark.parametrize("system", ["a100_sxm", "h100_sxm", "h200_sxm", "b200_sxm", "mi350x"])
def test_small_all_reduces_over_two_nodes_are_neither_below_nccls_model_nor_above_logs(system):
    """NCCL reckons with 25 us for 16 B over 2 x 8 GPUs (nccl/src/graph/tuning.cc, tree, LL).

    Logs of 2 kB to 16 kB are at 35 to 46 us (sources in the accelerators' files).
    """
    platform = load_platform(system, accelerators=16)
    levels = platform.network
    library = platform.accelerator.kernels or Library({})
    form = library.form("all_reduce", "bf16")
    fitted = {} if form is None else {"all_reduce": form}
    launch = platform.accelerator.launch_latency
    near, far = Link.of(levels[0], fitted, launch), Link.of(levels[1])
    for volume in (2e3, 16e3):
        time = float(Group.of(jnp.asarray(16.0), [near, far]).all_reduce(jnp.asarray(volume), 20.0))
        assert 25e-6 < time < 60e-6
