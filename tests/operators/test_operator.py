"""Operators: FLOP and bytes by hand, and attention's keys one by one."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import assert_close

from diffgenz import Precision
from diffgenz.operators.attention import attention, attention_keys, attention_over
from diffgenz.operators.elementwise import elementwise
from diffgenz.operators.linear import expert_linear, linear, per_head_linear, wide_linear
from diffgenz.operators.operator import Operator
from diffgenz.operators.recurrence import causal_conv, scan
from diffgenz.operators.step import Step

MIXED = Precision("bf16", weights="int8", activations="fp8", kv_cache="fp8")
BYTES = ("weights", "inputs", "outputs", "kv_cache")


def step(sequences=3.0, queries=5.0, context=100.0, precision=MIXED):
    return Step(sequences, queries, context, 1.0, precision)


def x(value):
    return jnp.asarray(float(value))


class Hand(NamedTuple):
    """An operator, and what it is by hand.

    Arguments:
        op: as built.
        flops: FLOP.
        moved: B, as in `BYTES`.
        parameters: elements that it keeps.
        cached: B that stay in the cache.
    """

    op: Operator
    flops: float
    moved: tuple[float, float, float, float]
    parameters: float = 0
    cached: float = 0


ROWS = (x(7), x(20), x(10), MIXED)
WIDE = (x(3), x(1000), x(10), MIXED)
WIDE_FLOPS = 2 * 3 * 1000 * 10
WIDE_MOVED = (1000 * 10 * 2, 3 * 10 * 2, 3 * 1000 * 2, 0)

HAND = {
    "linear": Hand(
        linear("l", *ROWS, "mlp"), 2 * 7 * 20 * 10, (20 * 10, 7 * 10, 7 * 20 * 2, 0), parameters=200
    ),
    "linear with bias": Hand(
        linear("l", *ROWS, "mlp", bias=True),
        2 * 7 * 20 * 10,
        (20 * 11, 7 * 10, 7 * 20 * 2, 0),
        parameters=220,
    ),
    "wide_linear": Hand(wide_linear("w", *WIDE), WIDE_FLOPS, WIDE_MOVED, parameters=10_000),
    "wide_linear, tied": Hand(wide_linear("w", *WIDE, tied=True), WIDE_FLOPS, WIDE_MOVED),
    "wide_linear, tied, bias": Hand(
        wide_linear("w", *WIDE, tied=True, bias=True),
        WIDE_FLOPS,
        (1000 * 11 * 2, *WIDE_MOVED[1:]),
        parameters=1000,
    ),
    # 6 rows to 2 of the 4 experts held, half a row of padding each
    "expert_linear": Hand(
        expert_linear(
            "e",
            x(6),
            x(20),
            x(10),
            MIXED,
            held=x(4),
            reached=x(2),
            used=x(0.25),
            padding=x(0.5),
            bias=False,
        ),
        2 * 7 * 20 * 10,
        (2 * 20 * 10, 6 * 10, 6 * 20 * 2, 0),
        parameters=4 * 20 * 10,
    ),
    "per_head_linear": Hand(
        per_head_linear("h", x(7), x(3), x(20), x(10), MIXED, "attention"),
        2 * 7 * 3 * 20 * 10,
        (600, 7 * 30, 7 * 60 * 2, 0),
        parameters=600,
    ),
    # 9 keys of 24 with values of 8, two heads
    "attention_over": Hand(
        attention_over(step(), x(9), x(2), x(24), x(8), read=x(77), held=x(55)),
        2 * 3 * 5 * 9 * 2 * 32,
        (0, 15 * 48 * 2, 15 * 16 * 2, 77),
        cached=55,
    ),
    "causal_conv": Hand(
        causal_conv(step(), x(20), x(4), bias=True),
        0,
        (100 * 2, 15 * 20 * 2, 15 * 20 * 2, 2 * 3 * 20 * 3 * 2),
        parameters=100,
        cached=3 * 20 * 3 * 2,
    ),
    # two multiply-adds for each of 2 x 40 elements; prompts of 5 in chunks of 4: (4 + 1) / 2 pairs
    # of 7 each
    "scan": Hand(
        scan(
            step(),
            x(2),
            x(40),
            passes=2.0,
            pairwise=7.0,
            chunk=4.0,
            read=x(30),
            written=x(10),
            parameters=x(6),
        ),
        2 * 15 * 2 * (2 * 40 + 7 * 2.5),
        (12, 15 * 30 * 2, 15 * 10 * 2, 2 * 3 * 80 * 4),
        parameters=6,
        cached=3 * 80 * 4,
    ),
    "elementwise": Hand(
        elementwise("e", x(100), x(50), parameters=10.0, size=2.0),
        0,
        (0, 100, 50, 0),
        parameters=10,
    ),
    # 101 + 102 + 103 + 104 + 105 keys, 8 heads of 16; 2 KV heads hold 105 tokens, keys and values
    "attention": Hand(
        attention(step(), x(8), x(2), x(16)),
        4 * 3 * 8 * 16 * 515,
        (0, 3 * 5 * 8 * 16 * 2, 3 * 5 * 8 * 16 * 2, 3 * 105 * 2 * 2 * 16),
        cached=3 * 105 * 2 * 2 * 16,
    ),
    # every query sees 50, the first one 49 before itself; reads 49 + 5 tokens, keeps 50
    "attention, windowed": Hand(
        attention(step(), x(8), x(2), x(16), x(50)),
        4 * 3 * 8 * 16 * 5 * 50,
        (0, 3840, 3840, 3 * 54 * 2 * 2 * 16),
        cached=3 * 50 * 2 * 2 * 16,
    ),
}


@pytest.mark.parametrize("name", HAND)
def test_flop_and_bytes_by_hand(name):
    op, *expected = HAND[name]
    moved = tuple(float(getattr(op, field)) for field in BYTES)
    assert [float(op.flops), moved, float(op.parameters), float(op.cached)] == expected
    assert float(op.traffic) == sum(moved)


def test_repeats_multiply():
    assert float(linear("l", x(1), x(2), x(3), MIXED, "mlp").times(4.0).times(x(2)).repeats) == 8


@given(st.integers(0, 3000), st.integers(1, 300), st.integers(1, 3500))
def test_causal_keys_equal_their_count_one_by_one(context, queries, window):
    seen = np.minimum(context + np.arange(1, queries + 1), window)
    at = step(queries=queries, context=context)
    assert float(attention_keys(at, x(window))) == pytest.approx(seen.mean(), rel=3e-7)
    assert float(attention_keys(at, None)) == pytest.approx(
        (context + np.arange(1, queries + 1)).mean(), rel=3e-7
    )


@given(st.integers(0, 100_000), st.integers(1, 100_000))
def test_a_window_as_long_as_the_context_is_full_attention(context, queries):
    at, heads = step(queries=queries, context=context), (x(8), x(2), x(64))
    windowed, full = attention(at, *heads, x(context + queries)), attention(at, *heads)
    assert_close(windowed.flops, full.flops, 3e-7)
    assert (windowed.kv_cache, windowed.cached) == (full.kv_cache, full.cached)


@pytest.mark.parametrize("heads", [8, 16, 64])
def test_keys_and_values_are_read_once_per_kv_head(heads):
    few, many = attention(step(), x(8), x(8), x(16)), attention(step(), x(heads), x(8), x(16))
    assert few.kv_cache == many.kv_cache
    assert float(many.flops) == heads / 8 * float(few.flops)


def test_prefill_in_two_chunks_is_prefill_at_once():
    whole = attention(step(queries=1000, context=0), x(8), x(2), x(16), x(300)).flops
    parts = attention(step(queries=400, context=0), x(8), x(2), x(16), x(300)).flops
    parts += attention(step(queries=600, context=400), x(8), x(2), x(16), x(300)).flops
    assert_close(parts, whole, 1e-6)
