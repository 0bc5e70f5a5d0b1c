"""Latent attention: caches, weights and FLOP by hand."""

import jax.numpy as jnp
from support import assert_close

from diffgenz import Precision, load_model
from diffgenz.models.blocks.latent_attention import Indexer, LatentAttention
from diffgenz.operators.step import Step

HIDDEN = jnp.asarray(512.0)


def step(tokens=1.0, ranks=1.0, experts=1.0, context=0.0, queries=1.0, decoding=False):
    return Step(tokens, queries, context, 1 / ranks, Precision(), 1 / experts, decoding=decoding)


def named(block, at):
    return {op.name: op for op in block.operators(HIDDEN, at)}


def test_latent_cache_and_weights_of_deepseek_v3_by_hand():
    model = load_model("deepseek-ai/DeepSeek-V3")
    mla = next(
        repeated.block for repeated in model.blocks if isinstance(repeated.block, LatentAttention)
    )
    expected = (
        7168 * 1536
        + 1536 * 128 * 192
        + 7168 * 576
        + 512 * 128 * 256
        + 128 * 128 * 7168
        + 1536
        + 512
        + 7168
    )
    for decoding in (False, True):
        operators = mla.operators(model.hidden, step(3, context=999, decoding=decoding))
        assert_close(sum(op.parameters for op in operators), expected, rtol=1e-6)
        assert_close(sum(op.cached for op in operators), 3 * 1000 * 576 * 2, rtol=1e-6)


def test_absorbed_attention_reads_the_latent_once_for_all_heads():
    mla = LatentAttention(heads=16, latent=512, nope_dim=128, rope_dim=64, value_dim=128)
    decode = named(mla, step(2, context=999, decoding=True))["attention"]
    assert_close(decode.kv_cache, 2 * 1000 * 576 * 2, rtol=1e-6)
    assert_close(decode.flops, 2 * 2 * 16 * 1000 * (576 + 512), rtol=1e-6)
    prefill = named(mla, step(2, queries=1000))["attention"]
    assert_close(prefill.flops, 2 * 2 * 16 * (1000 * 1001 / 2) * (192 + 128), rtol=1e-6)


def test_sparse_attention_reads_no_more_than_it_picks():
    dense = LatentAttention(heads=16, latent=512, nope_dim=128, rope_dim=64, value_dim=128)
    sparse = dense.replace(indexer=Indexer(4, 64, 2048))
    for context, keys in ((999, 1000), (99_999, 2048)):
        at = step(context=context, decoding=True)
        assert_close(named(sparse, at)["attention"].kv_cache, keys * 576 * 2, rtol=1e-5)
        assert_close(named(sparse, at)["indexer"].kv_cache, (context + 1) * 68, rtol=1e-6)
    at = step(context=999, decoding=True)
    assert_close(
        named(sparse, at)["attention"].flops, named(dense, at)["attention"].flops, rtol=1e-6
    )
