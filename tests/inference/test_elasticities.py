"""Elasticities, each metric against float64 differences; second derivatives; what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import as_double, assert_close, make_cluster, named_leaves, scaled_one_by_one
from whole_models import DENSE, WINDOWED, rises_with

from diffgenz import (
    Accelerator,
    InputError,
    Parallelism,
    Platform,
    Scenario,
    Serving,
    Workload,
    elasticities,
    estimate,
)
from diffgenz.inference.metrics import METRICS, metrics_of

CHAT = Workload(batch=12, input_tokens=700, output_tokens=90)
CASE = Scenario(WINDOWED, make_cluster(), CHAT, Parallelism(16, 2, 1, 0.2))
CHUNKED = CASE.replace(serving=Serving(chunk=512, mixed=True))
STEP = 1e-5


@functools.cache
def differences():
    """The elasticities of all metrics by central differences, by number."""

    def log_metrics(hardware):
        there = as_double(CHUNKED).replace(platform=hardware)
        return {name: jnp.log(x) for name, x in metrics_of(estimate(there)).items()}

    with jax.enable_x64(True), jax.disable_jit():
        platform = as_double(CHUNKED.platform)
        up, down = (
            jax.vmap(log_metrics)(scaled_one_by_one(platform, np.exp(sign * STEP)))
            for sign in (1, -1)
        )
    slopes = {name: (up[name] - down[name]) / (2 * STEP) for name in up}
    return [
        {metric: values[index] for metric, values in slopes.items()}
        for index in range(len(named_leaves(platform)))
    ]


@pytest.mark.parametrize("metric", sorted(METRICS)[::2])
def test_elasticities_are_the_differences(metric, double):
    card = elasticities(as_double(CHUNKED), metric)
    by_number = dict(zip(named_leaves(CHUNKED.platform), differences(), strict=True))
    for name, value in card.items():
        assert_close(value, by_number[name][metric], rtol=1e-6, atol=1e-8)
    assert not any(name.endswith((".size", "accelerators")) for name in card)
    assert card["accelerator.peak_flops[fp8]"] == 0  # not in use


@pytest.mark.parametrize("metric", ["ttft", "tpot", "end_to_end"])
def test_elasticities_of_a_time_sum_to_one(metric):
    card = elasticities(CASE.replace(sharpness=2), metric)
    slower = sum(value for name, value in card.items() if name.endswith("latency"))
    faster = sum(value for name, value in card.items() if rises_with(name))
    assert_close(slower - faster, 1.0, rtol=1e-5)


def test_elasticities_of_many_configurations_at_once():
    def card(batch):
        return elasticities(CASE.replace(workload=CHAT.replace(batch=batch)), "tpot")

    together = jax.vmap(card)(jnp.array([1.0, 12.0, 500.0]))
    assert_close(
        {name: value[1] for name, value in together.items()}, card(12.0), rtol=1e-5, atol=1e-7
    )


def test_a_metric_that_there_is_not_is_refused(llama_8b):
    with pytest.raises(InputError, match=r"metric: 'tpt' is not known; did you mean .*tpot"):
        elasticities(CASE, "tpt")
    free = Platform(Accelerator("free", {"bf16": 1e15}, 1e12, 1e11))
    with pytest.raises(InputError, match="cost_per_million_output_tokens needs a price"):
        elasticities(Scenario(llama_8b, free, CHAT), "cost_per_million_output_tokens")
    with pytest.raises(InputError, match="mixed_tpot needs mixed iterations"):
        elasticities(CASE, "mixed_tpot")


def test_slopes_by_the_vocabulary_are_the_differences(double):
    """On one rank, which rounds nothing; by a number of tokens that stays whole."""
    case = as_double(CASE.replace(model=DENSE, plan=Parallelism()))

    def log_time(x):
        return jnp.log(estimate(case.replace(model=case.model.replace(vocabulary=x))).end_to_end)

    x, step = case.model.vocabulary, jnp.asarray(8.0)
    at = x + jnp.array([0.0, 8.0, -8.0])
    times, slopes = jax.jit(jax.vmap(jax.value_and_grad(log_time)))(at)
    assert_close(slopes[0], (times[1] - times[2]) / (2 * step), rtol=2e-6)


def test_second_derivatives(double):
    case = as_double(CASE.replace(model=DENSE, plan=Parallelism(4)))

    def log_time(x):
        accelerator = case.platform.accelerator.replace(
            memory_bandwidth=jnp.exp(x[0]),
            peak_flops={"bf16": jnp.exp(x[1])},
            launch_latency=jnp.exp(x[2]),
        )
        there = case.replace(platform=case.platform.replace(accelerator=accelerator))
        return jnp.log(estimate(there).end_to_end)

    x = jnp.log(jnp.array([4e12, 1.5e14, 2e-6], jnp.float64))
    slope = jax.jit(jax.vmap(jax.grad(log_time)))
    steps = 1e-4 * jnp.eye(3)
    slopes = slope(jnp.concatenate([x + steps, x - steps]))
    curvature = jax.jit(jax.hessian(log_time))(x)
    assert_close(curvature, (slopes[:3] - slopes[3:]) / 2e-4, rtol=1e-4, atol=1e-7)
    assert abs(np.asarray(curvature)).max() > 0.01
