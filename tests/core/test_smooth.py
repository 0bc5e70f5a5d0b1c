"""Smooth max, min and ceil: the p-norm's values, bounds, symmetries and derivatives."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import SHARPNESSES, assert_close, assert_derivatives_are_differences, assert_finite

from diffgenz.core.smooth import (
    HARD,
    ceil_share,
    check_sharpness,
    hypotenuse,
    inverse,
    once,
    smooth_max,
    smooth_max_slopes,
    smooth_min,
    smooth_min_slopes,
    straight_through_ceil,
    twice,
)

SOFT = tuple(p for p in SHARPNESSES if p != HARD)
FUNCTIONS = (smooth_max, smooth_min)
EXACT_UP_TO = 1_000_000
DEGENERATE = [(0.0, 0.0), (0.0, 1e-3), (1e-3, 0.0), (1e-3, 1e-3), (1e-6, 1.0), (1.0, 1e-6)]
every = pytest.mark.parametrize("p", SHARPNESSES)
soft = pytest.mark.parametrize("p", SOFT)
both = pytest.mark.parametrize("function", FUNCTIONS, ids=["max", "min"])
precisions = pytest.mark.parametrize(
    ("dtype", "rtol"), [(np.float32, 5e-7), (np.float64, 1e-14)], ids=["float32", "float64"]
)


def pairs(dtype=np.float32, count=4096):
    """Times over 12 decades, close to each other or not."""
    rng = np.random.default_rng(0)
    a = 10 ** rng.uniform(-9, 3, count)
    b = np.where(
        rng.random(count) < 0.5, a * 2 ** rng.uniform(-3, 3, count), 10 ** rng.uniform(-9, 3, count)
    )
    return a.astype(dtype), b.astype(dtype)


@cache
def each(function, p):
    """`function` of arrays, at sharpness `p`."""
    return jax.jit(jax.vmap(lambda a, b: function(a, b, p)))


@cache
def slopes(function, p):
    """Both derivatives of `function`, of arrays."""
    return jax.jit(jax.vmap(jax.grad(lambda a, b: function(a, b, p), argnums=(0, 1))))


@cache
def curvatures(function, p):
    """All second derivatives of `function`, of arrays."""
    return jax.jit(jax.vmap(jax.hessian(lambda a, b: function(a, b, p), argnums=(0, 1))))


def shares(totals, ranks, dtype):
    """`ceil_share` of every total over every number of ranks, against integer arithmetic."""
    totals, ranks = map(np.ravel, np.broadcast_arrays(totals, ranks))
    return jax.jit(jax.vmap(ceil_share))(
        jnp.asarray(totals, dtype), 1 / jnp.asarray(ranks, dtype)
    ), -(-totals // ranks)


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
    value = each(function, p)(a, b)
    assert value.dtype == dtype
    assert_close(value, norm(a, b, p if function is smooth_max else -p), rtol)


@every
def test_lies_between_the_larger_and_the_sum(p):
    a, b = pairs()
    value = each(smooth_max, p)(a, b)
    assert (value >= np.maximum(a, b) * (1 - 2e-7)).all()
    assert (value <= (a + b) * (1 + 2e-7)).all()
    assert (each(smooth_min, p)(a, b) <= np.minimum(a, b) * (1 + 2e-7)).all()


@every
@both
def test_symmetric(function, p, double):
    a, b = pairs(np.float64)
    assert_close(each(function, p)(a, b), each(function, p)(b, a), 1e-14)


@every
@both
def test_homogeneous(function, p, double):
    a, b = pairs(np.float64)
    assert_close(each(function, p)(3.7 * a, 3.7 * b), 3.7 * each(function, p)(a, b), 1e-14)


@every
def test_minimum_is_associative(p, double):
    minimum = each(smooth_min, p)
    a, b = pairs(np.float64)
    c = np.roll(a, 1)
    assert_close(minimum(minimum(a, b), c), minimum(a, minimum(b, c)), 1e-14)


@pytest.mark.parametrize("function", FUNCTIONS, ids=["max", "min"])
def test_sharper_is_nearer_to_hard(function):
    a, b = pairs()
    exact = np.asarray(each(function, HARD)(a, b))
    errors = [np.abs(np.asarray(each(function, p)(a, b)) / exact - 1).max() for p in SHARPNESSES]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == 0


@soft
@both
def test_derivatives_equal_finite_differences_to_second_order(function, p, double):
    def logarithmic(x):
        return jnp.log(function(jnp.exp(x[0]), jnp.exp(x[1]), p))

    points = np.log([(2e-3, 3e-3), (1e-6, 0.9e-6), (5.0, 5.0), (1e-3, 4e-3)])
    assert_derivatives_are_differences(lambda x: jax.vmap(logarithmic)(x).sum(), points)


@every
@both
@precisions
def test_derivatives_are_finite_at_degenerate_points(function, dtype, rtol, p, double):
    a, b = np.array(DEGENERATE, dtype).T
    assert_finite(slopes(function, p)(a, b))
    assert_finite(curvatures(function, p)(a, b))


@soft
def test_an_absent_time_changes_nothing(p):
    value, gradient = jax.value_and_grad(lambda ab: smooth_max(ab[0], ab[1], p))(
        jnp.array([0.0, 3e-4])
    )
    assert_close(value, 3e-4, 2e-7)
    assert_close(gradient, jnp.array([1.0 if p == 1 else 0.0, 1.0]), 3e-7)


@every
@both
@precisions
def test_value_is_the_sum_of_its_parts_by_euler(function, dtype, rtol, p, double):
    a, b = pairs(dtype)
    da, db = slopes(function, p)(a, b)
    assert_close(a * da + b * db, each(function, p)(a, b), 10 * rtol)


@every
def test_slopes_are_the_derivatives(p, double):
    a, b = pairs(np.float64)
    assert_close(each(smooth_max_slopes, p)(a, b), slopes(smooth_max, p)(a, b), 1e-12)


def test_the_default_is_within_a_thousandth_of_hard_at_a_ratio_of_1_8():
    assert_close(smooth_max(jnp.asarray(1.0), jnp.asarray(1.8)), 1.8, 1.2e-3)


@precisions
def test_ceil_share_is_exact_for_every_integer(dtype, rtol, double):
    np.testing.assert_array_equal(*shares(np.arange(1, 20001), np.arange(1, 129)[:, None], dtype))


def test_ceil_share_is_exact_up_to_its_documented_limit():
    np.testing.assert_array_equal(
        *shares(
            np.arange(EXACT_UP_TO - 5000, EXACT_UP_TO + 1), np.arange(1, 129)[:, None], np.float32
        )
    )


def test_rounding_up_keeps_the_slope():
    value, slope = jax.value_and_grad(straight_through_ceil)(jnp.asarray(2.3))
    assert (value, slope) == (3.0, 1.0)
    assert jax.grad(ceil_share)(jnp.asarray(10.0), jnp.asarray(0.25)) == pytest.approx(
        0.25, rel=1e-6
    )


def test_once_is_the_identity_in_value_and_slope():
    value, slopes = jax.value_and_grad(once, argnums=(0, 1))(jnp.asarray(0.3), jnp.asarray(0.125))
    assert value == np.float32(0.3)
    assert slopes == (1.0, 0.0)


@precisions
def test_twice_is_the_identity_in_values_and_slopes(dtype, rtol, double):
    at = [jnp.asarray(x, dtype) for x in (0.3, -7e-12, 0.125)]
    values = twice(*at)
    assert [value.dtype for value in values] == [dtype, dtype]
    np.testing.assert_array_equal(values, at[:2])
    slopes = jax.jacobian(twice, argnums=(0, 1, 2))(*at)
    np.testing.assert_array_equal(slopes, np.eye(3)[:2])
    changes = jax.jvp(twice, at, [jnp.asarray(x, dtype) for x in (2.0, 3.0, 4.0)])[1]
    np.testing.assert_array_equal(changes, [2.0, 3.0])


@pytest.mark.parametrize(("kept", "evaluations"), [(True, 1), (False, 2)])
def test_twice_computes_what_two_numbers_share_in_one_fusion(kept, evaluations):
    """As of jax 0.10; where XLA learns to do so by itself, the second case fails."""

    def two(x, reciprocal):
        y = inverse(x)
        a, b = (x + 1) * y, (x - 1) * y
        return twice(a, b, reciprocal) if kept else (a, b)

    x = jnp.linspace(1.0, 2.0, 4096)
    program = jax.jit(jax.vmap(two)).lower(x, 1 / x).compile().as_text()
    there_and_back = 2  # between a number and its bits
    assert program.count(" bitcast-convert(") == evaluations * there_and_back


def test_a_hypotenuse_has_the_slopes_of_the_square_root(double):
    a, b = pairs(np.float64)
    assert_close(jax.vmap(hypotenuse)(a, b), np.hypot(a, b), 1e-14)
    found = jax.vmap(jax.grad(hypotenuse, argnums=(0, 1)))(a, b)
    assert_close(found, (a / np.hypot(a, b), b / np.hypot(a, b)), 1e-13)
    assert_derivatives_are_differences(
        lambda x: jax.vmap(hypotenuse)(*x.T).sum(), np.array([(2.0, 3.0), (5.0, 0.1)])
    )


@pytest.mark.parametrize("p", [0, -1, 3, 2.5, 16, float("nan")])
def test_unavailable_sharpness_is_refused(p):
    with pytest.raises(ValueError, match=f"sharpness: {p!r}.*HARD"):
        check_sharpness(p)


@every
def test_available_sharpness_passes(p):
    check_sharpness(p)


@every
@pytest.mark.parametrize(
    ("function", "slopes"),
    [(smooth_max, smooth_max_slopes), (smooth_min, smooth_min_slopes)],
    ids=["max", "min"],
)
def test_slopes_by_themselves_are_the_derivatives(function, slopes, p, double):
    for a, b in ((1e-3, 2e-3), (3e-3, 2e-3), (1e-3, 1e-3)):
        a, b = jnp.asarray(a, jnp.float64), jnp.asarray(b, jnp.float64)
        derived = jax.grad(function, (0, 1))(a, b, p)
        assert_close(slopes(a, b, p), derived, rtol=1e-12)
        assert_close(slopes(np.asarray(a)[()], np.asarray(b)[()], p), derived, rtol=1e-12)
