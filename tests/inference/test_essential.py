"""What a scenario is without labels and formats that are not in use; other names stay."""

import jax
import pytest
from support import assert_close, make_cluster

from diffgenz import (
    Draft,
    Parallelism,
    Precision,
    Scenario,
    Serving,
    Speculation,
    estimate,
    load_model,
    load_platform,
)
from diffgenz.core.record import unnamed
from diffgenz.inference.essential import essential


def structure(case):
    return jax.tree.structure(essential(case))


def test_models_of_one_family_share_a_program(llama_8b, llama_70b, cluster):
    small, large = (Scenario(model, cluster, plan=Parallelism()) for model in (llama_8b, llama_70b))
    assert jax.tree.structure(small) != jax.tree.structure(large)
    assert structure(small) == structure(large)
    assert essential(small).model.name == ""


def test_accelerators_of_one_kind_share_a_program(llama_8b):
    """H100 and B200 state other formats, and other names; neither matters to a bf16 estimate."""
    cases = [
        Scenario(llama_8b, load_platform(system, 8, fit="none"))
        for system in ("h100_sxm", "b200_sxm")
    ]
    assert structure(cases[0]) == structure(cases[1])
    assert set(essential(cases[0]).platform.accelerator.peak_flops) == {"bf16"}


def test_fitted_kernels_of_formats_in_use_are_kept(llama_8b):
    case = Scenario(llama_8b, load_platform("h100_sxm", 8))
    forms = case.platform.accelerator.kernels.forms["gemm"]
    kept = essential(case).platform.accelerator.kernels.forms["gemm"]
    assert set(kept) == {"bf16"} < set(forms)
    narrow = case.replace(precision=Precision(weights="fp8", activations="fp8"))
    assert set(essential(narrow).platform.accelerator.kernels.forms["gemm"]) == {"bf16", "fp8"}


def test_the_formats_of_a_draft_model_are_in_use(llama_8b, cluster):
    draft = Draft(
        load_model("meta-llama/Llama-3.2-1B"), 1, Precision(weights="fp8", activations="fp8")
    )
    serving = Serving(speculation=Speculation(3, 0.6, draft))
    case = Scenario(llama_8b, cluster, plan=Parallelism(), serving=serving)
    assert set(essential(case).platform.accelerator.peak_flops) == {"bf16", "fp8"}
    assert essential(case).serving.draft.model.name == ""
    own = draft.replace(platform=make_cluster(1))
    apart = case.replace(serving=Serving(speculation=Speculation(3, 0.6, own)))
    assert set(essential(apart).platform.accelerator.peak_flops) == {"bf16"}
    assert set(essential(apart).serving.draft.platform.accelerator.peak_flops) == {"bf16", "fp8"}


@pytest.mark.parametrize("changed", [{"weights": "fp8"}, {"kv_cache": "gear-int4"}])
def test_other_formats_are_another_program(changed, llama_8b, cluster):
    plain = Scenario(llama_8b, cluster, plan=Parallelism())
    assert structure(plain) != structure(plain.replace(precision=Precision(**changed)))


def test_nothing_else_changes(llama_8b, cluster):
    case = Scenario(llama_8b, cluster, plan=Parallelism(4))
    assert_close(jax.tree.leaves(unnamed(case)), jax.tree.leaves(case), rtol=0)
    named = case.replace(model=llama_8b.replace(name="another"))
    assert_close(estimate(named), estimate(case), rtol=0)
