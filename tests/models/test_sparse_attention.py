"""Attention that picks blocks, compresses, borrows, gates or narrows values: counts by hand."""

import jax.numpy as jnp
import pytest
from support import assert_close

from diffgenz import InputError, Precision, load_model
from diffgenz.models.blocks.attention import Attention
from diffgenz.models.blocks.compressed_attention import CompressedAttention, Compressor
from diffgenz.models.blocks.hyper_connection import HyperConnection
from diffgenz.models.blocks.latent_attention import Indexer, LatentAttention
from diffgenz.models.blocks.sparse_attention import BlockIndex, SparseAttention
from diffgenz.operators.message import AllGather
from diffgenz.operators.step import Shared, Step

HIDDEN = jnp.asarray(512.0)
INDEX = BlockIndex(heads=4, head_dim=32, block=128, picked=16)
SPARSE = SparseAttention(heads=16, kv_heads=4, head_dim=64, index=INDEX)
DENSE = Attention(heads=16, kv_heads=4, head_dim=64)


def step(tokens=1.0, ranks=1.0, context=0.0, queries=1.0, decoding=False, shared=None):
    more = {} if shared is None else {"shared": shared}
    return Step(tokens, queries, context, 1 / ranks, Precision(), decoding=decoding, **more)


def named(block, at):
    return {op.name: op for op in block.operators(HIDDEN, at)}


def kept(block, at):
    return float(sum(op.parameters for op in block.operators(HIDDEN, at)))


@pytest.mark.parametrize(("context", "keys"), [(999, 1000), (99_999, 16 * 128)])
def test_block_sparse_attention_reads_what_it_picks_and_caches_all(context, keys):
    at = step(3, context=context, decoding=True)
    found, whole = named(SPARSE, at), named(DENSE, at)
    assert_close(found["attention"].kv_cache, 3 * keys * 2 * 4 * 64 * 2, rtol=1e-6)
    assert_close(found["attention"].flops, 3 * keys * 4 * 16 * 64, rtol=1e-6)
    assert_close(found["attention"].cached, whole["attention"].cached, rtol=1e-7)
    assert_close(found["index"].flops, 2 * 3 * (context + 1) * 4 * 32, rtol=1e-6)
    assert_close(found["index"].cached, 3 * (context + 1) * 32 * 2, rtol=1e-6)


def test_block_sparse_prefill_reads_all_and_computes_what_it_picks():
    at = step(queries=10_000.0)
    found, whole = named(SPARSE, at)["attention"], named(DENSE, at)["attention"]
    assert_close(found.kv_cache, whole.kv_cache, rtol=1e-7)
    pairs = 2048 * 2049 / 2 + (10_000 - 2048) * 2048
    assert_close(found.flops, pairs * 4 * 16 * 64, rtol=1e-5)


def test_the_index_adds_its_projections():
    at = step()
    assert kept(SPARSE, at) - kept(DENSE, at) == 512 * (4 + 1) * 32 + 2 * 32
    halves = named(SPARSE, step(ranks=2))["index_projections"]
    assert_close(halves.parameters, 512 * (2 + 1) * 32, rtol=1e-7)  # its key is every rank's


@pytest.mark.parametrize("ranks", [2.0, 8.0])
def test_context_ranks_share_keys_and_gather_scores_of_blocks(ranks):
    alone = named(SPARSE, step(2, context=9_999, decoding=True))
    at = step(2, context=9_999, decoding=True, shared=Shared(ranks, 1.0))
    shared = named(SPARSE, at)
    for name in ("attention", "index"):
        for quantity in ("flops", "kv_cache", "cached"):
            expected = getattr(alone[name], quantity) / ranks
            assert_close(getattr(shared[name], quantity), expected, rtol=1e-5)
    (gathered,) = shared["index"].messages
    assert isinstance(gathered, AllGather)
    assert_close(gathered.volume, 2 * 4 * 10_000 / 128 * 4, rtol=1e-5)


