"""Blocks of newer hybrids and of Gemma 3n: parameters, states and work by hand."""

import jax.numpy as jnp
import pytest
from support import assert_close

from diffgenz import InputError, Precision, load_model
from diffgenz.models.blocks.attention import Attention
from diffgenz.models.blocks.embedding_norm import EmbeddingNorm
from diffgenz.models.blocks.gated_recurrence import GatedRecurrence
from diffgenz.models.blocks.mamba import Mamba2
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.blocks.norm import Norm
from diffgenz.models.blocks.per_layer import (
    AlternatingUpdates,
    LowRankResidual,
    PerLayerEmbedding,
    PerLayerInput,
    StreamProjections,
)
from diffgenz.models.blocks.projection import Projection
from diffgenz.models.blocks.short_conv import ShortConv
from diffgenz.models.blocks.side_by_side import SideBySide
from diffgenz.operators.message import AllReduce
from diffgenz.operators.step import Step

HIDDEN = jnp.asarray(256.0)
ALONE = {"norm": None, "reduces": False}
CONV = ShortConv(width=3)
RECURRENCE = GatedRecurrence(inner=512, heads=8)
ATTENTION = Attention(heads=8, kv_heads=2, head_dim=32, **ALONE)
MAMBA2 = Mamba2(heads=8, head_dim=64, groups=1, state=128, normed=False, **ALONE)
BOTH = SideBySide(attention=ATTENTION, mixer=MAMBA2)


def step(sequences=1.0, queries=1.0, context=0.0, ranks=1.0, decoding=False):
    return Step(sequences, queries, context, 1 / ranks, Precision(), decoding=decoding)


def named(block, at):
    return {op.name: op for op in block.operators(HIDDEN, at)}


def total(block, at, quantity="parameters"):
    return float(sum(op.repeats * getattr(op, quantity) for op in block.operators(HIDDEN, at)))


HAND = [
    # norm; B, C and x; three taps; out
    (CONV, 256 + 256 * 768 + 256 * 3 + 256 * 256),
    (CONV.replace(bias=True), 256 + 257 * 768 + 256 * 4 + 257 * 256),
    # norm; input and gate; taps and bias; two matrices of 64 x 64 per head with biases; decay; out
    (
        RECURRENCE,
        256 + 257 * 1024 + 512 * 5 + 2 * 8 * (64 * 64 + 64) + 512 + 513 * 256,
    ),
    # norm; attention; Mamba-2 without a norm of its own
    (
        BOTH,
        256
        + 256 * (256 + 2 * 64)
        + 256 * 256
        + 256 * (2 * 512 + 2 * 128 + 8)
        + (512 + 256) * 5
        + 3 * 8
        + 512 * 256,
    ),
    (Projection(), 256 + 256 * 256),
    (EmbeddingNorm(norm=Norm.LAYER), 512),
    # tables; projection; the norm of one vector
    (PerLayerEmbedding(vocabulary=1000, layers=6, width=16), 1000 * 96 + 256 * 96 + 16),
    # norm; gate; out
    (PerLayerInput(width=16), 256 + 2 * 256 * 16),
    (LowRankResidual(rank=8), 256 + 2 * 256 * 8),
    # the router's norm; router; predictions of 4 x 4 coefficients; corrections; the output's scale
    (AlternatingUpdates(streams=4), 256 + 256 * 4 + 4 * 16 + 16 + 256),
    (StreamProjections(streams=4), 2 * 3 * 256 * 256),
    (MLP(intermediate=512, gated=False, learned=2), 256 + 2 * 256 * 512 + 2),
    (MLP(intermediate=512, norm=Norm.PLAIN), 3 * 256 * 512),
    # keys and values are another layer's
    (
        Attention(heads=8, kv_heads=2, head_dim=32, borrows_cache=True, query_key_norm="head"),
        256 + 2 * 256 * 256 + 32,
    ),
    (
        Attention(heads=8, kv_heads=8, head_dim=32, query_key_norm="head and bias"),
        256 + 4 * 256 * 256 + 4 * 32,
    ),
]


@pytest.mark.parametrize(("block", "expected"), HAND, ids=[type(each).__name__ for each, _ in HAND])
def test_parameters_by_hand(block, expected):
    assert total(block, step()) == expected


STATES = [
    (CONV, 256 * 2 * 2),  # two tokens of every channel in bf16
    (RECURRENCE, 512 * 4 + 512 * 3 * 2),  # one fp32 number and three tokens of every channel
]


@pytest.mark.parametrize("context", [0, 1e6])
@pytest.mark.parametrize(("block", "expected"), STATES, ids=["conv", "recurrence"])
def test_state_by_hand_whatever_the_context(block, expected, context):
    for queries in (1, 500):
        at = step(3, queries, context)
        assert total(block, at, "cached") == 3 * expected
        assert total(block, at, "kv_cache") == 2 * 3 * expected  # read and written once


