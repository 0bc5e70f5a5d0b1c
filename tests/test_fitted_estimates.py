"""Estimates with fitted kernels: breakdowns, gradients, uncertainty."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fit_cases import values_of, with_few_kernels
from support import CHIP, FABRIC, NODE

from diffgenz import (
    InputError,
    Parallelism,
    Scenario,
    Workload,
    breakdown,
    deviations,
    estimate,
    load_platform,
)
from diffgenz.hardware.accelerator import Accelerator
from diffgenz.hardware.network import Level
from diffgenz.hardware.platform import Platform
from diffgenz.inference.uncertainty import by_delta, by_samples
from diffgenz.kernels.families import FAMILIES
from diffgenz.kernels.fits import KernelFit
from diffgenz.kernels.forms.gemm import Gemm
from diffgenz.kernels.library import Library

LIBRARY = Library({family.name: {"bf16": family.form()} for family in FAMILIES.values()})


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
    case = Scenario(model, fitted_cluster(), CHAT, Parallelism(4))
    result, rows = estimate(case), breakdown(case)
    assert float(rows.ttft.sum()) == pytest.approx(float(result.ttft), rel=1e-5)
    assert float(rows.tpot.sum()) == pytest.approx(float(result.tpot), rel=1e-5)
    bound = estimate(case.replace(platform=fitted_cluster(None)))
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


def fits_for(library):
    def one(family, form):
        size = len(form.priors())
        return KernelFit(
            family,
            "bf16",
            "vllm-1.0",
            "one",
            type(form),
            values_of(form),
            0.01 * np.eye(size),
            {},
            0.1,
            100,
            {},
            "",
            0.1,
            0.1,
            25,
            0.8,
        )

    return [one(family, forms["bf16"]) for family, forms in library.forms.items()]


def test_deviations_to_first_order_are_those_of_samples(llama_8b):
    library = Library({"gemm": {"bf16": Gemm()}, "decode": {"bf16": FAMILIES["decode"].form()}})

    def times(kernels):
        case = Scenario(llama_8b, fitted_cluster(kernels), CHAT, Parallelism(4))
        result = estimate(case)
        return {"ttft": jnp.log(result.ttft), "tpot": jnp.log(result.tpot)}

    fits = fits_for(library)
    delta, sampled = by_delta(times, library, fits), by_samples(times, library, fits, 600)
    for name in delta:
        assert float(delta[name]) == pytest.approx(float(sampled[name]), rel=0.12)
        assert 0.02 < float(delta[name]) < 0.3
    wider = [dataclasses.replace(each, scatter=0.3) for each in fits]
    assert float(by_delta(times, library, wider)["tpot"]) > float(delta["tpot"])


def test_an_estimate_says_how_sure_it_is(found, tmp_path, llama_8b):
    case = Scenario(llama_8b, with_few_kernels(tmp_path / "fit.toml", found), CHAT, Parallelism())
    result, deviation = estimate(case), deviations(case)
    assert 0.02 < float(deviation.tpot / result.tpot) < 0.2
    assert float(deviation.memory.total) == 0
    with pytest.raises(InputError, match="deviations: the kernels of .* are not fitted"):
        deviations(case.replace(platform=load_platform("h100_sxm", fit="none")))
