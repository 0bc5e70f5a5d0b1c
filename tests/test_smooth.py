"""Smooth max, min and ceil: the p-norm's values, bounds, symmetries and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from support import SHARPNESSES, assert_close, assert_finite

from diffgenz.smooth import (
    HARD,
    ceil_share,
    check_sharpness,
    once,
    smooth_max,
    smooth_max_slopes,
    smooth_min,
    straight_through_ceil,
)

SOFT = tuple(p for p in SHARPNESSES if p != HARD)
FUNCTIONS = (smooth_max, smooth_min)
DEGENERATE = [(0.0, 0.0), (0.0, 1e-3), (1e-3, 0.0), (1e-3, 1e-3), (1e-6, 1.0), (1.0, 1e-6)]

every = pytest.mark.parametrize("p", SHARPNESSES)
soft = pytest.mark.parametrize("p", SOFT)
both = pytest.mark.parametrize("function", FUNCTIONS, ids=["max", "min"])
precisions = pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 5e-7), (np.float64, 1e-14)], ids=["float32", "float64"])


def pairs(dtype=np.float32, count=4096):
    """Times over 12 decades, near each other and far apart."""
    rng = np.random.default_rng(0)
    a = 10 ** rng.uniform(-9, 3, count)
    b = np.where(rng.random(count) < 0.5, a * 2 ** rng.uniform(-3, 3, count), 10 ** rng.uniform(-9, 3, count))
    return a.astype(dtype), b.astype(dtype)


def norm(a, b, p):
    """(a**p + b**p)**(1/p) in float64; a negative p is the smooth minimum."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if np.isinf(p):
        return np.maximum(a, b) if p > 0 else np.minimum(a, b)
    largest = np.maximum(a, b) if p > 0 else np.minimum(a, b)
    return largest * ((a / largest) ** p + (b / largest) ** p) ** (1 / p)


@every
@precisions
@both
def test_equals_the_p_norm(function, dtype, rtol, p, double):
    a, b = pairs(dtype)
    value = function(jnp.asarray(a), jnp.asarray(b), p)
    assert value.dtype == dtype
    assert_close(value, norm(a, b, p if function is smooth_max else -p), rtol)


@every
def test_lies_between_the_larger_and_the_sum(p):
    a, b = pairs()
    value = smooth_max(a, b, p)
    assert (value >= np.maximum(a, b) * (1 - 2e-7)).all()
    assert (value <= (a + b) * (1 + 2e-7)).all()
    assert (smooth_min(a, b, p) <= np.minimum(a, b) * (1 + 2e-7)).all()


@every
@both
def test_symmetric(function, p):
    a, b = pairs()
    np.testing.assert_array_equal(function(a, b, p), function(b, a, p))


@every
@both
def test_homogeneous(function, p, double):
    a, b = map(jnp.asarray, pairs(np.float64))
    assert_close(function(3.7 * a, 3.7 * b, p), 3.7 * function(a, b, p), 1e-14)


@every
def test_minimum_is_associative(p, double):
    a, b = map(jnp.asarray, pairs(np.float64))
    c = jnp.roll(a, 1)
    assert_close(smooth_min(smooth_min(a, b, p), c, p), smooth_min(a, smooth_min(b, c, p), p), 1e-14)


@pytest.mark.parametrize("function", FUNCTIONS, ids=["max", "min"])
def test_sharper_is_nearer_to_hard(function):
    a, b = pairs()
    exact = np.asarray(function(a, b, HARD))
    errors = [np.abs(np.asarray(function(a, b, p)) / exact - 1).max() for p in SHARPNESSES]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == 0


@soft
@both
def test_derivatives_equal_finite_differences_to_second_order(function, p, double):
    def logarithmic(x):
        return jnp.log(function(jnp.exp(x[0]), jnp.exp(x[1]), p))

    points = np.log([(2e-3, 3e-3), (1e-6, 0.9e-6), (5.0, 5.0), (1e-3, 4e-3)])
    check_grads(jax.jit(lambda x: jax.vmap(logarithmic)(x).sum()), (jnp.asarray(points),), order=2, atol=1e-7, rtol=1e-7)


@every
@both
@precisions
def test_derivatives_are_finite_at_degenerate_points(function, dtype, rtol, p, double):
    a, b = jnp.asarray(DEGENERATE, dtype).T

    def point(a, b):
        return function(a, b, p)

    assert_finite(jax.vmap(jax.grad(point, argnums=(0, 1)))(a, b))
    assert_finite(jax.vmap(jax.hessian(point, argnums=(0, 1)))(a, b))


@soft
def test_an_absent_time_changes_nothing(p):
    value, slopes = jax.value_and_grad(lambda ab: smooth_max(ab[0], ab[1], p))(jnp.array([0.0, 3e-4]))
    assert_close(value, 3e-4, 2e-7)
    assert_close(slopes, [1.0 if p == 1 else 0.0, 1.0], 3e-7)


@every
@both
@precisions
def test_value_is_the_sum_of_its_parts_by_euler(function, dtype, rtol, p, double):
    a, b = map(jnp.asarray, pairs(dtype))
    da, db = jax.vmap(jax.grad(lambda a, b: function(a, b, p), argnums=(0, 1)))(a, b)
    assert_close(a * da + b * db, function(a, b, p), 10 * rtol)


@every
def test_slopes_are_the_derivatives(p, double):
    a, b = map(jnp.asarray, pairs(np.float64))
    slopes = jax.vmap(jax.grad(lambda a, b: smooth_max(a, b, p), argnums=(0, 1)))(a, b)
    for actual, expected in zip(smooth_max_slopes(a, b, p), slopes, strict=True):
        assert_close(actual, expected, 1e-12)


def test_the_default_is_within_a_thousandth_of_hard_at_a_ratio_of_1_8():
    assert_close(smooth_max(jnp.asarray(1.0), jnp.asarray(1.8)), 1.8, 1.2e-3)


@precisions
def test_ceil_share_is_exact_for_every_integer(dtype, rtol, double):
    totals, ranks = np.arange(1, 20001), np.arange(1, 129)[:, None]
    shares = ceil_share(jnp.asarray(totals, dtype), 1 / jnp.asarray(ranks, dtype))
    np.testing.assert_array_equal(shares, -(-totals // ranks))


def test_ceil_share_is_exact_at_its_documented_limit():
    totals, ranks = np.arange(2_399_000, 2_400_001), 2 ** np.arange(8)[:, None]
    shares = ceil_share(jnp.asarray(totals, np.float32), 1 / jnp.asarray(ranks, np.float32))
    np.testing.assert_array_equal(shares, -(-totals // ranks))


def test_rounding_up_keeps_the_slope():
    value, slope = jax.value_and_grad(straight_through_ceil)(jnp.asarray(2.3))
    assert (value, slope) == (3.0, 1.0)
    assert jax.grad(ceil_share)(jnp.asarray(10.0), jnp.asarray(0.25)) == pytest.approx(0.25, rel=1e-6)


def test_once_is_the_identity_in_value_and_slope():
    value, slopes = jax.value_and_grad(once, argnums=(0, 1))(jnp.asarray(0.3), jnp.asarray(0.125))
    assert value == np.float32(0.3)
    assert slopes == (1.0, 0.0)


@pytest.mark.parametrize("p", [0, -1, 3, 2.5, 16, float("nan")])
def test_unavailable_sharpness_is_refused(p):
    with pytest.raises(ValueError, match=f"sharpness: {p!r}.*HARD"):
        check_sharpness(p)


@every
def test_available_sharpness_passes(p):
    check_sharpness(p)
