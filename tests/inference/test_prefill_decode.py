"""Iterations by hand: chunks, prefixes, beams, and any mix of prompts and decodes."""

import jax.numpy as jnp
import pytest
from support import as_double, assert_close

from diffgenz import (
    Parallelism,
    Precision,
    Serving,
    Workload,
    load_model,
)
from diffgenz.inference.prefill_decode import (
    chunk_count,
    decode_layers,
    decode_step,
    prefill_iteration,
    prompt_step,
)
from diffgenz.operators.operator import Kind

MODELS = ["meta-llama/Llama-3.1-8B", "deepseek-ai/DeepSeek-V3", "google/gemma-3-27b-pt"]
CHAT = Workload(batch=6, input_tokens=1500, output_tokens=60)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("chunk", [100.0, 750.0, 1500.0, 4500.0])
def test_chunks_compute_what_the_prompt_computes(name, chunk, double):
    """FLOP of all chunks are those of the prompts (expansion of latent keys and sampling apart, which chunks repeat); weights are read anew."""
    model = as_double(load_model(name))
    prompt = as_double(prompt_step(CHAT, Parallelism(), Precision(), jnp.asarray(6.0), None))
    chunks = chunk_count(prompt, Serving(chunk=chunk))
    assert_close(chunks, 9000 / chunk, rtol=1e-12)
    whole, piece = prefill_iteration(model, prompt, None), prefill_iteration(model, prompt, chunks)
    for full, part in zip(whole.layers, piece.layers, strict=True):
        if full.name not in ("expand", "expert_gate_up", "expert_down"):
            assert_close(chunks * part.flops, full.flops, rtol=1e-9)
        if full.kind is Kind.LINEAR and "expert" not in full.name:
            assert_close(part.weights, full.weights, rtol=0)


def test_chunks_of_a_prompt_by_hand(llama_8b):
    """2 prompts of 2048 tokens in chunks of 512: 8 iterations over 512, 1024, 1536 and 2048 keys, each pass a quarter of a prompt."""
    prompt = prompt_step(
        CHAT.replace(input_tokens=2048), Parallelism(), Precision(), jnp.asarray(2.0), None
    )
    piece = prefill_iteration(llama_8b, prompt, chunk_count(prompt, Serving(chunk=512)))
    attention = next(op for op in piece.layers if op.kind is Kind.ATTENTION)
    assert_close(attention.kv_cache, 1280 * 2 * 1024 * 2, rtol=1e-6)
    assert_close(attention.flops * 4, 4 * 32 * 128 * 2048 * 2049 / 2, rtol=1e-6)
    assert_close(piece.hidden_volume, 512 * 4096 * 2, rtol=1e-6)


def test_a_whole_hit_computes_one_token(llama_8b):
    step = prompt_step(CHAT, Parallelism(), Precision(), jnp.asarray(1.0), Serving(prefix_hit=1))
    assert (float(step.queries), float(step.context)) == (1, 1499)


def test_beams_share_the_prompt_by_hand(llama_8b):
    prompt = prompt_step(CHAT, Parallelism(), Precision(), jnp.asarray(6.0), None)
    step = decode_step(prompt, jnp.asarray(1500.0 + 20), Serving(beams=4))
    attention = next(
        op
        for op in decode_layers(llama_8b, step, CHAT, Serving(beams=4))
        if op.kind is Kind.ATTENTION
    )
    assert_close(attention.kv_cache, 6 * (1500 + 4 * 21) * 2 * 1024 * 2, rtol=1e-6)
    assert_close(attention.flops, 6 * 4 * 1521 * 32 * 128 * 4, rtol=1e-6)
