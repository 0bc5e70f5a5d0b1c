"""The seam between NumPy and JAX: who calculates, in which type, and what it does not know."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffgenz.core import xp

HALF = np.float32(0.5)
ELEMENTWISE = {
    xp.ceil: jnp.ceil,
    xp.exp: jnp.exp,
    xp.exp2: jnp.exp2,
    xp.expm1: jnp.expm1,
    xp.floor: jnp.floor,
    xp.log: jnp.log,
    xp.log1p: jnp.log1p,
    xp.log2: jnp.log2,
    xp.round: jnp.round,
    xp.sigmoid: jax.nn.sigmoid,
    xp.sqrt: jnp.sqrt,
    xp.ones_like: jnp.ones_like,
    xp.zeros_like: jnp.zeros_like,
}
named = pytest.mark.parametrize("function", ELEMENTWISE, ids=lambda each: each.__name__)


@named
def test_a_number_of_numpy_stays_of_numpy(function):
    found = function(HALF)
    assert not xp.is_jax(found)
    assert found.dtype == np.float32
    assert found == pytest.approx(float(ELEMENTWISE[function](HALF)), rel=1e-6)
    assert function(np.float64(0.5)).dtype == np.float64
    assert function(np.full(3, HALF)).shape == (3,)


@named
def test_what_is_traced_is_of_jax(function):
    assert xp.is_jax(function(jnp.asarray(HALF)))
    jax.jit(lambda x: function(x) + 1)(HALF)


def test_python_numbers_are_of_the_default_type(double):
    for x in (xp.sqrt(2.0), xp.where(True, 1.0, 0.0), xp.asarray(1.0), xp.zeros(()), xp.ones(2)):
        assert x.dtype == np.float64
    with jax.enable_x64(False):
        for x in (xp.sqrt(2.0), xp.where(True, 1.0, 0.0), xp.asarray(1.0), xp.maximum(1, 2.0)):
            assert x.dtype == np.float32
        assert xp.asarray(np.float64(1), float).dtype == np.float32
    assert xp.maximum(HALF, 0.1).dtype == xp.where(True, HALF, 0.1).dtype == np.float32


def test_columns_broadcast():
    column = np.array([1.0, 2.0], np.float32)
    assert xp.stack([column, HALF]).tolist() == [[1, 2], [0.5, 0.5]]
    assert xp.where(column > 1, column, HALF).tolist() == [0.5, 2]
    assert xp.clip(column, 1.5, 3.0).tolist() == [1.5, 2]
    doubled = xp.mapped(lambda x, y: x * y, (0, None))
    assert doubled(column, 2.0).tolist() == doubled(jnp.asarray(column), 2.0).tolist() == [2, 4]


def test_a_rule_is_for_jax_alone():
    @xp.rule
    def square(x):
        return x * x

    @square.defjvp
    def _(primals, tangents):
        return square(primals[0]), 10 * tangents[0]

    assert square(np.float32(3)) == 9
    assert jax.grad(square)(3.0) == 10


def test_the_gradient_stops_in_whole_records():
    def product(x):
        return x * xp.stop_gradient({"x": x, "three": np.float32(3)})["x"]

    assert jax.grad(product)(2.0) == 2
    assert xp.stop_gradient((HALF,)) == (HALF,)


def test_what_it_does_not_know_fails():
    """Were it JAX's, it would turn the rest of a calculation into JAX's float32."""
    with pytest.raises(AttributeError):
        xp.cumsum  # noqa: B018


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_steps_are_repeated(array):
    """Fibonacci's numbers, from a pair of them."""
    state = array(0.0), array(1.0)
    first, second = xp.repeated(lambda pair: (pair[1], pair[0] + pair[1]), state, 10)
    assert (float(first), float(second)) == (55.0, 89.0)
