"""Offloading: what the main memory has no room for, by hand; its two limits; derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import as_double, assert_close, assert_finite

from diffgenz import (
    HARD,
    MemoryTier,
    Offload,
    Parallelism,
    Precision,
    Scenario,
    Serving,
    Workload,
    estimate,
    load_model,
    search,
)
from diffgenz.inference.offloading import Offloading
from diffgenz.inference.prefill_decode import decode, prefill, prompt_step
from diffgenz.inference.timing.pipeline import Parts

CHAT = Workload(batch=6, input_tokens=1500, output_tokens=60)
TIMES = ("ttft", "tpot", "end_to_end", "energy_per_output_token")
PLAIN = Serving(chunk=None, memory_utilization=1)
SERVING = {what: PLAIN.replace(offload=what) for what in Offload}
ROUNDING = 3e-7
"""Between two programs of the same sums in float32."""
MATRICES = 32.0 * 2 * (4096 * (2 * 4096 + 2 * 1024) + 3 * 4096 * 14336)
"""B of Llama-3.1-8B's layers without their norms, in bf16."""
PER_TOKEN = 32.0 * 2 * 1024 * 2
"""B of its KV cache for a token."""


def with_memory(platform, capacity, *tiers):
    return platform.replace(
        accelerator=platform.accelerator.replace(memory_capacity=capacity, tiers=tiers)
    )


def plain_case(model, platform):
    """Whole prompts on one accelerator, all of whose memory may be used."""
    return Scenario(model, platform, CHAT, Parallelism(), serving=PLAIN)


@pytest.fixture(scope="module")
def offloaded(llama_8b, cluster):
    """Estimates by main memory, and by the bandwidth and capacity of a slower one; by what is
    offloaded."""

    def of(what, plan):
        def one(capacity, bandwidth, room):
            return estimate(
                Scenario(
                    llama_8b,
                    with_memory(cluster, capacity, MemoryTier("host", room, bandwidth)),
                    CHAT,
                    plan,
                    serving=SERVING[what],
                )
            )

        return jax.jit(jax.vmap(one))

    return {
        (what, stages): of(what, Parallelism(1, stages)) for what in Offload for stages in (1, 2)
    }


@pytest.mark.parametrize("what", Offload)
def test_what_fits_is_left_alone(what, offloaded, llama_8b, cluster):
    plain = estimate(plain_case(llama_8b, cluster))
    fits = jax.tree.map(
        lambda leaf: leaf[0], offloaded[what, 1](*jnp.array([[100e9], [1e3], [1e9]]))
    )
    for name in TIMES:
        assert_close(getattr(fits, name), getattr(plain, name), rtol=ROUNDING)
    assert_close(fits.memory.total, plain.memory.total, rtol=0)
    assert_close(fits.memory.offloaded, (0.0,), rtol=0)


@pytest.mark.parametrize("what", Offload)
def test_infinitely_fast_memory_is_more_memory(what, offloaded, llama_8b, cluster):
    plain = estimate(plain_case(llama_8b, cluster))
    capacities = jnp.array([16e9, float(plain.memory.total) - 0.4e9])
    fast = offloaded[what, 1](capacities, jnp.full(2, jnp.inf), jnp.full(2, 0.5e9))
    for name in TIMES:
        assert_close(getattr(fast, name), jnp.broadcast_to(getattr(plain, name), 2), rtol=ROUNDING)
    more = estimate(plain_case(llama_8b, with_memory(cluster, capacities[1] + 0.5e9)))
    assert_close(fast.memory.margin[1], more.memory.margin, rtol=1e-4)
    assert fast.memory.fits.tolist() == [False, True]


def test_half_the_weights_by_hand(offloaded, llama_8b, cluster):
    """Each iteration reads them once, at the bandwidth of the slower memory.

    The rest hides behind it. So it is with two stages, for both micro-batches.
    """
    total = float(estimate(plain_case(llama_8b, cluster)).memory.total)
    bandwidths = jnp.array([1e9, 5e10, 1e11, 1e14])
    at = (jnp.full(4, total - MATRICES / 2), bandwidths, jnp.full(4, 1e12))
    half = offloaded[Offload.WEIGHTS, 1](*at)
    assert_close(half.memory.movable, jnp.full(4, MATRICES), rtol=1e-6)
    assert_close(half.memory.offloaded[0], jnp.full(4, MATRICES / 2), rtol=1e-6)
    assert_close(half.tpot[:3], MATRICES / 2 / bandwidths[:3], rtol=1e-5)
    assert_close(half.ttft[0], MATRICES / 2 / 1e9, rtol=1e-5)
    assert (np.diff(half.tpot) < 0).all()
    assert (np.diff(half.ttft) <= 0).all()
    assert_close(
        half.tpot[3],
        estimate(plain_case(llama_8b, cluster)).tpot,
        rtol=0,
    )

    two = Parallelism(1, 2)
    stage = estimate(Scenario(llama_8b, cluster, CHAT, two, serving=PLAIN)).memory
    staged = offloaded[Offload.WEIGHTS, 2](
        stage.total[None] - MATRICES / 4, jnp.array([1e9]), jnp.array([1e12])
    )
    # the last stage's LM head does not hide
    assert_close(staged.tpot, [2 * MATRICES / 4 / 1e9], rtol=1e-3)
    # the second micro-batch waits for the first
    assert_close(staged.ttft, [3 * MATRICES / 4 / 1e9], rtol=2e-2)


