"""The deployment search agrees with single estimates and brute force; it says what would fit."""

import dataclasses
import math

import numpy as np
import pytest
from search_cases import LLAMA, MIXTRAL, SHORT, SMALL, WORK, assert_row_is_its_estimate
from support import make_cluster

from diffgenz import (
    METRICS,
    InputError,
    NoSolution,
    Precision,
    Scenario,
    Serving,
    estimate,
    load_model,
    load_platform,
    search,
)
from diffgenz.studies.search.formats import slower_formats
from diffgenz.studies.search.search import knee


@pytest.fixture(scope="module")
def found():
    case = Scenario(load_model(MIXTRAL), make_cluster(8), WORK)
    return search(case, tpot=0.02, batches=[1, 8, 100, 4096], any_layout=True)


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
    assert (row["batch"], row["chunk"]) == (100, 8192)
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


def test_rows_are_timed_as_estimates_are():
    """By fitted kernels where the platform has them, and by bounds where it has none."""
    model = load_model(SMALL)
    rows = {}
    for fit in ("vllm", "none"):
        case = Scenario(model, load_platform("h100_sxm", 4, fit=fit), WORK)
        found = search(case, batches=[1, 64])
        for deployment in found.best(3):
            assert_row_is_its_estimate(deployment)
        rows[fit] = found.deployments[0]
    assert rows["vllm"].metrics["tpot"] > rows["none"].metrics["tpot"]
    assert set(rows["none"].kernels.values()) == {"roofline"}
    assert rows["vllm"].kernels["decode bf16"].startswith("vllm")


@pytest.fixture(scope="module")
def chunked():
    case = Scenario(load_model(LLAMA), make_cluster(8), WORK, serving=Serving(mixed=True))
    return search(case, tpot=0.02, batches=[1, 100], chunks=[None, 128, 1024])


def test_chunks_are_one_more_choice(chunked):
    """Whole prompts are as without chunks, rows with chunks as single estimates.

    The target holds while prompts stream in.
    """
    case = Scenario(load_model(LLAMA), make_cluster(8), WORK)
    whole = search(case, tpot=0.02, batches=[1, 100], chunks=[None])
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


def test_another_order_and_further_conditions(found):
    case = Scenario(load_model(MIXTRAL), make_cluster(8), WORK)
    asked = {"tpot": 0.02, "batches": [1, 8, 100, 4096], "any_layout": True}
    where = ("tensor <= 2", "memory.total <= 60e9")
    chosen = search(case, **asked, sort="ttft", where=where).deployments
    times = [d.metrics["ttft"] for d in chosen]
    assert times == sorted(times)
    expected = [
        d for d in found.deployments if d.plan["tensor"] <= 2 and d.metrics["memory.total"] <= 60e9
    ]
    assert 0 < len(chosen) == len(expected) < len(found.deployments)
    with pytest.raises(NoSolution, match="none where batch > 5000; loosen a condition"):
        search(case, **asked, where=("batch > 5000",))
    for changes, message in (
        ({"sort": "tpto"}, "sort: 'tpto' is not known; did you mean tpot"),
        ({"sort": "mixed_tpot"}, "sort: mixed_tpot needs mixed iterations"),
        ({"where": ("tensr <= 2",)}, "where: 'tensr' is not known; did you mean tensor"),
        ({"where": ("tensor",)}, "where: 'tensor' is a number"),
    ):
        with pytest.raises(InputError, match=message):
            search(case, **asked, **changes)


def test_what_becomes_of_the_best_at_a_larger_batch():
    case = Scenario(load_model(MIXTRAL), make_cluster(8), WORK)
    asked = {"tpot": 0.02, "batches": [100, 4096], "where": ("batch <= 100",)}
    found = search(case, **asked, precisions=[Precision()])
    best = found.deployments[0]
    larger = estimate(best.scenario.replace(workload=WORK.replace(batch=4096)))
    assert found.next_batch.startswith("with 4096 requests ")
    if not bool(larger.memory.fits):
        assert "it does not fit" in found.next_batch
    elif float(larger.tpot) > 0.02:
        assert f"TPOT is {float(larger.tpot) * 1e3:.3g} ms" in found.next_batch
    else:
        reached = f"{float(larger.tokens_per_second_per_accelerator):,.0f} tok/s/GPU"
        assert found.next_batch.endswith(f"it reaches {reached}")


