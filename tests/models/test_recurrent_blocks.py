"""State-space and linear-attention blocks: layers, states and scans by hand."""

import jax.numpy as jnp
import pytest
from support import assert_close

from diffgenz import (
    InputError,
    Parallelism,
    Precision,
    Scenario,
    Workload,
    estimate,
    load_model,
)
from diffgenz.models.blocks.attention import Attention
from diffgenz.models.blocks.block import reduction_of
from diffgenz.models.blocks.linear_attention import GatedDeltaNet, KimiDeltaAttention
from diffgenz.models.blocks.mamba import Mamba, Mamba2
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.model import Repeated
from diffgenz.operators.step import Step

HIDDEN = jnp.asarray(256.0)
MAMBA = Mamba(inner=512, state=16, rank=32)
MAMBA2 = Mamba2(heads=8, head_dim=64, groups=8, state=128, chunk=64)
DELTA = GatedDeltaNet(key_heads=8, key_dim=32, value_heads=16, value_dim=64)
KIMI = KimiDeltaAttention(heads=8, head_dim=64)
BLOCKS = [MAMBA, MAMBA2, DELTA, KIMI]
NAMES = ["mamba", "mamba2", "delta", "kimi"]
EVERY_BLOCK = pytest.mark.parametrize("block", BLOCKS, ids=NAMES)


def step(sequences=1.0, queries=1.0, context=0.0, ranks=1.0, decoding=False):
    return Step(sequences, queries, context, 1 / ranks, Precision(), decoding=decoding)


def named(block, at):
    return {op.name: op for op in block.operators(HIDDEN, at)}


def kept(block, at, quantity="parameters"):
    return float(sum(op.repeats * getattr(op, quantity) for op in block.operators(HIDDEN, at)))


HAND = [
    # norm; in; convolution and its bias; B, C and time step; time step and its bias; A and D; out
    256 + 256 * 1024 + 512 * 5 + 512 * (32 + 32) + 512 * (32 + 1) + 512 * 17 + 512 * 256,
    # norm; gate, values, B, C, time step; convolution; A, D, bias; gated norm; out
    256 + 256 * (1024 + 2 * 8 * 128 + 8) + (512 + 2048) * 5 + 3 * 8 + 512 + 512 * 256,
    # norm; queries, keys, values, gate, two scalars per head; convolution; decay and its bias;
    # gated norm; out
    256 + 256 * (2 * 256 + 2 * 1024 + 2 * 16) + (2 * 256 + 1024) * 4 + 2 * 16 + 64 + 1024 * 256,
    # norm; queries, keys, values, learning rate; two gates through 64; convolution; decay and its
    # bias; gated norm; out
    256 + 256 * (3 * 512 + 8) + 2 * (256 * 64 + 64 * 512) + 3 * 512 * 4 + 8 + 512 + 64 + 512 * 256,
]

STATES = [
    512 * 16 * 4 + 512 * 3 * 2,
    8 * 64 * 128 * 4 + 2560 * 3 * 2,
    16 * 32 * 64 * 4 + 1536 * 3 * 2,
    8 * 64 * 64 * 4 + 1536 * 3 * 2,
]


@pytest.mark.parametrize(("block", "expected"), list(zip(BLOCKS, HAND, strict=True)), ids=NAMES)
def test_parameters_of_a_layer_by_hand(block, expected):
    assert kept(block, step()) == expected


@pytest.mark.parametrize("context", [0, 1000, 1e6])
@pytest.mark.parametrize(("block", "expected"), list(zip(BLOCKS, STATES, strict=True)), ids=NAMES)
def test_state_by_hand_whatever_the_context(block, expected, context):
    """The recurrent state in fp32, and three tokens of the convolution's channels in bf16."""
    for queries in (1, 500):
        at = step(3, queries, context)
        assert kept(block, at, "cached") == 3 * expected
        assert kept(block, at, "kv_cache") == 2 * 3 * expected  # read and written once


def test_scans_of_decode_by_hand():
    """Per token: Mamba-1 makes three multiply-adds per state element, Mamba-2 two, the delta rule
    three."""
    for block, macs in zip(
        BLOCKS, (3 * 512 * 16, 2 * 8 * 64 * 128, 3 * 16 * 32 * 64, 3 * 8 * 64 * 64), strict=True
    ):
        assert float(named(block, step(5, decoding=True))["scan"].flops) == 2 * 5 * macs


