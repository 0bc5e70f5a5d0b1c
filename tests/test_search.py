"""The deployment search: it agrees with single estimates, its front with brute force, and it says what would fit."""

import json
import math
from itertools import product

import numpy as np
import pytest
from support import make_cluster

from diffgenz import (
    InputError,
    NoSolution,
    Parallelism,
    Precision,
    Serving,
    Workload,
    estimate,
    load_model,
    load_platform,
    plans,
    search,
)
from diffgenz.studies.search.launch_command import launch_command
from diffgenz.ui.cli.main import main

LLAMA = "meta-llama/Llama-3.1-8B"
MIXTRAL = "mistralai/Mixtral-8x7B-v0.1"


@pytest.fixture(scope="module")
def found():
    return search(
        load_model(MIXTRAL),
        make_cluster(8),
        Workload(1, 600, 60),
        tpot=0.02,
        batches=[1, 8, 100, 4096],
    )


def ranks_of(every, *names):
    return set(
        zip(*(np.asarray(getattr(every, name), int).tolist() for name in names), strict=True)
    )


def test_plans_are_all_factorisations_of_the_accelerators():
    every = plans(load_model(LLAMA), make_cluster(8))
    rows = ranks_of(every, "tensor", "context", "pipeline", "data")
    powers = (1, 2, 4, 8)
    assert rows == {row for row in product(powers, repeat=4) if math.prod(row) == 8}
    sparse = plans(load_model(MIXTRAL), make_cluster(8))
    rows = ranks_of(sparse, "tensor", "context", "attention_data", "pipeline", "data", "expert")
    assert rows == {
        row
        for row in product(powers, repeat=6)
        if math.prod(row[:5]) == 8 and math.prod(row[:3]) % row[5] == 0
    }


def test_no_plan_shares_the_sequences_of_a_model_with_states():
    every = plans(load_model("state-spaces/mamba-2.8b-hf"), make_cluster(8))
    assert every.context is None
    assert ranks_of(every, "tensor", "pipeline", "data") == {
        row for row in product((1, 2, 4, 8), repeat=3) if math.prod(row) == 8
    }


def test_no_plan_has_more_stages_than_layers_or_ranks_than_heads():
    model = load_model("Qwen/Qwen2.5-0.5B")  # 14 heads, 24 layers
    every = plans(model, make_cluster(64))
    assert every.tensor.max() == 8
    assert every.pipeline.max() == 16
    assert set(np.asarray(every.ranks, int).tolist()) == {64}


