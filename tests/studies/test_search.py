"""The deployment search agrees with single estimates and brute force; it says what would fit."""

import math

import numpy as np
import pytest
from support import CHIP, NODE, make_cluster

import diffgenz as dgz
from diffgenz import (
    METRICS,
    InputError,
    NoSolution,
    Precision,
    Scenario,
    Serving,
    Speculation,
    Workload,
    estimate,
    load_model,
    load_platform,
    search,
)
from diffgenz.inference.metrics import metrics_of

LLAMA = "meta-llama/Llama-3.1-8B"
MIXTRAL = "mistralai/Mixtral-8x7B-v0.1"
SMALL = "Qwen/Qwen2.5-0.5B"
WORK = Workload(1, 600, 60)
SHORT = Workload(1, 100, 10)


def assert_row_is_its_estimate(deployment, rtol: float = 1e-5) -> None:
    """All metrics of a row, and no others, are those of its scenario."""
    single = metrics_of(estimate(deployment.scenario))
    there = {name for name, value in deployment.metrics.items() if value is not None}
    assert there == single.keys() <= METRICS.keys() == deployment.metrics.keys()
    for name, value in single.items():
        assert float(value) == pytest.approx(deployment.metrics[name], rel=rtol), name


@pytest.fixture(scope="module")
def found():
    case = Scenario(load_model(MIXTRAL), make_cluster(8), WORK)
    return search(case, tpot=0.02, batches=[1, 8, 100, 4096])