def test_a_quarter_of_the_cache_by_hand(offloaded, llama_8b, cluster):
    """Decode reads its share at the mean context, prefill writes its share of the prompts."""
    memory = estimate(plain_case(llama_8b, cluster)).memory
    quarter = offloaded[Offload.KV_CACHE, 1](
        memory.total[None] - 0.25 * memory.kv_cache, jnp.array([1e8]), jnp.array([1e12])
    )
    assert_close(quarter.memory.movable, [6 * 1560 * PER_TOKEN], rtol=1e-5)
    assert_close(quarter.tpot, [0.25 * 6 * 1531 * PER_TOKEN / 1e8], rtol=1e-3)
    assert_close(quarter.ttft, [0.25 * 6 * 1500 * PER_TOKEN / 1e8], rtol=1e-3)


def test_the_nearest_memory_fills_first(llama_8b, cluster):
    total = float(estimate(plain_case(llama_8b, cluster)).memory.total)
    near, far = MemoryTier("near", 1e9, 5e10), MemoryTier("far", 5e9, 1e9)
    both = estimate(
        Scenario(
            llama_8b,
            with_memory(cluster, total - 3e9, near, far),
            CHAT,
            Parallelism(),
            serving=SERVING[Offload.WEIGHTS],
        )
    )
    assert_close(both.memory.offloaded, (1e9, 2e9), rtol=1e-5)
    assert_close(both.tpot, 2.0, rtol=1e-5)
    assert bool(both.memory.fits)


# ---- what an iteration waits for

SLOW = {what: Offloading(what, jnp.ones(()), jnp.asarray(True)) for what in Offload}
"""All of it in memory of 1 B/s: the wait is the B that an iteration touches."""

NOTHING = Parts(*jnp.zeros(3))


def touched(what, iteration):
    return SLOW[what].wait(NOTHING, iteration, HARD)


@pytest.mark.parametrize(
    ("name", "prefilled", "decoded"),
    [
        # latent vectors
        ("deepseek-ai/DeepSeek-V3", 61 * 576 * 6 * 1500, 61 * 576 * 6 * 1531),
        # windows
        (
            "google/gemma-3-27b-pt",
            4096 * 6 * (10 * 1500 + 52 * 1024),
            4096 * 6 * (10 * 1531 + 52 * 1024),
        ),
    ],
)
def test_what_of_a_cache_is_touched(name, prefilled, decoded, cluster):
    precision = Precision(kv_cache="fp8")
    case = Scenario(load_model(name), cluster, CHAT, Parallelism(), precision, PLAIN)
    step = prompt_step(case, CHAT.batch)
    assert_close(touched(Offload.KV_CACHE, prefill(case, step)), prefilled, rtol=1e-6)
    assert_close(touched(Offload.KV_CACHE, decode(case, step)), decoded, rtol=1e-6)


def test_of_experts_only_the_reached_are_read(cluster):
    """One token of DeepSeek-V3 goes to 8 of 256 experts in each of 58 layers.

    An expert has 3 x 7168 x 2048 parameters.
    """
    model = load_model("deepseek-ai/DeepSeek-V3")
    case = Scenario(model, cluster, CHAT, Parallelism(), serving=PLAIN)
    one, many = (
        touched(Offload.WEIGHTS, decode(case, prompt_step(case, jnp.asarray(n))))
        for n in (1.0, 1e6)
    )
    assert_close(many - one, 58 * 248 * 3 * 7168 * 2048 * 2, rtol=1e-5)


def test_slopes_are_the_differences(llama_8b, cluster, double):
    """With respect to the capacity, the bandwidth of the slower memory and the prompt.

    Finite where memory is just full, and where it is not enough.
    """
    model, platform, chat = as_double((llama_8b, cluster, CHAT))
    total = estimate(Scenario(model, platform, chat, Parallelism())).memory.total

    def case_of(x, sharpness=8):
        return Scenario(
            model,
            with_memory(platform, total * x[0], MemoryTier("host", 2e9, 3e10 * x[1])),
            chat.replace(input_tokens=1500 * x[2]),
            Parallelism(),
            serving=SERVING[Offload.WEIGHTS],
            sharpness=sharpness,
        )

    @jax.jit
    @jax.vmap
    @jax.value_and_grad
    def cost(x):
        e = estimate(case_of(x))
        return jnp.log(e.tpot) + e.memory.margin / 1e9

    at, steps = jnp.array([[0.95, 1.0, 1.0]]), 1e-6 * jnp.eye(3)
    edges = jnp.array([[1.0, 1.0, 1.0], [2.0, 1.0, 1.0], [0.1, 1.0, 1.0]])
    values, slopes = cost(jnp.concatenate([at, edges, at + steps, at - steps]))
    assert_close(slopes[0], (values[4:7] - values[7:]) / 2e-6, rtol=1e-5)
    assert_finite(slopes)
    # on the hard roofline, reading slower memory is all that decode waits for
    hard = jax.jit(jax.grad(lambda x: jnp.log(estimate(case_of(x, HARD)).tpot)))
    assert_close(hard(at[0])[1], -1.0, rtol=1e-9)


def test_search_finds_what_would_not_fit(llama_8b, cluster):
    tight = with_memory(cluster, 9e9, MemoryTier("host", 1e11, 5e10)).replace(accelerators=1)
    case = Scenario(llama_8b, tight, CHAT, serving=SERVING[Offload.WEIGHTS])
    found = search(case, batches=[1.0], precisions=[Precision()])
    assert found.deployments[0].metrics["memory.total"] > 9e9