def test_rows_agree_with_single_estimates(found):
    model, cluster = load_model(MIXTRAL), make_cluster(8)
    picked = [
        found.deployments[0],
        found.deployments[len(found.deployments) // 2],
        found.deployments[-1],
    ]
    picked += [
        next(d for d in found.deployments if d.weights == "int4"),
        next(d for d in found.deployments if d.attention_data > 1),
    ]
    picked += [next(d for d in found.deployments if d.context > 1 and d.expert == 8)]
    for d in picked:
        plan = Parallelism(
            d.tensor,
            d.pipeline,
            d.data,
            expert=d.expert,
            attention_data=d.attention_data,
            context=d.context,
        )
        precision = Precision("bf16", d.weights, d.activations, d.kv_cache)
        single = estimate(model, cluster, Workload(d.batch, 600, 60), plan, precision)
        for name in (
            "ttft",
            "tpot",
            "throughput",
            "tokens_per_second_per_accelerator",
            "cost_per_million_output_tokens",
        ):
            assert float(getattr(single, name)) == pytest.approx(getattr(d, name), rel=1e-5), name
        assert float(single.memory.total) == pytest.approx(d.memory, rel=1e-6)


def test_what_is_found_meets_the_targets_and_is_ranked(found):
    rates = [d.tokens_per_second_per_accelerator for d in found.deployments]
    assert rates == sorted(rates, reverse=True)
    assert all(d.tpot <= 0.02 and d.memory <= 100e9 for d in found.deployments)
    assert len(found.deployments) < found.fitting < found.tried
    best = found.best(7)
    assert len({d.layout for d in best}) == 7
    assert best[0] == found.deployments[0]


def test_the_front_is_that_of_brute_force(found):
    points = [
        (d.tokens_per_second_per_user, d.tokens_per_second_per_accelerator)
        for d in found.deployments
    ]

    def beaten(point):
        return any(
            other != point and other[0] >= point[0] and other[1] >= point[1] for other in points
        )

    front = [
        (d.tokens_per_second_per_user, d.tokens_per_second_per_accelerator) for d in found.pareto()
    ]
    assert set(front) == {point for point in points if not beaten(point)}


@pytest.fixture(scope="module")
def chunked():
    return search(
        load_model(LLAMA),
        make_cluster(8),
        Workload(1, 600, 60),
        tpot=0.02,
        batches=[1, 100],
        chunks=[None, 128, 1024],
    )


def test_chunks_are_one_more_choice(chunked):
    """Whole prompts as without chunks; rows with chunks as single estimates; the target holds while prompts stream in."""
    model, cluster, work = load_model(LLAMA), make_cluster(8), Workload(1, 600, 60)
    whole = search(model, cluster, work, tpot=0.02, batches=[1, 100])
    assert chunked.tried == 3 * whole.tried
    rows = {(d.layout, d.batch): (d.ttft, d.tpot) for d in chunked.deployments if d.chunk is None}
    assert rows == {
        (d.layout, d.batch): pytest.approx((d.ttft, d.tpot), rel=1e-5) for d in whole.deployments
    }
    assert all(d.mixed_tpot is None for d in chunked.deployments if d.chunk is None)
    pieces = [d for d in chunked.deployments if d.chunk is not None]
    assert {d.chunk for d in pieces} == {128, 1024}
    assert all(d.tpot < d.mixed_tpot <= 0.02 for d in pieces)
    for d in (pieces[0], pieces[len(pieces) // 2], pieces[-1]):
        precision = Precision("bf16", d.weights, d.activations, d.kv_cache)
        single = estimate(
            model,
            cluster,
            work.replace(batch=d.batch),
            Parallelism(d.tensor, d.pipeline, d.data, context=d.context),
            precision,
            serving=Serving(d.chunk),
        )
        found = (d.ttft, d.tpot, d.mixed_tpot, d.memory)
        assert found == pytest.approx(
            [float(x) for x in (single.ttft, single.tpot, single.mixed_tpot, single.memory.total)],
            rel=1e-5,
        )


def test_launch_commands_of_chunks(chunked):
    d = next(d for d in chunked.deployments if d.chunk is not None)._replace(
        pipeline=4, data=1, attention_data=2, batch=100, chunk=1024
    )
    assert "--max-num-batched-tokens 1037 " in launch_command(
        "vllm", LLAMA, d, 700
    )  # 1024, and 50 sequences in 4 micro-batches
    assert "--max-num-batched-tokens 4500 " in launch_command(
        "vllm", LLAMA, d._replace(batch=9000), 700
    )
    sglang = launch_command("sglang", LLAMA, d, 700)
    assert "--chunked-prefill-size 2048 --enable-mixed-chunk" in sglang
    assert "--max-prefill-tokens" not in sglang
    assert "--max-prefill-tokens 20000" in launch_command(
        "sglang", LLAMA, d._replace(chunk=20_000), 700
    )
    assert "batched" not in launch_command("vllm", LLAMA, d._replace(chunk=None), 700)


def test_formats_are_those_the_accelerator_multiplies():
    model = load_model(LLAMA)
    ampere = search(model, load_platform("a100_sxm", 2), Workload(1, 100, 10), batches=[1])
    assert {d.activations for d in ampere.deployments} == {"bf16"}
    volta = search(
        model, load_platform("v100_sxm", 2), Workload(1, 100, 10), batches=[1]
    )  # has no bf16
    assert {d.activations for d in volta.deployments} == {"fp16"}
    blackwell = search(model, load_platform("b200_sxm", 2), Workload(1, 100, 10), batches=[1])
    assert {d.weights for d in blackwell.deployments} == {"bf16", "int4", "fp8", "nvfp4"}


def test_formats_of_several_structures_are_searched_together():
    """A cache that GEAR compresses and one that it does not are two programs; rows are those of single estimates."""
    model, cluster, workload = load_model(LLAMA), make_cluster(2), Workload(1, 100, 10)
    formats = (Precision(), Precision(kv_cache="gear-int4"), Precision(weights="fp8"))
    found = search(model, cluster, workload, batches=[1, 64], precisions=formats)
    assert len(found.deployments) == found.tried == 4 * 2 * 3
    one = {
        (d.weights, d.kv_cache): d
        for d in found.deployments
        if (d.tensor, d.data, d.batch) == (1, 2, 64)
    }
    plain, compressed, narrow = (
        one[names] for names in (("bf16", "bf16"), ("bf16", "gear-int4"), ("fp8", "bf16"))
    )
    assert narrow.memory < compressed.memory < plain.memory
    single = estimate(model, cluster, workload.replace(batch=64), Parallelism(data=2), formats[1])
    assert float(single.tpot) == pytest.approx(compressed.tpot, rel=1e-5)
    assert float(single.memory.total) == pytest.approx(compressed.memory, rel=1e-6)
    with pytest.raises(InputError, match="kv_cache: vllm keeps no KV cache in gear-int4"):
        launch_command("vllm", LLAMA, compressed, 110)


def test_nothing_fits_says_what_would():
    with pytest.raises(NoSolution, match=r"nothing fits: .*; (\d+) would hold it \(weights fp8"):
        search(load_model("meta-llama/Llama-3.1-405B"), make_cluster(2), Workload(1, 100, 10))
    with pytest.raises(
        NoSolution, match="none meets the targets: the lowest tpot is .* ms, 0.001 was asked for"
    ):
        search(load_model(LLAMA), make_cluster(1), Workload(1, 100, 10), tpot=1e-6, batches=[1, 2])


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
        search(load_model(LLAMA), make_cluster(1), Workload(1, 100, 10), **changes)


def test_command_line_saves_what_export_reads(tmp_path, capsys):
    results, rows, picture = tmp_path / "found.json", tmp_path / "found.csv", tmp_path / "front.png"
    asked = [
        "search",
        LLAMA,
        "--system",
        "h100_sxm",
        "--gpus",
        "4",
        "--isl",
        "500",
        "--osl",
        "50",
        "--tpot",
        "30",
        "--batch",
        "1",
        "16",
    ]
    assert main([*asked, "--out", str(results), "--plot", str(picture)]) == 0
    assert "Pareto front" in capsys.readouterr().out
    assert main([*asked, "--out", str(rows), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(results.read_text())
    assert len(rows.read_text().splitlines()) == 1 + len(json.loads(results.read_text())["best"])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob(".*"))
    best = json.loads(results.read_text())["best"][0]
    assert main(["export", "vllm", str(results)]) == 0
    command = capsys.readouterr().out
    assert f"vllm serve {LLAMA}" in command
    assert f"--tensor-parallel-size {best['tensor']}" in command
    assert main(["export", "sglang", str(results), "--row", "99"]) == 2
    assert "--row: 99 is not there" in capsys.readouterr().err


def test_command_line_tries_chunks(tmp_path, capsys):
    results = tmp_path / "found.json"
    asked = [
        "search",
        LLAMA,
        "--system",
        "h100_sxm",
        "--gpus",
        "2",
        "--isl",
        "500",
        "--osl",
        "50",
        "--tpot",
        "30",
        "--batch",
        "16",
    ]
    assert main([*asked, "--chunk", "256", "--out", str(results)]) == 0
    assert "while each iteration carries a chunk" in capsys.readouterr().out
    data = json.loads(results.read_text())
    assert data["chunks"] == [256]
    assert all(row["chunk"] == 256 and row["mixed_tpot"] <= 0.03 for row in data["best"])
    assert main(["export", "vllm", str(results)]) == 0
    assert "--max-num-batched-tokens" in capsys.readouterr().out
    assert main([*asked, "--chunk", "some"]) == 2
    assert "--chunk: 'some' is neither a number of tokens nor whole" in capsys.readouterr().err


def test_command_line_exits_3_when_nothing_fits(capsys):
    assert (
        main(
            ["search", "meta-llama/Llama-3.1-70B", "--system", "l4", "--gpus", "1", "--batch", "1"]
        )
        == 3
    )
    assert "would hold it" in capsys.readouterr().err


def test_launch_commands_of_an_expert_plan(found):
    d = found.deployments[0]._replace(
        tensor=2,
        context=1,
        attention_data=4,
        pipeline=1,
        data=2,
        expert=8,
        batch=64,
        weights="fp8",
        kv_cache="fp8",
    )
    vllm, sglang = (
        launch_command("vllm", MIXTRAL, d, 700),
        launch_command("sglang", MIXTRAL, d, 700),
    )
    for flag in (
        "--tensor-parallel-size 2",
        "--data-parallel-size 4",
        "--enable-expert-parallel",
        "--max-num-seqs 8",
        "--quantization fp8",
        "run 2",
    ):
        assert flag in vllm
    for flag in (
        "--tp-size 8",
        "--ep-size 8",
        "--dp-size 4 --enable-dp-attention",
        "--max-running-requests 32",
        "--kv-cache-dtype fp8_e4m3",
        "run 2",
    ):
        assert flag in sglang
    shared = launch_command("vllm", MIXTRAL, d._replace(context=2, attention_data=2), 700)
    for flag in (
        "--tensor-parallel-size 2",
        "--prefill-context-parallel-size 2",
        "--decode-context-parallel-size 2",
        "--data-parallel-size 2",
    ):
        assert flag in shared
    with pytest.raises(InputError, match="context: SGLang's further ranks share prompts"):
        launch_command("sglang", MIXTRAL, d._replace(context=2, attention_data=2), 700)
    with pytest.raises(
        InputError, match="vLLM spreads experts over all 8 ranks of a stage or over none, not 4"
    ):
        launch_command("vllm", MIXTRAL, d._replace(expert=4), 700)
    with pytest.raises(InputError, match="engine: 'tgi' is not known"):
        launch_command("tgi", MIXTRAL, d, 700)
