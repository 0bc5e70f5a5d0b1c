"""Elasticities and other derivatives of shipped models, against float64 differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import as_double, assert_close, assert_finite, named_leaves, scaled_one_by_one, stack

from diffgenz import InputError, Parallelism, Platform, Scenario, Workload, elasticities, estimate
from diffgenz.hardware.platform import Accelerator
from diffgenz.inference.elasticities import metric_named

CHAT = Workload(batch=12, input_tokens=700, output_tokens=90)
PLAN = Parallelism(16, 2, 1, 0.2)
STEP = 1e-5

METRICS = [
    "end_to_end",
    "memory.total",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("ttft", "energy_per_output_token", "cost_per_million_output_tokens")
    ),
]


@pytest.mark.parametrize("metric", METRICS)
def test_elasticities_are_the_differences(metric, gemma_27b, cluster, double):
    model, platform, workload, plan = as_double((gemma_27b, cluster, CHAT, PLAN))
    card = elasticities(Scenario(model, platform, workload, plan), metric)

    def log_metric(hardware):
        return jnp.log(metric_named(estimate(Scenario(model, hardware, workload, plan)), metric))

    up, down = (
        jax.vmap(log_metric)(scaled_one_by_one(platform, np.exp(sign * STEP))) for sign in (1, -1)
    )
    differences = dict(zip(named_leaves(platform), (up - down) / (2 * STEP), strict=True))
    for name, value in card.items():
        assert_close(value, differences[name], rtol=1e-6, atol=1e-8)
    assert not any(name.endswith((".size", "accelerators")) for name in card)


TIMES = [
    ("ttft", 2),
    ("tpot", 8),
    *(
        pytest.param(*each, marks=pytest.mark.slow)
        for each in (("tpot", 2), ("end_to_end", 2), ("ttft", 8), ("end_to_end", 8))
    ),
]


@pytest.mark.parametrize(("metric", "sharpness"), TIMES)
def test_elasticities_of_a_time_sum_to_one(metric, sharpness, gemma_27b, cluster):
    card = elasticities(Scenario(gemma_27b, cluster, CHAT, PLAN, sharpness=sharpness), metric)
    slower = sum(value for name, value in card.items() if name.endswith("latency"))
    faster = sum(
        value for name, value in card.items() if "peak" in name or name.endswith("bandwidth")
    )
    assert_close(slower - faster, 1.0, rtol=1e-5)


def test_elasticities_of_many_configurations_at_once(llama_8b, cluster):
    def card(batch):
        return elasticities(
            Scenario(llama_8b, cluster, CHAT.replace(batch=batch), Parallelism(4)), "tpot"
        )

    together = jax.vmap(card)(jnp.array([1.0, 12.0, 500.0]))
    assert_close(
        {name: value[1] for name, value in together.items()}, card(12.0), rtol=1e-5, atol=1e-7
    )


def test_an_unknown_metric_suggests(llama_8b, cluster):
    with pytest.raises(InputError, match=r"metric: 'tpt' is not known; did you mean .*tpot"):
        elasticities(Scenario(llama_8b, cluster, CHAT, Parallelism()), "tpt")
    free = Platform(Accelerator("free", {"bf16": 1e15}, 1e12, 1e11))
    with pytest.raises(InputError, match="cost_per_million_output_tokens"):
        elasticities(
            Scenario(llama_8b, free, CHAT, Parallelism()), "cost_per_million_output_tokens"
        )


SMOOTH = ["hidden", "vocabulary", "input_tokens", "output_tokens", "overlap"]


@pytest.mark.parametrize("name", SMOOTH)
def test_derivatives_with_respect_to_model_and_workload(name, llama_8b, cluster, double):
    """Sizes that no rounding touches equal the differences; those that are rounded pass straight through (test_smooth)."""
    model, platform, workload = as_double((llama_8b, cluster, CHAT))

    def log_time(x):
        changed = {name: x}
        m = model.replace(**changed) if name in ("hidden", "vocabulary") else model
        w = workload.replace(**changed) if name.endswith("tokens") else workload
        plan = (
            Parallelism(4, 1, 1, x)
            if name == "overlap"
            else Parallelism(4 if name != "vocabulary" else 1)
        )
        return jnp.log(estimate(Scenario(m, platform, w, plan)).end_to_end)

    x = jnp.asarray(
        0.4
        if name == "overlap"
        else getattr(model if name in ("hidden", "vocabulary") else workload, name),
        jnp.float64,
    )
    step = 1e-4 * x if name != "vocabulary" else jnp.asarray(8.0)
    times, slopes = jax.jit(jax.vmap(jax.value_and_grad(log_time)))(
        x + jnp.array([0.0, step, -step])
    )
    assert_close(slopes[0], (times[1] - times[2]) / (2 * step), rtol=2e-6)


def test_second_derivatives(llama_8b, cluster, double):
    model, platform, workload = as_double((llama_8b, cluster, CHAT))

    def log_tpot(x):
        accelerator = platform.accelerator.replace(
            memory_bandwidth=jnp.exp(x[0]),
            peak_flops={"bf16": jnp.exp(x[1])},
            energy_per_flop={},
            launch_latency=jnp.exp(x[2]),
        )
        return jnp.log(
            estimate(
                Scenario(model, platform.replace(accelerator=accelerator), workload, Parallelism(4))
            ).end_to_end
        )

    x = jnp.log(jnp.array([4e12, 1.5e14, 2e-6], jnp.float64))
    slope = jax.jit(jax.grad(log_tpot))
    differences = jnp.stack(
        [(slope(x.at[i].add(1e-4)) - slope(x.at[i].add(-1e-4))) / 2e-4 for i in range(3)]
    )
    curvature = jax.jit(jax.hessian(log_tpot))(x)
    assert_close(curvature, differences, rtol=1e-4, atol=1e-7)
    assert abs(np.asarray(curvature)).max() > 0.01


def test_gradients_are_finite_at_the_edges(gemma_27b, cluster):
    """With respect to everything: one rank and many, one token and many, more requests than fit."""
    plans = [Parallelism(), Parallelism(8), Parallelism(1, 8), Parallelism(3, 5, 2, 1.0)]
    workloads = [Workload(1, 1, 1), Workload(1, 1, 2), Workload(4096, 100_000, 1)]
    edges = stack(
        [(gemma_27b, cluster, workload, plan) for plan in plans for workload in workloads]
    )

    def objective(records):
        result = estimate(*records)
        return (
            jnp.log(result.end_to_end)
            + jnp.log(result.memory.total)
            + jnp.log(result.energy_per_output_token)
        )

    assert_finite(jax.jit(jax.vmap(jax.grad(objective)))(edges))
