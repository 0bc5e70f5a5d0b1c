"""Requirements: laws of the ideal platform, round trips through `estimate`, derivatives."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import as_double, assert_close, rows_of

import diffgenz as dgz
from diffgenz import (
    InputError,
    Parallelism,
    Precision,
    Scenario,
    Serving,
    Speculation,
    ideal_platform,
    load_use_case,
    requirements,
)

CHAT = load_use_case("chat")
PLAN = Parallelism(tensor=8)
SIXTEEN = Parallelism(tensor=16)


def asked(model, use=CHAT, plan=None, platform=None, serving=None, **parts) -> dgz.Requirements:
    """What a use case needs; on an ideal platform, unless another is given."""
    plan, precision = plan or Parallelism(), parts.pop("precision", Precision())
    if platform is None:
        platform = ideal_platform(plan, precision)
    case = Scenario(model, platform, use.workload, plan, precision, use.served(serving), **parts)
    return requirements(case, ttft=use.ttft, tpot=use.tpot)


def test_impossible_layouts_and_objectives_are_refused(llama_8b, cluster):
    with pytest.raises(InputError, match="tensor: 64 exceeds 32"):
        asked(llama_8b, plan=Parallelism(tensor=64))
    with pytest.raises(InputError, match="ranks|accelerators"):
        asked(llama_8b, plan=Parallelism(tensor=8, data=16), platform=cluster)
    with pytest.raises(InputError, match="sharpness: 3"):
        asked(llama_8b, sharpness=3)
    case = Scenario(llama_8b, cluster, plan=PLAN)
    for options, message in (
        ({"tpot": 0}, "tpot: 0 is not allowed; it must be above 0"),
        ({"ttft": -1}, "ttft: -1 is not allowed"),
        ({"tpot": math.nan}, "tpot: nan is not allowed"),
    ):
        with pytest.raises(InputError, match=message):
            requirements(case, **options)


def test_half_the_objective_is_twice_the_rate(llama_8b):
    half = CHAT.replace(tpot=CHAT.tpot / 2, ttft=CHAT.ttft / 2)
    now, fast = (asked(llama_8b, use, PLAN) for use in (CHAT, half))
    for phase in ("prefill", "decode"):
        slow, quick = getattr(now, phase), getattr(fast, phase)
        ratios = (
            quick.compute / slow.compute,
            quick.memory_bandwidth / slow.memory_bandwidth,
            quick.links[0].bandwidth / slow.links[0].bandwidth,
        )
        assert_close(ratios, (2.0, 2.0, 2.0), 3e-5)
        assert_close(slow.links[0].latency / quick.links[0].latency, 2.0, 3e-5)
    assert_close(fast.memory_capacity, now.memory_capacity, 0)


def test_decode_reads_weights_and_cache_once_a_token(llama_8b):
    """By hand: all weights except the gathered embedding, and the cache at the mean context.

    Activations are below 1 %.
    """
    need = asked(llama_8b, CHAT.replace(beams=1))
    weights = 2 * (float(llama_8b.parameters) - 128256 * 4096)
    cache = 2 * 32 * 2 * 1024 * (3000 + 500)
    assert float(need.decode.memory_bandwidth) == pytest.approx((weights + cache) / 0.010, rel=0.01)
    assert float(need.decode.memory_bandwidth) > (weights + cache) / 0.010
    assert float(need.memory_capacity) == pytest.approx(
        (2 * float(llama_8b.parameters) + 2 * 32 * 2 * 1024 * 4000) / 0.9, rel=0.05
    )
    always_right = Serving(speculation=Speculation(3, 1))  # n-grams
    quarter = asked(llama_8b, CHAT.replace(beams=1), serving=always_right)
    assert float(quarter.decode.memory_bandwidth) == pytest.approx(
        (weights + cache) / 0.040, rel=0.01
    )


def test_a_larger_model_and_more_beams_need_more(llama_8b, llama_70b):
    small, large = (asked(model, CHAT, PLAN) for model in (llama_8b, llama_70b))
    beams = asked(llama_8b, CHAT.replace(beams=4), PLAN)
    for more in (large, beams):
        assert more.decode.compute > small.decode.compute
        assert more.decode.memory_bandwidth > small.decode.memory_bandwidth
        assert more.decode.links[0].bandwidth > small.decode.links[0].bandwidth
        assert more.memory_capacity > small.memory_capacity
    assert large.compute == jnp.maximum(large.prefill.compute, large.decode.compute)
    assert large.memory_bandwidth == large.decode.memory_bandwidth
    assert_close(beams.prefill, small.prefill, 0)  # beams are decoded, not prefilled


def put(platform, number, value, level=0):
    """`platform` with one number replaced."""
    accelerator = platform.accelerator
    if number == "memory_bandwidth":
        return platform.replace(accelerator=accelerator.replace(memory_bandwidth=value))
    if number == "compute":
        scale = value / accelerator.peak_flops["bf16"]
        return platform.replace(
            accelerator=accelerator.replace(
                peak_flops={key: peak * scale for key, peak in accelerator.peak_flops.items()}
            )
        )
    network = list(platform.network)
    network[level] = network[level].replace(**{number: value})
    return platform.replace(network=tuple(network))


@pytest.mark.parametrize(
    ("real", "sharpness"),
    [
        (True, 8),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in ((False, dgz.HARD), (False, 8), (True, dgz.HARD))
        ),
    ],
)
def test_an_estimate_with_the_required_number_meets_the_objective(
    llama_70b, cluster, real, sharpness
):
    platform = cluster if real else ideal_platform(SIXTEEN, Precision())
    use = CHAT.replace(tpot=0.02, ttft=0.5)
    result = asked(llama_70b, use, SIXTEEN, platform, sharpness=sharpness)
    case = Scenario(
        llama_70b, platform, use.workload, SIXTEEN, serving=use.served(), sharpness=sharpness
    )
    for needs, metric in ((result.prefill, "ttft"), (result.decode, "tpot")):
        values = [("compute", needs.compute, 0), ("memory_bandwidth", needs.memory_bandwidth, 0)]
        values += [
            (name, getattr(link, name), level)
            for level, link in enumerate(needs.links)
            for name in ("bandwidth", "latency")
        ]
        for number, value, level in values:
            assert 0 < float(value) < math.inf, (metric, number)
            now = dgz.estimate(case.replace(platform=put(platform, number, value, level)))
            met = float(getattr(now, metric) / getattr(use, metric))
            assert met == pytest.approx(1, abs=1e-4), (metric, number, level)


def test_what_cannot_be_met_is_infinite_and_what_is_not_asked_is_zero(llama_8b, cluster):
    one = asked(llama_8b, CHAT.replace(ttft=math.inf))
    assert (
        float(one.prefill.compute)
        == float(one.prefill.memory_bandwidth)
        == float(one.decode.links[0].bandwidth)
        == 0
    )
    assert float(one.prefill.links[0].latency) == float(one.decode.links[0].latency) == math.inf
    launch_bound = asked(llama_8b, CHAT.replace(tpot=1e-5), PLAN, cluster).decode
    assert (
        float(launch_bound.compute)
        == float(launch_bound.memory_bandwidth)
        == float(launch_bound.links[0].bandwidth)
        == math.inf
    )
    assert float(launch_bound.links[0].latency) == -math.inf


@pytest.mark.slow
def test_what_cannot_be_met_and_what_is_not_asked_have_no_slope(llama_8b, cluster):
    def sought(tpot):
        return asked(llama_8b, CHAT.replace(tpot=tpot), PLAN, cluster).decode.memory_bandwidth

    slope = jax.jit(jax.grad(sought))
    assert [float(slope(jnp.asarray(tpot))) for tpot in (1e-5, jnp.inf)] == [0, 0]


@pytest.mark.slow
def test_it_is_vectorized_and_compiles(llama_8b):
    objectives = jnp.array([0.005, 0.01, 0.02])

    def sought(tpot):
        return asked(llama_8b, CHAT.replace(tpot=tpot), PLAN)

    many = jax.jit(jax.vmap(sought))(objectives)
    for index, tpot in enumerate(objectives):
        assert_close(rows_of(many, index), sought(tpot), 3e-5)


@pytest.mark.slow
@pytest.mark.parametrize("which", [(0, 2, 4, 5)])
def test_gradients_agree_with_float64_differences(which, llama_8b, cluster, double):
    """Of some requirements, by factors of others: each is a root to compile."""
    model, platform, plan, precision = (
        as_double(llama_8b),
        as_double(cluster),
        as_double(PLAN),
        as_double(Precision()),
    )
    use = as_double(CHAT)

    def sought(x):
        """Seven requirements in terms of as many factors.

        They multiply TPOT, TTFT, prompt, width of the model, launch latency, memory bandwidth and
        bytes per weight.
        """
        changed = use.replace(
            tpot=use.tpot * x[0], ttft=use.ttft * x[1], input_tokens=use.input_tokens * x[2]
        )
        chip = platform.accelerator.replace(
            launch_latency=platform.accelerator.launch_latency * x[4],
            memory_bandwidth=platform.accelerator.memory_bandwidth * x[5],
        )
        sizes = [
            precision.dtype_size,
            precision.weight_size * x[6],
            precision.activation_size,
            precision.kv_cache_size,
        ]
        need = asked(
            model.replace(hidden=model.hidden * x[3]),
            changed,
            plan,
            platform.replace(accelerator=chip),
            precision=precision.with_sizes(*sizes),
        )
        link = need.decode.links[0]
        numbers = (
            need.prefill.compute,
            need.decode.memory_bandwidth,
            link.bandwidth,
            link.latency,
            need.prefill.links[0].latency,
        )
        numbers += (need.decode.compute, need.memory_capacity)
        return jnp.log(jnp.stack([numbers[index] for index in which]))

    step = 1e-5
    ahead, behind = jax.jit(jax.vmap(sought))(
        1 + step * jnp.concatenate([jnp.eye(7), -jnp.eye(7)])
    ).reshape(2, 7, len(which))
    np.testing.assert_allclose(
        jax.jit(jax.jacrev(sought))(jnp.ones(7)).T,
        (ahead - behind) / (2 * step),
        rtol=1e-5,
        atol=1e-7,
    )
