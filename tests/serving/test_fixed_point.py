"""Equations in one or two unknowns, solved and differentiated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffgenz.serving.fixed_point import Tried, solve


def half_way(state, theta):
    """x = theta / (1 + x), a quadratic equation; a step goes half of the way."""
    (x,), right = state, theta / (1 + state[0])
    return Tried((jnp.log(right / x),), ((x + right) / 2,), 3 * x)


def quadratic(theta):
    """Three times its solution, by hand."""
    return 3 * (np.sqrt(1 + 4 * theta) - 1) / 2


def pair(state, theta):
    """x = a + b y and y = a + c / x: `a` and `c` bring y from one equation into the other."""
    (x, y), (a, b, c) = state, theta
    right = a + b * y, a + c / x
    off = jnp.log(right[0] / x), jnp.log(right[1] / y)
    return Tried(off, tuple((old + new) / 2 for old, new in zip(state, right, strict=True)), x * y)


def paired(a, b, c):
    """Its x y, by hand: x^2 - (a + a b) x - b c = 0."""
    x = (a + a * b + np.sqrt((a + a * b) ** 2 + 4 * b * c)) / 2
    return x * (a + c / x)


def ones(count):
    """The start of all unknowns, and their least."""

    def start(theta):
        one = jnp.ones_like(jax.tree.leaves(theta)[0])
        return count * (one,), count * (1e-6 * one,)

    return start


@pytest.mark.parametrize("theta", [1e-3, 0.5, 2.0, 1e4])
def test_one_unknown(theta):
    with jax.enable_x64(True):
        found = solve(half_way, ones(1), jnp.asarray(theta, jnp.float64), 4)
    assert float(found) == pytest.approx(quadratic(theta), rel=1e-12)


def test_many_at_once_in_float32_with_derivatives():
    """Compiled and batched, against the closed form; rounding does not throw a solution away."""
    random = np.random.default_rng(3)
    theta = random.uniform(0.2, 5.0, (500, 3))

    def answer(theta):
        return solve(pair, ones(2), (theta[0], theta[1], theta[2]), 6)

    value, slopes = jax.jit(jax.vmap(jax.value_and_grad(answer)))(jnp.asarray(theta, jnp.float32))
    np.testing.assert_allclose(value, paired(*theta.T), rtol=2e-5)
    for i in range(3):
        step = np.eye(3)[i] * 1e-6
        expected = (paired(*(theta + step).T) - paired(*(theta - step).T)) / 2e-6
        np.testing.assert_allclose(slopes[:, i], expected, rtol=2e-4, atol=2e-4)


def test_second_derivatives():
    with jax.enable_x64(True):
        second = jax.grad(jax.grad(lambda theta: solve(half_way, ones(1), theta, 4)))(
            jnp.asarray(2.0, jnp.float64)
        )
    ends = quadratic(np.array([2.0 - 1e-4, 2.0, 2.0 + 1e-4]))
    assert float(second) == pytest.approx(np.diff(ends, n=2)[0] / 1e-8, rel=1e-5)


def test_unknowns_stay_above_their_least():
    """Where there is no solution, what is answered is as near to it as may be."""

    def falling(state, theta):
        return Tried((state[0] + theta,), (state[0] / 2,), state[0])

    found = solve(
        falling, lambda theta: ((np.float32(1.0),), (np.float32(0.25),)), jnp.asarray(1.0), 0
    )
    assert float(found) == pytest.approx(0.25)
