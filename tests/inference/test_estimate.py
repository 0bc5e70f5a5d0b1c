"""Estimates: how their figures agree, and laws of shipped models and accelerators."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import (
    CHIP,
    NODE,
    TWO_SHARPNESSES,
    as_double,
    assert_close,
    make_cluster,
    named_leaves,
    scaled_one_by_one,
    stack,
)

from diffgenz import (
    HARD,
    Parallelism,
    Platform,
    Precision,
    Scenario,
    Workload,
    estimate,
    load_model,
    load_platform,
)
from diffgenz.hardware.platform import Accelerator, Level

SLOW = [
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("meta-llama/Llama-3.1-8B", "tiiuae/falcon-7b", "openai-community/gpt2-xl")
]

MODELS = ["google/gemma-3-27b-pt", *SLOW]
SYSTEMS = ["a100_sxm", "mi300x", "tpu_v5p", "cerebras_wse3"]
CHAT = Workload(batch=12, input_tokens=700, output_tokens=90)
TIMES = ("ttft", "tpot", "end_to_end")


def times(result):
    return {name: getattr(result, name) for name in TIMES}


def over_platforms(model, platforms, workload=CHAT, plan=None, **options):
    """The estimates of a batch of platforms."""
    return jax.vmap(
        lambda platform: estimate(
            Scenario(model, platform, workload, plan or Parallelism(4, 2, 1), **options)
        )
    )(platforms)


@pytest.mark.parametrize("name", MODELS)
def test_better_hardware_is_never_slower(name, double):
    model, cluster = as_double(load_model(name)), as_double(make_cluster())
    now = estimate(Scenario(model, cluster, CHAT, Parallelism(4, 2, 1)))
    scaled = over_platforms(model, scaled_one_by_one(cluster, 1.5))
    for index, leaf in enumerate(named_leaves(cluster)):
        ratio = scaled.end_to_end[index] / now.end_to_end
        if leaf.endswith(("latency",)):
            assert ratio >= 1, leaf
        elif "peak" in leaf or "bandwidth" in leaf or "efficiency" in leaf:
            assert ratio <= 1, leaf
        elif not leaf.endswith("size"):
            assert ratio == 1, leaf


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("sharpness", TWO_SHARPNESSES)
def test_twice_as_fast_in_everything_is_twice_as_fast(system, sharpness, llama_8b):
    platform = load_platform(system, 8)

    def faster(path, leaf):
        name = jax.tree_util.keystr(path)
        if ".kernels" in name:  # pure numbers
            return leaf
        return (
            leaf / 2
            if "latency" in name
            else leaf * 2
            if "peak" in name or "bandwidth" in name
            else leaf
        )

    twice = jax.tree_util.tree_map_with_path(faster, platform)
    plan = Parallelism(4, 2, 1, 0.3)
    before, after = (
        estimate(Scenario(llama_8b, p, CHAT, plan, sharpness=sharpness)) for p in (platform, twice)
    )
    assert_close(jax.tree.map(lambda t: t / 2, times(before)), times(after), rtol=1e-6)


def test_sharpness_orders_the_times_and_ends_at_the_hard_roofline(llama_8b, cluster):
    results = [
        estimate(Scenario(llama_8b, cluster, CHAT, Parallelism(), sharpness=sharpness)).ttft
        for sharpness in (1, 2, 4, 8, HARD)
    ]
    assert all(a > b for a, b in pairwise(results))
    assert results[-2] / results[-1] < 2 ** (1 / 8)


@pytest.mark.parametrize("field", ["batch", "input_tokens", "output_tokens"])
def test_more_work_takes_longer(field, llama_8b, cluster):
    values = getattr(CHAT, field) * jnp.arange(1.0, 6.0)
    result = jax.vmap(
        lambda value: estimate(
            Scenario(llama_8b, cluster, CHAT.replace(**{field: value}), Parallelism(2))
        )
    )(values)
    assert np.all(np.diff(result.end_to_end) > 0)
    assert np.all(np.diff(result.tpot) > 0)


def test_a_batch_of_configurations_is_as_many_calls(llama_8b, llama_70b, cluster):
    chosen = [
        (llama_8b, cluster, CHAT, Parallelism(1)),
        (llama_70b, cluster, CHAT.replace(batch=50), Parallelism(8, 2)),
        (
            llama_8b,
            cluster.replace(accelerators=32),
            CHAT.replace(input_tokens=3000),
            Parallelism(16, 1, 2, 0.5),
        ),
    ]
    chosen = [(model.replace(name="any"), *rest) for model, *rest in chosen]
    together = jax.vmap(lambda *records: estimate(*records))(*stack(chosen))
    apart = stack([estimate(*records) for records in chosen])
    assert_close(together, apart, rtol=1e-6)


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


def test_energy_by_hand(llama_8b):
    """Idle power for the whole time, and joules per FLOP and byte: with one of them alone, the sum is FLOP, bytes or seconds."""
    parts = {"idle_power": 0.0, "energy_per_flop": {"bf16": 0.0}, "energy_per_byte": 0.0}

    def energy(**one):
        return estimate(
            Scenario(
                llama_8b,
                Platform(Accelerator(**CHIP | parts | one)),
                Workload(2, 10, 1),
                Parallelism(),
            )
        )

    idle = energy(idle_power=100.0)
    assert_close(idle.energy_per_output_token, 100 * idle.end_to_end / 2, rtol=1e-6)
    linears = 32 * (4096 * 6144 + 4096 * 4096 + 3 * 4096 * 14336)
    flops = 2 * 20 * linears + 2 * 2 * 128256 * 4096 + 32 * 2 * 4 * 4096 * 10 * 11 / 2
    assert_close(
        energy(energy_per_flop={"bf16": 1.0}).energy_per_output_token, flops / 2, rtol=1e-6
    )
    assert energy(energy_per_byte=1.0).energy_per_output_token > (linears + 128256 * 4096) * 2 / 2


def test_no_price_no_cost(llama_8b):
    assert (
        estimate(
            Scenario(llama_8b, Platform(Accelerator(**CHIP | {"price": None})), CHAT, Parallelism())
        ).cost_per_million_output_tokens
        is None
    )


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
