"""Disaggregated prefill and decode: the phases apart, and the cache between them."""

import math

import jax
import jax.numpy as jnp
import pytest
from support import assert_close, assert_finite, make_cluster

from diffgenz import (
    InputError,
    Parallelism,
    Pool,
    Precision,
    Serving,
    Workload,
    disaggregate,
    estimate,
    load_model,
)

CHAT = Workload(batch=32, input_tokens=3000, output_tokens=200)
PREFILL, DECODE = (
    Pool(make_cluster(16), Parallelism(4), 3),
    Pool(make_cluster(64), Parallelism(8), 2),
)


@pytest.mark.parametrize(
    "serving", [None, Serving(chunk=512, prefix_hit=0.5)], ids=["plain", "chunked"]
)
def test_an_infinite_link_is_two_phases_apart(serving, llama_8b):
    both = disaggregate(llama_8b, PREFILL, DECODE, CHAT, link_bandwidth=math.inf, serving=serving)
    first = estimate(
        llama_8b, PREFILL.platform, CHAT.replace(batch=1), PREFILL.plan, serving=serving
    )
    rest = estimate(llama_8b, DECODE.platform, CHAT, DECODE.plan, serving=serving)
    assert_close((both.ttft, both.tpot, both.transfer), (first.ttft, rest.tpot, 0), rtol=0)
    assert_close(both.sustained, [3 / first.ttft, math.inf, 2 * 32 / (199 * rest.tpot)], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("meta-llama/Llama-3.1-8B", 32 * 2 * 1024 * 3000),
        ("deepseek-ai/DeepSeek-V3", 61 * 576 * 3000),
        ("google/gemma-3-27b-pt", (10 * 3000 + 52 * 1024) * 2 * 16 * 128),
    ],
)
def test_what_is_sent_by_hand(name, expected):
    both = disaggregate(
        load_model(name),
        PREFILL,
        DECODE,
        CHAT,
        Precision(kv_cache="fp8"),
        link_bandwidth=5e10,
        link_latency=1e-4,
    )
    assert_close(both.kv_cache, expected, rtol=1e-6)
    assert_close(both.transfer, 1e-4 + expected / 5e10, rtol=1e-6)
    assert_close(both.sustained[1], 5e10 / expected, rtol=1e-6)


def test_the_slowest_stage_limits_and_the_right_ratio_balances(llama_8b):
    both = disaggregate(llama_8b, PREFILL, DECODE, CHAT, link_bandwidth=math.inf)
    balanced = disaggregate(
        llama_8b,
        PREFILL.replace(workers=2 * both.prefill_per_decode),
        DECODE,
        CHAT,
        link_bandwidth=math.inf,
    )
    assert_close(balanced.sustained[0], balanced.sustained[2], rtol=1e-6)
    assert_close(balanced.requests_per_second, balanced.sustained[0], rtol=1e-6)
    for bandwidth, pools, stage in (
        (1e6, (PREFILL, DECODE), "transfer"),
        (1e15, (PREFILL.replace(workers=1e-3), DECODE), "prefill"),
        (1e15, (PREFILL.replace(workers=1e3), DECODE), "decode"),
    ):
        assert disaggregate(llama_8b, *pools, CHAT, link_bandwidth=bandwidth).bottleneck == stage


def test_gradients_are_finite(llama_8b):
    @jax.jit
    @jax.vmap
    def slopes(bandwidth, hit):
        def cost(at):
            both = disaggregate(
                llama_8b,
                PREFILL,
                DECODE,
                CHAT,
                link_bandwidth=at[0],
                serving=Serving(prefix_hit=at[1]),
            )
            return jnp.log(both.ttft) + jnp.log(both.tpot) - jnp.log(both.requests_per_second)

        return jax.grad(cost)((bandwidth, hit))

    assert_finite(slopes(jnp.array([1e9, 1e12, 1e9]), jnp.array([0.0, 0.5, 1.0])))


def test_what_cannot_be_is_refused(llama_8b):
    for options, message in (
        ({"link_bandwidth": 0}, "link_bandwidth: 0"),
        ({"link_bandwidth": 1e9, "link_latency": -1}, "link_latency: -1"),
    ):
        with pytest.raises(InputError, match=message):
            disaggregate(llama_8b, PREFILL, DECODE, CHAT, **options)
    with pytest.raises(InputError, match="workers: 0 is not allowed"):
        Pool(make_cluster(), workers=0)
