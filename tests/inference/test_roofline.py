"""The smooth roofline by hand, and its derivative rule against differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import (
    SHARPNESSES,
    assert_close,
    assert_derivatives_are_differences,
    assert_finite,
)

from diffgenz.core.smooth import HARD
from diffgenz.inference.timing.roofline import Rates, operator_shares, operators_time
from diffgenz.operators.attention import attention
from diffgenz.operators.elementwise import elementwise
from diffgenz.operators.layer_format import LINEAR
from diffgenz.operators.linear import linear, wide_linear
from diffgenz.operators.operator import Kind, Operator
from diffgenz.operators.precision import Precision
from diffgenz.operators.step import Step

MIXED = Precision("bf16", weights="int8", activations="fp8", kv_cache="fp8")


def x(value):
    return jnp.asarray(float(value))


def operators(scale):
    """One of each kind on both sides of the ridge; `scale` multiplies tokens, features, hidden,
    context and repeats."""
    tokens, features, hidden, context, repeats = scale * jnp.asarray(
        [300.0, 4096.0, 4096.0, 2000.0, 32.0], scale.dtype
    )
    precision = Precision("bf16", "int8", "int8")
    at = Step(tokens, 1.0, context, 1.0, precision)
    return (
        linear("up", tokens, 4 * features, hidden, precision, "mlp").times(repeats),
        linear("down", tokens, hidden, features, precision, "mlp", bias=True).times(repeats),
        attention(at, features / 128, features / 1024, x(128)).times(repeats),
        elementwise("norm", 4 * tokens * hidden, tokens * hidden).times(repeats),
        wide_linear("w", tokens, 8 * features, hidden, precision),
    )


def rates(scale):
    linear, wide, memory, launch = scale * jnp.asarray(
        [1 / 1e15, 1 / 5e14, 1 / 3e12, 2e-6], scale.dtype
    )
    return Rates(linear, wide, {}, memory, launch)


def log_time(sharpness):
    """ln of the time as a function of 9 logarithms: 4 rates, 5 shapes."""
    return jax.jit(
        lambda u: jnp.log(
            operators_time(operators(jnp.exp(u[4:])), rates(jnp.exp(u[:4])), sharpness)
        )
    )


def hand(op, sharpness):
    """Seconds of one operator in plain float64: compute, memory, launch, and the total."""
    flops, moved, repeats = float(op.flops), float(op.traffic), float(op.repeats)
    compute = {Kind.LINEAR: flops / 1e15, Kind.ELEMENTWISE: 0.0}.get(op.kind, flops / 5e14)
    memory = moved / 3e12
    busy = (
        max(compute, memory)
        if sharpness == HARD
        else (compute**sharpness + memory**sharpness) ** (1 / sharpness)
    )
    return repeats * (busy + 2e-6)


@pytest.mark.parametrize("sharpness", SHARPNESSES)
def test_time_is_the_sum_of_single_rooflines_by_hand(sharpness):
    ops = operators(jnp.ones(5))
    assert {op.kind for op in ops} == set(Kind)
    expected = [hand(op, sharpness) for op in ops]
    assert_close(operators_time(ops, rates(jnp.ones(4)), sharpness), sum(expected), 1e-6)
    for op, seconds in zip(ops, expected, strict=True):
        assert_close(operators_time([op], rates(jnp.ones(4)), sharpness), seconds, 1e-6)


@pytest.mark.parametrize("sharpness", SHARPNESSES)
def test_shares_sum_to_the_time(sharpness):
    machine = rates(jnp.ones(4))
    ops = operators(jnp.ones(5))
    shares = operator_shares(ops, machine, sharpness)
    assert all((share >= 0).all() for share in shares)
    for op, seconds in zip(ops, sum(shares), strict=True):
        assert_close(seconds, operators_time([op], machine, sharpness), 1e-6)
    tie = Operator(
        "tie", Kind.LINEAR, m=1.0, n=1.0, k=0.5e15, inputs=3e12, part=LINEAR
    )  # a second each
    assert_close(
        sum(operator_shares([tie], machine, sharpness))[0],
        operators_time([tie], machine, sharpness),
        1e-6,
    )


@pytest.mark.parametrize("sharpness", [1, 8, HARD])
def test_derivatives_by_rates_and_shapes_equal_finite_differences_to_second_order(
    sharpness, double
):
    assert_derivatives_are_differences(log_time(sharpness), np.zeros(9))


@pytest.mark.parametrize("sharpness", SHARPNESSES)
def test_derivatives_by_rates_alone_and_by_shapes_alone_agree_with_those_by_both_and_sum_to_one(
    sharpness, double
):
    time, zero = log_time(sharpness), jnp.zeros(9)

    @jax.jit
    def slopes(rates, shapes):
        by_rates = jax.grad(lambda r: time(jnp.concatenate([r, shapes])))(rates)
        by_shapes = jax.grad(lambda s: time(jnp.concatenate([rates, s])))(shapes)
        return jnp.concatenate([by_rates, by_shapes]), jax.grad(time)(
            jnp.concatenate([rates, shapes])
        )

    apart, both = slopes(zero[:4], zero[4:])
    assert_close(apart, both, 1e-12)
    assert_close(both[:4].sum(), 1.0, 1e-12)  # twice as slow in all of them is twice the time


@pytest.mark.parametrize("sharpness", SHARPNESSES)
def test_derivatives_are_finite_with_nothing_to_do(sharpness):
    def time(repeats, rows):
        return operators_time(
            [linear("idle", rows, x(8), x(8), MIXED, "mlp").times(repeats)],
            rates(jnp.ones(4)),
            sharpness,
        )

    for repeats, rows in [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)]:
        assert_finite(jax.grad(time, argnums=(0, 1))(x(repeats), x(rows)))
