"""What compiled programs are keyed by: names and unused formats are not part of it."""

import jax
import pytest
from support import CHIP, assert_close

import diffgenz as dgz
from diffgenz import (
    Draft,
    InputError,
    Parallelism,
    Precision,
    Scenario,
    Serving,
    Speculation,
    estimate,
    load_model,
    load_platform,
)
from diffgenz.inference.resolved import resolved
from diffgenz.operators.layer_format import DTYPE, LINEAR

FP8 = Precision(weights="fp8", activations="fp8")


def structure(case):
    return jax.tree.structure(resolved(case))


def test_models_of_one_family_share_a_program(llama_8b, llama_70b, cluster):
    small, large = (Scenario(model, cluster, plan=Parallelism()) for model in (llama_8b, llama_70b))
    assert jax.tree.structure(small) != jax.tree.structure(large)
    assert structure(small) == structure(large)


def test_accelerators_and_formats_share_a_program(llama_8b):
    """H100 and B200 state other formats, and other names; neither matters to an estimate."""
    cases = [
        Scenario(llama_8b, load_platform(system, 8, fit="none"))
        for system in ("h100_sxm", "b200_sxm")
    ]
    cases += [case.replace(precision=Precision(kv_cache="fp8")) for case in cases]
    assert len({structure(case) for case in cases}) == 1
    narrow = [case.replace(precision=FP8) for case in cases]
    assert len({structure(case) for case in narrow}) == 1
    assert structure(narrow[0]) != structure(cases[0])  # another peak


def test_what_the_formats_select(llama_8b):
    case = Scenario(llama_8b, load_platform("h100_sxm", 8, fit="trtllm"), precision=FP8)
    library, accelerator = case.platform.accelerator.kernels, case.platform.accelerator
    found = resolved(case)
    assert found.execution.linear == accelerator.peak_flops["fp8"]
    assert found.execution.wide == accelerator.peak_flops["bf16"]
    assert found.execution.kernels["gemm", LINEAR] is library.forms["gemm"]["fp8"]
    assert found.execution.kernels["gemm", DTYPE] is library.forms["gemm"]["bf16"]
    assert found.execution.collectives["all_reduce"] is library.form("all_reduce", "bf16")
    assert found.draft is None
    assert found.case.platform.accelerator.peak_flops == {}
    assert set(found.case.precision.names.values()) == {""}
    with pytest.raises(InputError, match="has no nvfp4 arithmetic"):
        case.replace(precision=Precision(weights="nvfp4", activations="nvfp4"))


def test_a_draft_model_selects_for_itself(llama_8b, cluster):
    draft = Draft(load_model("meta-llama/Llama-3.2-1B"), 1, FP8)
    case = Scenario(llama_8b, cluster, plan=Parallelism())
    drafting = case.replace(serving=Serving(speculation=Speculation(3, 0.6, draft)))
    found = resolved(drafting)
    assert (found.execution.linear, float(found.draft.linear)) == (None, pytest.approx(2e15))
    assert found.case.serving.draft.model.name == ""
    fast = dgz.Platform(dgz.Accelerator(**CHIP | {"peak_flops": {"fp8": 9e15, "bf16": 1e15}}))
    apart = drafting.replace(
        serving=Serving(speculation=Speculation(3, 0.6, draft.replace(platform=fast)))
    )
    assert float(resolved(apart).draft.linear) == pytest.approx(9e15)
    assert resolved(apart).case.serving.draft.platform.accelerator.peak_flops == {}


def test_a_spelled_out_peak_changes_nothing(llama_8b, cluster):
    case = Scenario(llama_8b, cluster, plan=Parallelism(4))
    execution = resolved(case).execution
    assert float(execution.explicit.linear) == pytest.approx(1e15)
    named = case.replace(model=llama_8b.replace(name="another"))
    assert_close(estimate(named), estimate(case), rtol=0)