@pytest.mark.parametrize("block", [CONV, RECURRENCE], ids=["conv", "recurrence"])
def test_work_grows_linearly_with_the_prompt(block):
    one, two = (
        sum(float(op.flops) for op in block.operators(HIDDEN, step(1, queries)))
        for queries in (4096, 8192)
    )
    assert two == pytest.approx(2 * one, rel=1e-6)


@pytest.mark.parametrize(
    ("block", "whole"), [(CONV, 256), (RECURRENCE, 256)], ids=["conv", "recurrence"]
)
def test_ranks_share_weights_and_states(block, whole):
    """All but the norm, and the out projection's bias, which every rank keeps."""
    bias = 0 if block is CONV else 256
    alone, eighth = total(block, step(2, 9)), total(block, step(2, 9, ranks=8))
    assert_close(8 * (eighth - whole - bias), alone - whole - bias, rtol=1e-6)
    assert_close(
        8 * total(block, step(2, ranks=8), "cached"), total(block, step(2), "cached"), rtol=1e-6
    )


def test_ranks_are_limited_by_the_heads_of_either_mixer():
    assert float(CONV.most_shards) == float("inf")
    assert float(RECURRENCE.most_shards) == 8
    wide = BOTH.replace(mixer=MAMBA2.replace(heads=64))
    assert (float(BOTH.most_shards), float(wide.most_shards)) == (8, 8)


def test_mixers_side_by_side_do_the_work_of_both_with_one_norm_and_one_reduction():
    at = step(2, 100, 50)
    parts = [op for each in (ATTENTION, MAMBA2) for op in each.operators(HIDDEN, at)]
    both = BOTH.operators(HIDDEN, at)
    for quantity in ("flops", "cached", "kv_cache"):
        expected = sum(float(getattr(op, quantity)) for op in parts)
        assert total(BOTH, at, quantity) == pytest.approx(expected)
    assert len(both) == len(parts) + 1
    reductions = [each for op in both for each in op.messages if isinstance(each, AllReduce)]
    assert len(reductions) == 1
    assert [op.name for op in BOTH.core(at)] == ["attention"]


def test_mixers_side_by_side_have_no_norm_of_their_own():
    with pytest.raises(InputError, match="attention: has a norm or an all-reduce of its own"):
        SideBySide(attention=Attention(heads=8, kv_heads=2, head_dim=32), mixer=MAMBA2)


def test_falcon_h1_keeps_keys_and_values_and_a_state():
    """2 KV heads of 128; 24 heads of 128 x 256 in fp32; 3 tokens of 3,584 channels; 44 layers."""
    model = load_model("tiiuae/Falcon-H1-7B-Base")
    at = Step(1.0, 1.0, 8191.0, 1.0, Precision())
    held = sum(op.repeats * op.cached for op in model.layer_operators(at))
    expected = 44 * (2 * 2 * 128 * 2 * 8192 + 24 * 128 * 256 * 4 + 3584 * 3 * 2)
    assert float(held) == pytest.approx(expected, rel=1e-7)
    assert model.keeps_state


def test_gemma_3n_caches_the_keys_and_values_of_twenty_layers():
    """Of 35 layers the last 15 borrow; of the first 20, four see all tokens and sixteen 512."""
    model = load_model("google/gemma-3n-E4B")
    at = Step(1.0, 1.0, 8191.0, 1.0, Precision())
    operators = model.layer_operators(at)
    held = sum(op.repeats * op.cached for op in operators)
    assert float(held) == pytest.approx(2 * 2 * 256 * 2 * (16 * 512 + 4 * 8192), rel=1e-7)
    read = sum(op.repeats * op.kv_cache for op in operators if op.name == "attention")
    assert float(read) == pytest.approx(2 * 2 * 256 * 2 * (28 * 512 + 7 * 8192), rel=1e-3)
    assert float(model.layers) == 35


def test_layers_without_attention_have_no_norm_either():
    """Nemotron Super keeps attention in 49 of its 80 layers."""
    model = load_model("nvidia/Llama-3_3-Nemotron-Super-49B-v1")
    attention = [each for each in model.blocks if each.block.mixes_tokens]
    assert sum(float(each.count) for each in attention) == 49
    assert len({layer for each in model.blocks for layer in each.at}) == 80


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ShortConv(width=0), "width: 0 is not allowed"),
        (lambda: GatedRecurrence(inner=0, heads=1), "inner: 0 is not allowed"),
        (lambda: PerLayerInput(width=0), "width: 0 is not allowed"),
        (lambda: LowRankResidual(rank=0), "rank: 0 is not allowed"),
        (lambda: AlternatingUpdates(streams=0), "streams: 0 is not allowed"),
    ],
)
def test_a_bad_size_is_named(make, said):
    with pytest.raises(InputError, match=said):
        make()