def test_a_layer_that_reuses_picks_has_no_indexer_but_reads_as_little():
    whole = LatentAttention(
        heads=16, latent=512, nope_dim=128, rope_dim=64, value_dim=128, indexer=Indexer(4, 64, 2048)
    )
    reusing = whole.replace(indexer=Indexer(4, 64, 2048, reuses=True))
    at = step(context=99_999, decoding=True)
    own, others = named(whole, at), named(reusing, at)
    assert set(own) - set(others) == {"indexer", "indexer_projections", "indexer_norm"}
    assert_close(own["attention"].kv_cache, others["attention"].kv_cache, rtol=1e-7)
    without = kept(whole.replace(indexer=None), at)
    assert kept(reusing, at) == without < kept(whole, at)


def test_values_of_another_size_borrowed_and_tied_ones():
    at = step(2, context=999, decoding=True)
    narrow = named(DENSE.replace(value_dim=32.0), at)
    assert_close(narrow["qkv"].parameters, 512 * (16 * 64 + 4 * (64 + 32)), rtol=1e-7)
    assert_close(narrow["attention_out"].parameters, 512 * 16 * 32, rtol=1e-7)
    assert_close(narrow["attention"].flops, 2 * 2 * 1000 * 16 * (64 + 32), rtol=1e-6)
    assert_close(narrow["attention"].cached, 2 * 1000 * 4 * (64 + 32) * 2, rtol=1e-6)
    plain, tied, borrowing = (
        named(block, at)
        for block in (DENSE, DENSE.replace(tied_values=True), DENSE.replace(borrows_cache=True))
    )
    assert_close(tied["qkv"].parameters, 512 * (16 + 4) * 64, rtol=1e-7)
    assert_close(tied["attention"].cached, plain["attention"].cached, rtol=1e-7)
    assert_close(borrowing["qkv"].parameters, 512 * 16 * 64, rtol=1e-7)
    assert float(borrowing["attention"].cached) == 0
    assert_close(borrowing["attention"].kv_cache, plain["attention"].kv_cache, rtol=1e-7)


def test_equal_values_are_the_default():
    at = step(2, context=999, decoding=True)
    plain, same = named(DENSE, at), named(DENSE.replace(value_dim=64.0), at)
    for name, op in plain.items():
        assert_close(same[name].flops, op.flops, rtol=1e-7)
        assert_close(same[name].traffic, op.traffic, rtol=1e-7)


def test_a_gate_for_each_head_is_one_number():
    at = step(2)
    gated = named(DENSE.replace(head_gate=True), at)
    assert_close(gated["qkv"].parameters - named(DENSE, at)["qkv"].parameters, 512 * 16, rtol=1e-6)
    assert "output_gate" in gated


COMPRESSED = CompressedAttention(
    heads=64, head_dim=512, query_rank=1024, out_groups=8, out_rank=1024, window=128
)


def test_compressed_attention_of_deepseek_v4_by_hand():
    """V4-Flash: 4096 wide, 64 heads of 512; a window, entries of 128, and picked entries of 4."""
    wide = jnp.asarray(4096.0)
    plain = 4096 * (1024 + 512) + 1024 * 64 * 512 + 8 * 1024 * 4096 + 8 * 1024 * 4096
    plain += 1024 + 512 + 64 + 4096
    heavy = 2 * 4096 * 512 + 128 * 512 + 512
    light = 2 * 4096 * 1024 + 4 * 1024 + 512
    indexer = 2 * 4096 * 256 + 4 * 256 + 128 + 1024 * 64 * 128 + 4096 * 64
    blocks = (
        (None, plain),
        (Compressor(128), plain + heavy),
        (Compressor(4, Indexer(64, 128, 512)), plain + light + indexer),
    )
    for compressor, expected in blocks:
        block = COMPRESSED.replace(compressor=compressor)
        found = sum(op.parameters for op in block.operators(wide, step()))
        assert_close(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("compressor", "seen", "held"),
    [
        (None, 128, 128),
        (Compressor(128), 128 + 100_096 / 128, 128 + 100_096 / 128),
        (Compressor(4, Indexer(64, 128, 512)), 128 + 512, 128 + 100_096 / 4),
        (Compressor(4, Indexer(64, 128, 1e6)), 128 + 100_096 / 4, 128 + 100_096 / 4),
    ],
)
def test_compressed_attention_sees_a_window_and_entries(compressor, seen, held):
    block = COMPRESSED.replace(compressor=compressor)
    found = named(block, step(3, context=100_095, decoding=True))
    assert_close(found["attention"].flops, 3 * seen * 4 * 64 * 512, rtol=1e-5)
    assert_close(found["attention"].kv_cache, 3 * seen * 512 * 2, rtol=1e-5)
    assert_close(found["attention"].cached, 3 * held * 512 * 2, rtol=1e-5)
    if "indexer" in found:
        assert_close(found["indexer"].flops, 2 * 3 * 100_096 / 4 * 64 * 128, rtol=1e-5)
        assert_close(found["indexer"].cached, 3 * 100_096 / 4 * 132, rtol=1e-5)


