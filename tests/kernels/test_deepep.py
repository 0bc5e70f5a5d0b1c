"""DeepEP's dispatch and combine: forms worked by hand, their limits and gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffgenz.kernels.forms.deepep import CHUNK, Combine, Dispatch
from diffgenz.kernels.hardware import Wires
from diffgenz.kernels.shapes import ExchangeShape

WIRES = Wires(4e9, 1e-6, 1e9, 5e-6, 2e-6)

EXCHANGE = ExchangeShape(16.0, 2.0, 64.0, 1e6, 4e6, 2e6, 20.0)


def test_an_exchange_worked_by_hand():
    parameters: dict[str, Any] = {
        "near_efficiency": 0.5,
        "far_efficiency": 0.8,
        "launch": 1.0,
        "barrier": 10.0,
        "hidden": 3.0,
        "expert": 0.1,
    }
    parameters |= {
        "far_hop": 2.0,
        "row": 1.0,
        "touch": 1.0,
        "copy": 2.0,
        "rise": 4.0,
        "onset": 1000.0,
    }
    form = Dispatch(**parameters)
    fixed = 2e-6 + 12e-6 + 2 * 5e-6 / 2
    lane = (64 + (1e6 + 2 * 6e6) / CHUNK) * 1e-6 / 20
    busy = np.sqrt((3e-6) ** 2 + (1e-3 / 0.5) ** 2 + (2e-3 / 0.8) ** 2 + lane**2)
    assert float(form.seconds(EXCHANGE, WIRES)) == pytest.approx(fixed + busy + 2e-6, rel=1e-5)


@pytest.mark.parametrize("form", [Dispatch(), Combine()])
def test_an_exchange_tends_to_its_slower_wire_and_one_rank_takes_no_time(form):
    far = EXCHANGE._replace(own=0.0, near=0.0, far=1e12, lanes=1e9)
    assert float(form.seconds(far, WIRES)) > float(form.work(far).bound(WIRES))
    many = form.replace(expert=1e-12)
    assert float(many.seconds(far, WIRES)) == pytest.approx(
        float(1e12 / (1e9 * form.far_efficiency)), rel=1e-3
    )
    assert (
        float(form.seconds(EXCHANGE._replace(ranks=1.0, nodes=1.0, near=0.0, far=0.0), WIRES)) == 0
    )


@pytest.mark.parametrize(
    "shape",
    [
        (1, 1, 1, 1, 0, 0, 1),
        (8, 1, 0, 0, 0, 0, 8),
        (8, 1, 1, 7168, 0, 0, 256),
        (512, 64, 1e6, 1e10, 1e11, 1e11, 20),
    ],
)
def test_gradients_of_exchanges_are_finite(shape):
    gradients = jax.grad(lambda wires, form, shape: form.seconds(shape, wires), (0, 1, 2))(
        _singles(WIRES), Dispatch(), _singles(ExchangeShape(*shape))
    )
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradients))


def _singles(numbers: Any) -> Any:
    return type(numbers)(*(jnp.float32(x) for x in numbers))