def test_scan_of_prefill_is_attention_in_chunks_and_a_recurrence_between_them():
    """4 chunks of 64 tokens: causal scores per group and values per head inside, update and readout
    per token."""
    scores = 4 * (64 * 65 / 2) * 2 * (8 * 128 + 8 * 64)
    assert_close(
        named(MAMBA2, step(1, 256))["scan"].flops, scores + 4 * 256 * 8 * 64 * 128, rtol=1e-6
    )
    one = 4 * (64 * 65 / 2) * 2 * (3 * 32 + 2 * 64 + 64 / 3)
    assert_close(
        named(DELTA, step(1, 256))["scan"].flops, 16 * (one + 6 * 256 * 32 * 64), rtol=1e-6
    )


def test_scan_of_a_prompt_shorter_than_a_chunk_is_one_chunk():
    scores = (10 * 11 / 2) * 2 * (8 * 128 + 8 * 64)
    assert_close(
        named(MAMBA2, step(1, 10))["scan"].flops, scores + 4 * 10 * 8 * 64 * 128, rtol=1e-6
    )


@EVERY_BLOCK
def test_work_grows_linearly_with_the_prompt(block):
    """Attention would quadruple."""
    one, two = (
        sum(float(op.flops) for op in block.operators(HIDDEN, step(1, queries)))
        for queries in (4096, 8192)
    )
    assert two == pytest.approx(2 * one, rel=1e-6)


@EVERY_BLOCK
def test_ranks_share_states_and_weights(block):
    alone, eighth = named(block, step(2, 100)), named(block, step(2, 100, ranks=8))
    assert_close(
        8 * kept(block, step(2, ranks=8), "cached"), kept(block, step(2), "cached"), rtol=1e-6
    )
    for name, op in alone.items():
        whole = {"norm", "gates_down"} | ({"gated_norm"} if block in (DELTA, KIMI) else set())
        assert_close(
            eighth[name].parameters * (1 if name in whole else 8), op.parameters, rtol=1e-6
        )
    assert_close(8 * eighth["scan"].flops, alone["scan"].flops, rtol=1e-6)


def test_groups_and_key_heads_fewer_than_ranks_are_replicated():
    one = MAMBA2.replace(groups=1)
    selected = 2 * 128 * 3 * 2
    assert float(named(one, step(ranks=8))["conv"].cached) == 64 * 3 * 2 + selected
    assert (
        float(named(DELTA.replace(key_heads=1), step(ranks=8))["conv"].cached)
        == (2 * 32 + 2 * 64) * 3 * 2
    )


def test_ranks_are_limited_by_heads_but_not_by_channels(cluster):
    assert [float(block.most_shards) for block in BLOCKS] == [float("inf"), 8, 16, 8]
    codestral = load_model("mistralai/Mamba-Codestral-7B-v0.1")
    with pytest.raises(InputError, match="tensor: 256 exceeds 128, the heads of"):
        estimate(
            Scenario(codestral, cluster.replace(accelerators=256), Workload(), Parallelism(256))
        )


def test_shared_blocks_are_stored_once_and_executed_often():
    mlp = MLP(intermediate=512)
    one, shared, all_ = (
        Repeated(mlp, count, stored) for count, stored in ((2, None), (6, 2), (6, None))
    )
    at = step(1, 10)

    def total(repeated, quantity):
        operators = repeated.operators(HIDDEN, at, reduction_of(HIDDEN, at))
        return float(sum(op.repeats * getattr(op, quantity) for op in operators))

    assert total(shared, "parameters") == pytest.approx(total(one, "parameters"))
    for quantity in ("weights", "flops", "traffic"):
        assert total(shared, quantity) == total(all_, quantity)
    with pytest.raises(InputError, match="stored: 7 exceeds 6, the executions"):
        Repeated(mlp, 6, 7)


def test_an_output_gate_doubles_the_query_projection():
    plain = Attention(heads=8, kv_heads=2, head_dim=32)
    assert kept(plain.replace(output_gate=True), step()) - kept(plain, step()) == 256 * 8 * 32
    assert "output_gate" in named(plain.replace(output_gate=True), step())


@pytest.mark.parametrize("field", ["inner", "state", "rank", "width"])
def test_a_bad_size_is_named(field):
    with pytest.raises(InputError, match=f"{field}: 0 is not allowed"):
        MAMBA.replace(**{field: 0})


@pytest.mark.parametrize("block", [MAMBA2, DELTA, KIMI], ids=NAMES[1:])
def test_a_bad_chunk_is_named(block):
    with pytest.raises(InputError, match="chunk: 0 is not allowed"):
        block.replace(chunk=0)
