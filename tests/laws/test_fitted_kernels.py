"""Laws of estimates with fitted kernels: rows add up, gradients are differences."""

import jax
import jax.numpy as jnp
import pytest
from support import as_double, assert_close, fitted_cluster, make_cluster
from whole_models import DENSE, EXPERTS, HYBRID

from diffgenz import Parallelism, Scenario, Workload, breakdown, estimate

CHAT = Workload(batch=12, input_tokens=700, output_tokens=90)
MODELS = [DENSE, EXPERTS, HYBRID]
PLANS = {"experts": Parallelism(2, expert=8, attention_data=4)}


def case_of(model, platform):
    return Scenario(model, platform, CHAT, PLANS.get(model.name, Parallelism(4)))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_a_breakdown_of_fitted_kernels_adds_up(model):
    case = case_of(model, fitted_cluster())
    with jax.disable_jit():  # each program would run once: to compile it takes longer
        result, rows = estimate(case), breakdown(case)
        bound = estimate(case_of(model, make_cluster()))
    for phase in ("ttft", "tpot"):
        assert_close(getattr(rows, phase).sum(), getattr(result, phase), rtol=1e-5)
        # kernels are slower than the peaks
        assert getattr(result, phase) > getattr(bound, phase)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS[1:], ids=lambda model: model.name)
def test_gradients_of_fitted_kernels_are_the_differences(model, double):
    case = as_double(case_of(model, fitted_cluster()))
    names = ("memory_bandwidth", "launch_latency", "compute_units")

    @jax.jit
    @jax.vmap
    @jax.value_and_grad
    def logarithm(log_scale):
        chip = case.platform.accelerator
        numbers = {
            name: getattr(chip, name) * jnp.exp(x) for name, x in zip(names, log_scale, strict=True)
        }
        there = case.platform.replace(accelerator=chip.replace(**numbers))
        return jnp.log(estimate(case.replace(platform=there)).end_to_end)

    steps = 1e-5 * jnp.eye(3)
    at = jnp.concatenate([jnp.zeros((1, 3)), steps, -steps])
    with jax.disable_jit(model is HYBRID):  # many forms, each of which takes long to compile
        values, slopes = logarithm(at)
    assert_close(slopes[0], (values[1:4] - values[4:]) / 2e-5, rtol=1e-5, atol=1e-9)