def test_rows_are_single_estimates(found):
    rows = found.deployments
    picked = [
        rows[0],
        rows[len(rows) // 2],
        rows[-1],
        next(d for d in rows if d.precision.weights == "int4"),
        next(d for d in rows if d.plan["attention_data"] > 1),
        next(d for d in rows if d.plan["context"] > 1 and d.plan["expert"] == 8),
    ]
    for deployment in picked:
        assert_row_is_its_estimate(deployment)


def test_a_row_is_a_scenario_of_the_question(found):
    deployment = next(d for d in found.deployments if d.plan["expert"] == 8 and d.batch == 100)
    case = deployment.scenario
    assert case.model is deployment.question.model
    assert float(case.workload.batch) == 100
    assert float(case.workload.input_tokens) == 600
    assert case.precision is deployment.precision
    assert {name: float(getattr(case.plan, name) or 1) for name in deployment.plan} == (
        deployment.plan
    )
    row = deployment.as_dict()
    assert {name: row[name] for name in deployment.plan} == deployment.plan
    assert (row["batch"], row["chunk"]) == (100, None)
    assert row["weights"] == deployment.precision.weights
    assert {name: row[name] for name in METRICS} == deployment.metrics


def test_what_is_found_meets_the_targets_and_is_ranked(found):
    metrics = [d.metrics for d in found.deployments]
    rates = [each["tokens_per_second_per_accelerator"] for each in metrics]
    assert rates == sorted(rates, reverse=True)
    assert all(each["tpot"] <= 0.02 and each["memory.total"] <= 100e9 for each in metrics)
    assert len(found.deployments) < found.fitting < found.tried
    best = found.best(7)
    assert len({d.layout for d in best}) == 7
    assert best[0] == found.deployments[0]


def test_the_front_is_that_of_brute_force(found):
    names = ("tokens_per_second_per_user", "tokens_per_second_per_accelerator")

    def speeds(deployments):
        return [tuple(d.metrics[name] for name in names) for d in deployments]

    points = speeds(found.deployments)

    def beaten(point):
        return any(
            other != point and other[0] >= point[0] and other[1] >= point[1] for other in points
        )

    assert set(speeds(found.pareto())) == {point for point in points if not beaten(point)}


@pytest.mark.parametrize("fit", ["none", "default"])
def test_a_row_goes_back_into_estimate(fit):
    """Without fits the estimate is the row. With fits the scenario has them, the row has bounds."""
    platform = load_platform("h100_sxm", 4, **({"fit": "none"} if fit == "none" else {}))
    best = search(Scenario(load_model(SMALL), platform, WORK), batches=[1, 64]).best(2)
    if fit == "none":
        for deployment in best:
            assert_row_is_its_estimate(deployment)
    else:
        bounds = load_platform("h100_sxm", 4, fit="none")
        assert best[0].scenario.platform.accelerator.kernels is not None
        again = search(Scenario(load_model(SMALL), bounds, WORK), batches=[1, 64]).best(2)
        assert [d.metrics for d in best] == [d.metrics for d in again]
        fitted = estimate(best[0].scenario)
        assert float(fitted.tpot) > best[0].metrics["tpot"]


@pytest.fixture(scope="module")
def chunked():
    case = Scenario(load_model(LLAMA), make_cluster(8), WORK)
    return search(case, tpot=0.02, batches=[1, 100], chunks=[None, 128, 1024])


def test_chunks_are_one_more_choice(chunked):
    """Whole prompts are as without chunks, rows with chunks as single estimates.

    The target holds while prompts stream in.
    """
    case = Scenario(load_model(LLAMA), make_cluster(8), WORK)
    whole = search(case, tpot=0.02, batches=[1, 100])
    assert chunked.tried == 3 * whole.tried

    def times(deployments):
        return {
            (d.layout, d.batch): (d.metrics["ttft"], d.metrics["tpot"])
            for d in deployments
            if d.chunk is None
        }

    expected = {
        which: pytest.approx(pair, rel=1e-5) for which, pair in times(whole.deployments).items()
    }
    assert times(chunked.deployments) == expected
    assert all(d.metrics["mixed_tpot"] is None for d in chunked.deployments if d.chunk is None)
    pieces = [d for d in chunked.deployments if d.chunk is not None]
    assert {d.chunk for d in pieces} == {128, 1024}
    assert all(d.metrics["tpot"] < d.metrics["mixed_tpot"] <= 0.02 for d in pieces)
    for deployment in (pieces[0], pieces[len(pieces) // 2], pieces[-1]):
        assert float(deployment.scenario.serving.chunk) == deployment.chunk
        assert_row_is_its_estimate(deployment)


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
    assert len(found.deployments) == found.tried == 4 * 2 * 3
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


@pytest.mark.slow
def test_bounds_time_a_draft_on_accelerators_of_its_own_too():
    """Of a fitted platform as of one without fits."""
    small = load_model(SMALL)

    def best(fit):
        options = {} if fit else {"fit": "none"}
        platform = load_platform("h100_sxm", 2, **options)
        draft = dgz.Draft(small, platform=platform.replace(accelerators=1))
        drafting = Serving(speculation=Speculation(3, 0.7, draft))
        case = Scenario(load_model(LLAMA), platform, WORK, serving=drafting)
        return search(case, batches=[8], precisions=[Precision()]).deployments[0]

    assert best(fit=True).metrics == best(fit=False).metrics


def test_nothing_fits_says_what_would():
    large = Scenario(load_model("meta-llama/Llama-3.1-405B"), make_cluster(2), SHORT)
    with pytest.raises(NoSolution, match=r"nothing fits: .*; (\d+) would hold it \(weights fp8"):
        search(large)
    small = Scenario(load_model(LLAMA), make_cluster(1), SHORT)
    with pytest.raises(
        NoSolution, match="none meets the targets: the lowest tpot is .* ms, 0.001 was asked for"
    ):
        search(small, tpot=1e-6, batches=[1, 2])
    with pytest.raises(
        NoSolution, match=r"the lowest ttft is .* ms at a tpot of 100 ms, 0.001 was asked for"
    ):
        search(small, ttft=1e-6, tpot=0.1, batches=[1, 2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ttft": 0.0}, "ttft: 0.0"),
        ({"tpot": math.nan}, "tpot: nan"),
        ({"batches": []}, "batches: none"),
        ({"batches": [1.5]}, "batches: 1.5 is not a whole number"),
        ({"chunks": []}, "chunks: none"),
        ({"chunks": [None, 0]}, "chunks: 0 is not allowed.*None for whole prompts"),
        ({"chunks": [10.5]}, "chunks: 10.5 is not a whole number"),
    ],
)
def test_bad_questions_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        search(Scenario(load_model(LLAMA), make_cluster(1), SHORT), **changes)


def test_a_question_with_a_chunk_is_refused():
    case = Scenario(load_model(LLAMA), make_cluster(1), SHORT, serving=Serving(chunk=64))
    with pytest.raises(InputError, match="serving: a chunk of 64 is not allowed here; give it in"):
        search(case)


def test_only_plans_of_all_accelerators_are_tried(found):
    assert {
        int(np.prod([d.plan[name] for name in d.plan if name != "expert"]))
        for d in found.deployments
    } == {8}
