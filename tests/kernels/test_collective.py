"""Collectives: forms worked by hand, their limits and gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffgenz.kernels.forms.collective import AllGather, AllReduce, AllToAll
from diffgenz.kernels.forms.custom_allreduce import CustomAllReduce
from diffgenz.kernels.hardware import Wire
from diffgenz.kernels.shapes import CollectiveShape

WIRE = Wire(1e9, 1e-6, 2e-6)


def test_a_collective_worked_by_hand():
    parameters: dict[str, Any] = {
        "efficiency": 0.5,
        "pairing": 0.5,
        "crowding": 0.01,
        "launch": 1.0,
        "barrier": 3.0,
        "hop": 1.0,
    }
    parameters |= {"rise": 0.5, "onset": 1.0, "setup": 2.0, "refill": 1.0, "switch": 0.25}
    form = AllReduce(**parameters)
    flat = 2e-6 + (3 + 2 * 3) * 1e-6
    transfer = 2 * 3 / 3.5 * 1e-6 / 0.5 * (1 + 0.01 * 12)
    step, start = 0.5 * flat / 2, (2 + 2 * 3) * 1e-6 / 2
    seconds = form.seconds(CollectiveShape(4.0, 1000.0), WIRE)
    assert float(seconds) == pytest.approx(flat + transfer + step + start, rel=1e-5)


@pytest.mark.parametrize("form", [AllReduce(), AllGather(), AllToAll()])
def test_a_collective_tends_to_its_bandwidth_and_one_rank_takes_no_time(form):
    bandwidth = (
        form.passes
        * 1e12
        * 7
        / (8 - form.pairing)
        / (1e9 * form.efficiency)
        * (1 + 60 * form.crowding)
    )
    assert float(form.seconds(CollectiveShape(8.0, 1e12), WIRE)) == pytest.approx(
        float(bandwidth), rel=1e-3
    )
    assert float(form.seconds(CollectiveShape(1.0, 1e9), WIRE)) == 0
    assert float(form.seconds(CollectiveShape(8.0, 1e12), WIRE)) > float(
        form.work(CollectiveShape(8.0, 1e12)).bound(WIRE)
    )


def test_a_custom_all_reduce_is_one_shot_while_small_and_two_passes_when_large():
    form = CustomAllReduce()
    nothing, small, large = (
        float(form.seconds(CollectiveShape(8.0, volume), WIRE)) for volume in (0.0, 10.0, 1e12)
    )
    assert small - nothing == pytest.approx(
        float(7 * 10 / (1e9 * form.one_shot) * (1 + 60 * form.crowding)), rel=2e-2
    )
    assert large == pytest.approx(
        float(
            2 * 7 / (8 - form.pairing) * 1e12 / (1e9 * form.efficiency) * (1 + 60 * form.crowding)
        ),
        rel=0.05,
    )
    assert float(form.seconds(CollectiveShape(1.0, 1e6), WIRE)) == 0


@pytest.mark.parametrize(("ranks", "volume"), [(1, 0), (1, 1e9), (2, 0), (2, 1), (72, 1e12)])
@pytest.mark.parametrize("form", [AllReduce(), AllToAll(), CustomAllReduce()])
def test_gradients_of_collectives_are_finite(form, ranks, volume):
    gradients = jax.grad(lambda wire, form, shape: form.seconds(shape, wire), (0, 1, 2))(
        _singles(WIRE), form, _singles(CollectiveShape(ranks, volume))
    )
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradients))


def _singles(numbers: Any) -> Any:
    return type(numbers)(*(jnp.float32(x) for x in numbers))
