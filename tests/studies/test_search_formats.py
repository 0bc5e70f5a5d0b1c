"""`search` over formats: which are tried, and which are ranked together."""

import pytest
from search_cases import LLAMA, SHORT, SMALL, WORK, assert_row_is_its_estimate
from support import CHIP, NODE, fitted_cluster, make_cluster

import diffgenz as dgz
from diffgenz import (
    NoSolution,
    Precision,
    Scenario,
    Serving,
    Speculation,
    load_model,
    load_platform,
    search,
)
from diffgenz.kernels.families import FAMILIES
from diffgenz.kernels.library import Library


def test_formats_are_those_the_accelerator_multiplies():
    model = load_model(LLAMA)

    def tried(system, precision, part):
        case = Scenario(model, load_platform(system, 2), SHORT, precision=precision)
        return {d.precision.names[part] for d in search(case, batches=[1]).deployments}

    assert tried("a100_sxm", None, "activations") == {"bf16"}
    assert tried("v100_sxm", Precision("fp16"), "activations") == {"fp16"}  # has no bf16
    assert tried("b200_sxm", None, "weights") == {"bf16", "int4", "fp8", "nvfp4"}


def test_formats_of_several_structures_are_searched_together():
    """A cache that GEAR compresses and one that it does not are two programs."""
    case = Scenario(load_model(LLAMA), make_cluster(2), SHORT)
    formats = (Precision(), Precision(kv_cache="gear-int4"), Precision(weights="fp8"))
    found = search(case, batches=[1, 64], precisions=formats)
    assert len(found.deployments) == found.tried == 3 * 2 * 3  # tp, pp or dp 2
    one = {
        (d.precision.names["weights"], d.precision.names["kv_cache"]): d
        for d in found.deployments
        if (d.plan["tensor"], d.plan["data"], d.batch) == (1, 2, 64)
    }
    plain, compressed, narrow = (
        one[names] for names in (("bf16", "bf16"), ("bf16", "gear-int4"), ("fp8", "bf16"))
    )
    memory = [d.metrics["memory.total"] for d in (narrow, compressed, plain)]
    assert memory == sorted(memory)
    for deployment in (plain, compressed, narrow):
        assert_row_is_its_estimate(deployment)


@pytest.mark.parametrize(
    "own",
    [
        pytest.param(False, id="same accelerators"),
        pytest.param(True, id="its own", marks=pytest.mark.slow),
    ],
)
def test_a_draft_keeps_its_formats_and_its_ranks(own):
    """Also where the search tries formats of other peaks, and on an accelerator without bf16."""
    peaks = {"fp16": 1e15, "fp8": 2e15, "int8": 3e15}
    chip = dgz.Accelerator(**CHIP | {"peak_flops": peaks})
    platform = dgz.Platform(chip, (dgz.Level(**NODE),), 4)
    small = load_model(SMALL)
    draft = dgz.Draft(small, 2, Precision("fp16", "fp8", "fp8"), platform if own else None)
    drafting = Serving(speculation=Speculation(3, 0.7, draft))
    case = Scenario(small, platform, WORK, precision=Precision("fp16"), serving=drafting)
    choices = (Precision("fp16"), Precision("fp16", "int8", "int8"), Precision("fp16", "fp8"))
    found = search(case, batches=[1, 64], precisions=choices)
    layouts = [d.plan for d in found.deployments]
    enough = [plan["tensor"] * plan["context"] * plan["pipeline"] >= 2 for plan in layouts]
    assert all(enough) != own  # a draft with accelerators of its own leaves all plans possible
    seen = {}
    for deployment in found.deployments:
        seen.setdefault(deployment.precision.summary, deployment)
    assert len(seen) == 3
    for deployment in seen.values():
        assert_row_is_its_estimate(deployment)


@pytest.fixture(scope="module")
def half_measured():
    """A cluster whose kernels are fitted in bf16 alone: nothing stands in for fp8."""
    families = ("gemm", "prefill", "decode", "elementwise")
    forms = {name: {"bf16": FAMILIES[name].form()} for name in families}
    return fitted_cluster(Library(forms)).replace(accelerators=2)


def test_formats_without_measured_kernels_are_not_ranked_with_the_others(half_measured):
    """Bounds are faster than measured kernels: fp8 would win for want of a measurement."""
    model, formats = load_model(LLAMA), (Precision(), Precision(weights="fp8", activations="fp8"))
    case = Scenario(model, half_measured, SHORT)
    found = search(case, batches=[1, 64], precisions=formats)
    assert {d.precision.weights for d in found.deployments} == {"bf16"}
    assert {d.precision.weights for d in found.apart} == {"fp8"}
    assert len(found.deployments) == len(found.apart)
    assert found.kernels["fp8"]["gemm fp8"] == "roofline"
    assert found.kernels["bf16"]["gemm bf16"] == "by hand"
    for deployment in (found.deployments[0], found.apart[0]):
        assert_row_is_its_estimate(deployment)
    alone = search(case, batches=[1, 64], precisions=formats[1:])  # nothing else to rank it with
    assert [d.metrics for d in alone.deployments] == [d.metrics for d in found.apart]
    fastest = min(d.metrics["tpot"] for d in found.deployments)
    with pytest.raises(NoSolution, match="only deployments in formats without measured kernels"):
        search(case, batches=[1], precisions=formats, tpot=0.9 * fastest)
