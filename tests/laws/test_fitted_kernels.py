"""Laws of estimates with fitted kernels: rows add up, gradients are differences."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from support import CHIP, FABRIC, NODE

from diffgenz import Parallelism, Scenario, Workload, breakdown, estimate
from diffgenz.hardware.platform import Accelerator, Level, Platform
from diffgenz.kernels.families import FAMILIES
from diffgenz.kernels.library import Library

LIBRARY = Library({family: {"bf16": form()} for family, form in FAMILIES.items()})


def fitted_cluster(library=LIBRARY):
    return Platform(
        Accelerator(**CHIP, compute_units=100.0, kernels=library),
        (Level(**NODE), Level(**FABRIC)),
        64,
    )


CHAT = Workload(batch=12, input_tokens=700, output_tokens=90)


@pytest.mark.parametrize(
    "model", [pytest.param("llama_8b", marks=pytest.mark.slow), "deepseek_v2_lite"]
)
def test_a_breakdown_of_fitted_kernels_adds_up(model, request, llama_8b):
    from diffgenz import load_model

    model = llama_8b if model == "llama_8b" else load_model("deepseek-ai/DeepSeek-V2-Lite")
    platform, plan = fitted_cluster(), Parallelism(4)
    result, rows = (
        estimate(Scenario(model, platform, CHAT, plan)),
        breakdown(Scenario(model, platform, CHAT, plan)),
    )
    assert float(rows.ttft.sum()) == pytest.approx(float(result.ttft), rel=1e-5)
    assert float(rows.tpot.sum()) == pytest.approx(float(result.tpot), rel=1e-5)
    bound = estimate(Scenario(model, fitted_cluster(None), CHAT, plan))
    assert result.ttft > bound.ttft  # kernels are slower than the peaks
    assert result.tpot > bound.tpot


def test_gradients_of_fitted_kernels_agree_with_differences(llama_8b, double):
    platform = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), fitted_cluster())
    model = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), llama_8b)

    @jax.jit
    def logarithm(log_scale):
        accelerator = platform.accelerator
        numbers = {name: getattr(accelerator, name) * jnp.exp(x) for name, x in log_scale.items()}
        moved = platform.replace(accelerator=dataclasses.replace(accelerator, **numbers))
        return jnp.log(estimate(Scenario(model, moved, CHAT, Parallelism(4))).end_to_end)

    names = ("memory_bandwidth", "launch_latency", "compute_units")
    zero = dict.fromkeys(names, jnp.zeros(()))
    slopes = jax.jit(jax.grad(logarithm))(zero)
    for name in names:
        ahead, behind = (
            float(logarithm(zero | {name: jnp.asarray(step)})) for step in (1e-5, -1e-5)
        )
        assert float(slopes[name]) == pytest.approx((ahead - behind) / 2e-5, rel=1e-5, abs=1e-9)
