"""How sure an estimate is."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from fit_cases import values_of
from support import CHIP, FABRIC, NODE

from diffgenz import InputError, Parallelism, Scenario, Workload, estimate, load_platform
from diffgenz.hardware.platform import Accelerator, Level, Platform
from diffgenz.inference.uncertainty import by_delta, by_samples
from diffgenz.kernels.families import FAMILIES
from diffgenz.kernels.fits import KernelFit, write_fits
from diffgenz.kernels.forms.gemm import Gemm
from diffgenz.kernels.library import Library

LIBRARY = Library({family: {"bf16": form()} for family, form in FAMILIES.items()})


def fitted_cluster(library=LIBRARY):
    return Platform(
        Accelerator(**CHIP, compute_units=100.0, kernels=library),
        (Level(**NODE), Level(**FABRIC)),
        64,
    )


CHAT = Workload(batch=12, input_tokens=700, output_tokens=90)


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
    library = Library({"gemm": {"bf16": Gemm()}, "decode": {"bf16": FAMILIES["decode"]()}})

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


def with_few_kernels(path, fit):
    """An H100 with `fit` and one more: each kernel's parameters take seconds to compile."""
    write_fits(path, "h100_sxm", [fit], "a test")
    platform = load_platform("h100_sxm", fit=path)
    kernels = platform.accelerator.kernels
    few = Library(
        {family: kernels.forms[family] for family in (fit.family, "decode")}, kernels.origin
    )
    return platform.replace(accelerator=platform.accelerator.replace(kernels=few))


def test_an_estimate_says_how_sure_it_is(found, tmp_path, llama_8b):
    platform = with_few_kernels(tmp_path / "fit.toml", found)
    result = estimate(Scenario(llama_8b, platform, CHAT, Parallelism(), uncertainty=True))
    assert result.ttft == estimate(Scenario(llama_8b, platform, CHAT, Parallelism())).ttft
    assert 0.02 < float(result.deviation.tpot / result.tpot) < 0.2
    assert float(result.deviation.memory.total) == 0
    with pytest.raises(InputError, match="uncertainty: the kernels of .* are not fitted"):
        estimate(
            Scenario(
                llama_8b,
                load_platform("h100_sxm", fit="none"),
                CHAT,
                Parallelism(),
                uncertainty=True,
            )
        )