def test_heads_and_groups_are_shared_and_the_cache_is_not():
    whole, part = (named(COMPRESSED, step(2, ranks=r, context=999, decoding=True)) for r in (1, 8))
    for name in ("queries", "group_out", "attention_out", "attention"):
        assert_close(part[name].flops, whole[name].flops / 8, rtol=1e-6)
    assert_close(part["attention"].cached, whole["attention"].cached, rtol=1e-7)
    assert_close(part["compress"].parameters, whole["compress"].parameters, rtol=1e-7)


def test_more_groups_than_heads_are_refused():
    with pytest.raises(InputError, match="out_groups: 128 exceeds 64, the heads"):
        COMPRESSED.replace(out_groups=128)


def test_hyper_connections_move_all_streams():
    found = named(HyperConnection(streams=4), step(10))
    assert_close(found["stream_weights"].parameters, 24 * 4 * 512, rtol=1e-7)
    assert_close(found["streams_in"].traffic, 10 * 512 * 2 * (4 + 1), rtol=0.01)
    assert_close(found["streams_out"].traffic, 10 * 512 * 2 * (4 + 1 + 4), rtol=1e-6)
    last = named(HyperConnection(streams=4, last=True), step(10))
    assert_close(last["stream_weights"].parameters, 4 * 4 * 512, rtol=1e-7)
    assert "streams_out" not in last


def test_layers_of_shipped_models_by_kind():
    flash = load_model("deepseek-ai/DeepSeek-V4-Flash")
    counts = {
        None if r.block.compressor is None else float(r.block.compressor.ratio): len(r.at)
        for r in flash.blocks
        if isinstance(r.block, CompressedAttention)
    }
    assert counts == {None: 2, 4: 21, 128: 20}
    mimo = load_model("XiaomiMiMo/MiMo-V2-Flash")
    blocks = [(r.block, r.at) for r in mimo.blocks]
    heads = {float(b.kv_heads): len(at) for b, at in blocks if isinstance(b, Attention)}
    assert heads == {4: 9, 8: 39}
    glm = load_model("zai-org/GLM-5.2")
    assert sorted(len(r.at) for r in glm.blocks if r.block.mixes_tokens) == [21, 57]


def test_kv_cache_of_gemma_4_by_hand():
    """E2B: of 35 layers 15 cache, 12 of them a window; 31B: 10 full layers of 4 wide heads."""
    at = Step(1.0, 1.0, 8191.0, 1.0, Precision())

    def held(name):
        return float(sum(op.repeats * op.cached for op in load_model(name).layer_operators(at)))

    small = 12 * 2 * 256 * 512 + 3 * 2 * 512 * 8192
    assert held("google/gemma-4-E2B") == pytest.approx(2 * small, rel=1e-6)
    large = 50 * 2 * 16 * 256 * 1024 + 10 * 2 * 4 * 512 * 8192
    assert held("google/gemma-4-31B") == pytest.approx(2 * large, rel=1e-6)
