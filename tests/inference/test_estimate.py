"""Estimates: how their figures agree, and laws of shipped models and accelerators."""

import jax
import jax.numpy as jnp
import pytest
from support import (
    CHIP,
    NODE,
    SHARPNESSES,
    as_double,
    assert_close,
    make_cluster,
    named_leaves,
    scaled_one_by_one,
    stack,
)
from whole_models import renewed, rises_with, twice_as_fast

from diffgenz import (
    HARD,
    Accelerator,
    Level,
    Parallelism,
    Platform,
    Precision,
    Scenario,
    Workload,
    estimate,
    load_model,
    load_platform,
)
from diffgenz.inference.essential import essential

MODELS = [
    "google/gemma-3-27b-pt",
    "meta-llama/Llama-3.1-8B",
    "tiiuae/falcon-7b",
    "openai-community/gpt2-xl",
]
SYSTEMS = ["a100_sxm", "mi300x", "tpu_v5p", "cerebras_wse3"]
CHAT = Workload(batch=12, input_tokens=700, output_tokens=90)
TIMES = ("ttft", "tpot", "end_to_end")


def times(result):
    return {name: getattr(result, name) for name in TIMES}


# ---- shipped models and accelerators


@pytest.mark.parametrize("name", MODELS)
def test_better_hardware_is_never_slower(name, double):
    model, cluster = as_double(load_model(name)), as_double(make_cluster())

    def end_to_end(platform):
        return estimate(Scenario(model, platform, CHAT, Parallelism(4, 2, 1))).end_to_end

    scaled = scaled_one_by_one(cluster, 1.5)
    rows = jax.tree.map(lambda one, batch: jnp.append(batch, one), cluster, scaled)
    with jax.disable_jit():  # each program would run once: to compile it takes longer
        *found, now = jax.vmap(end_to_end)(rows)
    for seconds, leaf in zip(found, named_leaves(cluster), strict=True):
        if leaf.endswith("latency"):
            assert seconds >= now, leaf
        elif rises_with(leaf) or "efficiency" in leaf:
            assert seconds <= now, leaf
        elif not leaf.endswith("size"):
            assert seconds == now, leaf


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("sharpness", SHARPNESSES)
def test_twice_as_fast_in_everything_is_twice_as_fast(system, sharpness, llama_8b):
    """On every wiring, and with fitted kernels, which are pure numbers."""
    platform = load_platform(system, 8)

    def faster(name, leaf):
        return leaf if ".kernels" in name else twice_as_fast(name, leaf)

    def seconds(platform):
        plan = Parallelism(4, 2, 1, 0.3)
        return times(estimate(Scenario(llama_8b, platform, CHAT, plan, sharpness=sharpness)))

    with jax.disable_jit():
        found = jax.vmap(seconds)(stack([platform, renewed(platform, faster)]))
    for before, after in found.values():
        assert_close(before / 2, after, rtol=1e-6)


def test_models_of_one_family_share_a_batch(llama_8b, llama_70b, cluster):
    """A batch over models, platforms, workloads and plans is as many calls."""
    chosen = [
        Scenario(llama_8b, cluster, CHAT, Parallelism(1)),
        Scenario(llama_70b, cluster, CHAT.replace(batch=50), Parallelism(8, 2)),
        Scenario(
            llama_8b,
            cluster.replace(accelerators=32),
            CHAT.replace(input_tokens=3000),
            Parallelism(16, 1, 2, 0.5),
        ),
    ]
    together = jax.vmap(estimate)(stack([essential(case) for case in chosen]))
    apart = stack([estimate(case) for case in chosen])
    assert_close(together, apart, rtol=1e-6)


# ---- figures


def test_replicas_share_the_batch(llama_8b, cluster):
    one, two = (
        estimate(Scenario(llama_8b, cluster, CHAT, Parallelism())),
        estimate(Scenario(llama_8b, cluster, CHAT.replace(batch=24), Parallelism(data=2))),
    )
    assert_close(times(one), times(two), rtol=1e-6)
    assert_close(one.memory, two.memory, rtol=1e-6)
    assert_close(one.energy_per_output_token, two.energy_per_output_token, rtol=1e-6)
    assert_close(one.cost_per_million_output_tokens, two.cost_per_million_output_tokens, rtol=1e-6)
    assert_close(2 * one.throughput, two.throughput, rtol=1e-6)


def test_the_fullest_replica_counts(llama_8b, cluster):
    uneven = estimate(Scenario(llama_8b, cluster, CHAT.replace(batch=13), Parallelism(data=2)))
    assert_close(
        times(uneven),
        times(estimate(Scenario(llama_8b, cluster, CHAT.replace(batch=7), Parallelism()))),
        rtol=1e-6,
    )


def test_overlap_hides_the_shorter_of_computing_and_communication(llama_8b, cluster):
    slow = cluster.replace(network=(Level(**NODE | {"bandwidth": 1e9}), cluster.network[1]))
    for platform in (cluster, slow):
        visible, none, alone = (
            estimate(Scenario(llama_8b, p, CHAT, Parallelism(t, overlap=o), sharpness=HARD)).ttft
            for p, t, o in ((platform, 4, 0), (platform, 4, 1), (platform, 4, 0.5))
        )
        assert visible > alone > none
        assert_close(alone, (visible + none) / 2, rtol=1e-6)


def test_the_figures_of_an_estimate_agree(llama_70b, cluster):
    e = estimate(Scenario(llama_70b, cluster, CHAT, Parallelism(4, 2, 2)))
    assert_close(e.end_to_end, e.ttft + 89 * e.tpot, rtol=1e-6)
    assert_close(e.throughput, 12 * 90 / e.end_to_end, rtol=1e-6)
    assert_close(e.tokens_per_second_per_user, 1 / e.tpot, rtol=1e-6)
    assert_close(e.tokens_per_second_per_accelerator, e.throughput / 16, rtol=1e-6)
    assert_close(e.cost_per_million_output_tokens, 1e6 * 1e-3 * 16 / e.throughput, rtol=1e-6)


def test_no_price_no_cost(llama_8b):
    free = Platform(Accelerator(**CHIP | {"price": None}))
    assert estimate(Scenario(llama_8b, free, CHAT)).cost_per_million_output_tokens is None


def test_narrow_weights_compute_wide_where_the_narrow_format_is_missing(llama_8b):
    a100 = load_platform("a100_sxm", fit="none")
    wide, narrow = (
        estimate(
            Scenario(llama_8b, a100, CHAT, Parallelism(), precision=Precision(weights=weights))
        )
        for weights in ("bf16", "fp8")
    )
    assert narrow.tpot < wide.tpot
    assert_close(narrow.ttft, wide.ttft, rtol=0.02)  # bound by compute, which stays
