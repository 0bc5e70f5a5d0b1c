"""Iterations by hand: chunks, prefixes and beams."""

import jax
import jax.numpy as jnp
import pytest
from support import as_double, assert_close, make_cluster
from whole_models import HYBRID

from diffgenz import Parallelism, Scenario, Serving, Workload, load_model
from diffgenz.inference.prefill_decode import (
    chunk_count,
    decode_cores,
    decode_step,
    prefill,
    prompt_step,
)
from diffgenz.inference.served import Served
from diffgenz.operators.message import AllReduce
from diffgenz.operators.operator import Kind

MODELS = ["meta-llama/Llama-3.1-8B", "deepseek-ai/DeepSeek-V3", "google/gemma-3-27b-pt"]
CHAT = Workload(batch=6, input_tokens=1500, output_tokens=60)
CLUSTER = make_cluster()


@pytest.fixture(autouse=True)
def eager():
    """Each program would run once: to compile it takes longer."""
    with jax.disable_jit():
        yield


def case_of(model, workload=CHAT, **options):
    return Scenario(
        model, CLUSTER, workload, Parallelism(), serving=Serving(**({"chunk": None} | options))
    )


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("chunk", [100.0, 750.0, 1500.0, 4500.0])
def test_chunks_compute_what_the_prompt_computes(name, chunk, double):
    """FLOP of all chunks are those of the prompts; weights are read anew.

    Chunks repeat the expansion of latent keys and the sampling.
    """
    plain = as_double(case_of(load_model(name)))
    chunked = plain.replace(serving=Serving(chunk=chunk))
    prompt = prompt_step(plain, jnp.asarray(6.0))
    chunks = chunk_count(chunked, prompt)
    assert_close(chunks, 9000 / chunk, rtol=1e-12)
    assert chunk_count(plain, prompt) is None
    whole, piece = prefill(plain, prompt), prefill(chunked, prompt)
    for full, part in zip(whole.layers, piece.layers, strict=True):
        if full.name not in ("expand", "expert_gate_up", "expert_down"):
            assert_close(chunks * part.flops, full.flops, rtol=1e-9)
        if full.kind is Kind.LINEAR and "expert" not in full.name:
            assert_close(part.weights, full.weights, rtol=0)


def test_chunks_of_a_prompt_by_hand(llama_8b):
    """2 prompts of 2048 tokens in chunks of 512: 8 iterations, each over a quarter of a prompt.

    They see 512, 1024, 1536 and 2048 keys.
    """
    case = case_of(llama_8b, CHAT.replace(input_tokens=2048), chunk=512)
    piece = prefill(case, prompt_step(case, jnp.asarray(2.0)))
    attention = next(op for op in piece.layers if op.kind is Kind.ATTENTION)
    assert_close(attention.kv_cache, 1280 * 2 * 1024 * 2, rtol=1e-6)
    assert_close(attention.flops * 4, 4 * 32 * 128 * 2048 * 2049 / 2, rtol=1e-6)
    sent = [message for op in piece.layers for message in op.messages]
    assert all(isinstance(message, AllReduce) for message in sent)
    assert_close([message.volume for message in sent], [512 * 4096 * 2] * 2, rtol=1e-6)


def test_a_whole_hit_computes_one_token(llama_8b):
    step = prompt_step(case_of(llama_8b, prefix_hit=1), jnp.asarray(1.0))
    assert (float(step.queries), float(step.context)) == (1, 1499)


def test_beams_share_the_prompt_by_hand(llama_8b):
    case = case_of(llama_8b, beams=4)
    step = decode_step(case, prompt_step(case, jnp.asarray(6.0)), jnp.asarray(1500.0 + 20))
    (attention,) = decode_cores(case, step)
    assert_close(attention.kv_cache, 6 * (1500 + 4 * 21) * 2 * 1024 * 2, rtol=1e-6)
    assert_close(attention.flops, 6 * 4 * 1521 * 32 * 128 * 4, rtol=1e-6)


def test_a_mix_reads_each_sequences_state_once(cluster):
    """A chunk of 700 tokens of one prompt beside 6 decodes: states of 7 sequences, not of
    tokens."""
    case = Scenario(HYBRID, cluster, CHAT, Parallelism(2), serving=Serving(chunk=700, mixed=True))
    served = Served.of(case, jnp.asarray(6.0), jnp.asarray(6.0))

    def states(iteration):
        return sum(
            op.repeats * op.kv_cache for op in iteration.layers if op.name in ("scan", "conv")
        )

    parts = states(served.prefill), states(served.decode)
    assert_close(states(served.mixed), sum(parts), rtol=1e-6)
    assert_close(parts[1], 6 * parts[0], rtol=1e-6)
