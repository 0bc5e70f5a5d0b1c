"""Disaggregated prefill and decode: the phases apart, and the cache between them."""

import math

import jax
import jax.numpy as jnp
import pytest
from support import assert_close, assert_finite, make_cluster

from diffgenz import (
    MTP,
    Draft,
    InputError,
    Parallelism,
    Pool,
    Precision,
    Scenario,
    Serving,
    Speculation,
    Workload,
    disaggregate,
    estimate,
    load_model,
)

CHAT = Workload(batch=32, input_tokens=3000, output_tokens=200)
PREFILL = Pool(make_cluster(16), Parallelism(4), 3)
DECODE = Pool(make_cluster(64), Parallelism(8), 2)


def asked(model, **parts) -> Scenario:
    """The workload, on a platform and under a plan that the pools take the place of."""
    return Scenario(model, make_cluster(8), CHAT, **parts)


@pytest.mark.parametrize(
    "serving", [None, Serving(chunk=512, prefix_hit=0.5)], ids=["plain", "chunked"]
)
def test_an_infinite_link_is_two_phases_apart(serving, llama_8b):
    case = asked(llama_8b, serving=serving)
    both = disaggregate(case, PREFILL, DECODE, link_bandwidth=math.inf)
    one = CHAT.replace(batch=1)
    first = estimate(Scenario(llama_8b, PREFILL.platform, one, PREFILL.plan, serving=serving))
    rest = estimate(Scenario(llama_8b, DECODE.platform, CHAT, DECODE.plan, serving=serving))
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
    case = asked(load_model(name), precision=Precision(kv_cache="fp8"))
    both = disaggregate(case, PREFILL, DECODE, link_bandwidth=5e10, link_latency=1e-4)
    assert_close(both.kv_cache, expected, rtol=1e-6)
    assert_close(both.transfer, 1e-4 + expected / 5e10, rtol=1e-6)
    assert_close(both.sustained[1], 5e10 / expected, rtol=1e-6)


def test_what_drafts_need_is_sent_too_and_what_both_have_is_not(llama_8b):
    """A draft model's cache in its own format, unless it has accelerators of its own."""
    llama, draft = 32 * 2 * 1024 * 3000 * 2, 24 * 2 * 128 * 3000 * 1
    small = Draft(load_model("Qwen/Qwen2.5-0.5B"), precision=Precision(kv_cache="fp8"))
    apart = small.replace(platform=make_cluster(8))
    options = [
        (Serving(), llama),
        (Serving(speculation=Speculation(3, 0.7)), llama),
        (Serving(speculation=Speculation(3, 0.7, small)), llama + draft),
        (Serving(speculation=Speculation(3, 0.7, apart)), llama),
        (Serving(prefix_hit=0.25, speculation=Speculation(3, 0.7, small)), 0.75 * (llama + draft)),
        (Serving(prefix_hit=1), llama / 3000),
    ]
    for serving, expected in options:
        case = asked(llama_8b, serving=serving)
        both = disaggregate(case, PREFILL, DECODE, link_bandwidth=5e10)
        assert_close(both.kv_cache, expected, rtol=1e-6)
    deepseek = load_model("deepseek-ai/DeepSeek-V3")
    mtp = asked(deepseek, serving=Serving(speculation=Speculation(1, 0.7, MTP())))
    both = disaggregate(mtp, PREFILL, DECODE, link_bandwidth=5e10)
    assert_close(both.kv_cache, 62 * 576 * 3000 * 2, rtol=1e-6)  # one layer more


def test_the_slowest_stage_limits_and_the_right_ratio_balances(llama_8b):
    case = asked(llama_8b)
    both = disaggregate(case, PREFILL, DECODE, link_bandwidth=math.inf)
    enough = PREFILL.replace(workers=2 * both.prefill_per_decode)
    balanced = disaggregate(case, enough, DECODE, link_bandwidth=math.inf)
    assert_close(balanced.sustained[0], balanced.sustained[2], rtol=1e-6)
    assert_close(balanced.requests_per_second, balanced.sustained[0], rtol=1e-6)
    for bandwidth, workers, stage in (
        (1e6, 3, "transfer"),
        (1e15, 1e-3, "prefill"),
        (1e15, 1e3, "decode"),
    ):
        prefill = PREFILL.replace(workers=workers)
        assert disaggregate(case, prefill, DECODE, link_bandwidth=bandwidth).bottleneck == stage


def test_gradients_are_finite(llama_8b):
    @jax.jit
    @jax.vmap
    def slopes(bandwidth, hit):
        def cost(at):
            case = asked(llama_8b, serving=Serving(prefix_hit=at[1]))
            both = disaggregate(case, PREFILL, DECODE, link_bandwidth=at[0])
            return jnp.log(both.ttft) + jnp.log(both.tpot) - jnp.log(both.requests_per_second)

        return jax.grad(cost)((bandwidth, hit))

    assert_finite(slopes(jnp.array([1e9, 1e12, 1e9]), jnp.array([0.0, 0.5, 1.0])))


def test_what_cannot_be_is_refused(llama_8b):
    for options, message in (
        ({"link_bandwidth": 0}, "link_bandwidth: 0"),
        ({"link_bandwidth": 1e9, "link_latency": -1}, "link_latency: -1"),
    ):
        with pytest.raises(InputError, match=message):
            disaggregate(asked(llama_8b), PREFILL, DECODE, **options)
    with pytest.raises(InputError, match="workers: 0 is not allowed"):
        Pool(make_cluster(), workers=0)