def test_the_knee_of_a_front_by_hand(found):
    """Of a front that is nearly a corner, the corner."""

    def at(user, accelerator):
        speeds = {"user": float(user), "accelerator": float(accelerator)}
        metrics = {f"tokens_per_second_per_{who}": speed for who, speed in speeds.items()}
        return dataclasses.replace(found.deployments[0], metrics=metrics)

    front = [at(100, 10), at(90, 900), at(20, 950), at(10, 1000)]
    assert knee(front) is front[1]
    assert knee(front[:2]) is None
    assert knee([at(3, 1), at(2, 1.5), at(1, 3)]) is None


def test_progress_is_told():
    told = []
    case = Scenario(load_model(SMALL), make_cluster(2), SHORT)
    size = search(case, batches=[1], progress=lambda *pair: told.append(pair)).tried
    assert told[0] == (0, size)
    assert told[-1] == (size, size)


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


def test_the_chunk_of_the_question_is_tried():
    case = Scenario(load_model(LLAMA), make_cluster(1), SHORT, serving=Serving(chunk=64))
    found = search(case, batches=[1], precisions=[Precision()])
    assert {deployment.chunk for deployment in found.deployments} == {64}


def test_only_plans_of_all_accelerators_are_tried(found):
    assert {
        int(np.prod([d.plan[name] for name in d.plan if name != "expert"]))
        for d in found.deployments
    } == {8}


def test_only_what_an_engine_accepts_is_tried_unless_asked_for(found):
    """Mixtral's experts are on some of the ranks (SGLang) or all; its sequences on one."""
    case = Scenario(load_model(MIXTRAL), make_cluster(8), WORK)
    accepted = search(case, batches=[8], precisions=[Precision()])
    every = search(case, batches=[8], precisions=[Precision()], any_layout=True)
    assert all(d.plan["context"] == 1 for d in accepted.deployments)
    layouts = {d.layout for d in every.deployments if d.plan["context"] == 1}
    assert {d.layout for d in accepted.deployments} == layouts
    assert accepted.tried < every.tried


def test_where_no_engine_accepts_anything_it_says_why():
    case = Scenario(load_model("Qwen/Qwen3-235B-A22B"), make_cluster(8), SHORT)
    blocks = Precision("bf16", "fp8_block", "fp8")
    found = search(case, batches=[1], precisions=[blocks])
    cut = [d.plan for d in found.deployments if d.plan["tensor"] / d.plan["expert"] == 8]
    assert cut == []  # 1536 / 8 = 192
    narrow = Scenario(load_model(SMALL), make_cluster(3), SHORT)  # 14 heads
    assert {d.plan["tensor"] for d in search(narrow, batches=[1]).deployments} == {1}


def test_a_quantised_checkpoint_is_searched_as_it_is():
    model = load_model("openai/gpt-oss-20b")
    case = Scenario(model, load_platform("h100_sxm", 1), SHORT)
    found = search(case, batches=[1])
    assert {d.precision.weights for d in found.deployments} == {"mxfp4"}
    assert {d.precision.modules_named["attention"] for d in found.deployments} == {"bf16"}
    assert found.notes[0].startswith("the checkpoint is in mxfp4 (mxfp4), which is what is tried")
    assert_row_is_its_estimate(found.deployments[0])


def test_a_narrower_format_that_is_slower_is_noted(found):
    """By hand: int4 at 10 against bf16 at 20, and fp8 at 30, which nothing wider beats."""

    def at(weights, activations, value):
        precision = Precision("bf16", weights, activations)
        metrics = {"tokens_per_second_per_accelerator": value}
        first = found.deployments[0]
        return dataclasses.replace(first, precision=precision, metrics=metrics)

    rows = [
        at("fp8", "fp8", 30.0),
        at("bf16", "bf16", 20.0),
        at("int4", "bf16", 10.0),
        at("bf16", "bf16", 5.0),
    ]
    (note,) = slower_formats(rows, "tokens_per_second_per_accelerator")
    assert note.startswith(
        "int4/bf16 is worse than fp8 here, though narrower: at best 10 against 30"
    )
    assert slower_formats(rows[:2], "tokens_per_second_per_accelerator") == ()
