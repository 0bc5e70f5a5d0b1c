"""How sure an estimate is."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from fit_cases import values_of, with_few_kernels
from support import fitted_cluster

from diffgenz import (
    InputError,
    Parallelism,
    Scenario,
    Workload,
    deviations,
    estimate,
    load_platform,
)
from diffgenz.inference.uncertainty import by_delta, by_samples
from diffgenz.kernels.fits import KernelFit
from diffgenz.kernels.forms.attention_decode import Decode
from diffgenz.kernels.forms.gemm import Gemm
from diffgenz.kernels.library import Library

CHAT = Workload(batch=12, input_tokens=700, output_tokens=90)


def fits_for(library):
    def one(family, form):
        size = len(form.priors())
        return KernelFit(
            family,
            format="bf16",
            source="vllm-1.0",
            kernel="one",
            form=type(form),
            values=values_of(form),
            covariance=0.01 * np.eye(size),
            learned={},
            scatter=0.1,
            rows=100,
            dropped={},
            data="",
            mean_error=0.1,
            median_error=0.1,
            held_out=25,
            coverage=0.8,
        )

    return [one(family, forms["bf16"]) for family, forms in library.forms.items()]


def test_deviations_to_first_order_are_those_of_samples(llama_8b):
    library = Library({"gemm": {"bf16": Gemm()}, "decode": {"bf16": Decode()}})

    def times(kernels):
        result = estimate(Scenario(llama_8b, fitted_cluster(kernels), CHAT, Parallelism(4)))
        return {"ttft": jnp.log(result.ttft), "tpot": jnp.log(result.tpot)}

    fits = fits_for(library)
    delta, sampled = by_delta(times, library, fits), by_samples(times, library, fits, 600)
    for name in delta:
        assert float(delta[name]) == pytest.approx(float(sampled[name]), rel=0.12)
        assert 0.02 < float(delta[name]) < 0.3
    wider = [dataclasses.replace(each, scatter=0.3) for each in fits]
    assert float(by_delta(times, library, wider)["tpot"]) > float(delta["tpot"])


def test_an_estimate_says_how_sure_it_is(found, tmp_path, llama_8b):
    case = Scenario(llama_8b, with_few_kernels(tmp_path / "fit.toml", found), CHAT)
    result, sure = estimate(case), deviations(case)
    assert 0.02 < float(sure.tpot / result.tpot) < 0.2
    assert float(sure.memory.total) == 0
    sampled = deviations(case, samples=400)
    assert float(sampled.tpot) == pytest.approx(float(sure.tpot), rel=0.2)
    with pytest.raises(InputError, match="deviations: the kernels of .* are not fitted; load"):
        deviations(case.replace(platform=load_platform("h100_sxm", fit="none")))
