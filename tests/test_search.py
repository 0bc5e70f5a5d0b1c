"""The deployment search: it agrees with single estimates, its front with brute force, and it says what would fit."""

import json
import math

import numpy as np
import pytest
from support import make_cluster

from diffgenz import InputError, NoSolution, Parallelism, Precision, Workload, estimate, load_model, load_platform, plans, search
from diffgenz.cli import main
from diffgenz.export import launch_command

LLAMA = "meta-llama/Llama-3.1-8B"
MIXTRAL = "mistralai/Mixtral-8x7B-v0.1"


@pytest.fixture(scope="module")
def found():
    return search(load_model(MIXTRAL), make_cluster(8), Workload(1, 600, 60), tpot=0.02, batches=[1, 8, 100, 4096])


def test_plans_are_all_factorisations_of_the_accelerators():
    every = plans(load_model(LLAMA), make_cluster(8))
    rows = {tuple(map(int, row)) for row in zip(every.tensor, every.pipeline, every.data, strict=True)}
    assert rows == {(t, p, d) for t in (1, 2, 4, 8) for p in (1, 2, 4, 8) for d in (1, 2, 4, 8) if t * p * d == 8}
    sparse = plans(load_model(MIXTRAL), make_cluster(8))
    rows = set(
        zip(*(np.asarray(getattr(sparse, name), int).tolist() for name in ("tensor", "attention_data", "pipeline", "data", "expert")), strict=True)
    )
    powers = (1, 2, 4, 8)
    expected = {
        (t, a, p, d, e) for t in powers for a in powers for p in powers for d in powers for e in powers if t * a * p * d == 8 and t * a % e == 0
    }
    assert rows == expected


def test_no_plan_has_more_stages_than_layers_or_ranks_than_heads():
    model = load_model("Qwen/Qwen2.5-0.5B")  # 14 heads, 24 layers
    every = plans(model, make_cluster(64))
    assert every.tensor.max() == 8
    assert every.pipeline.max() == 16
    assert set(np.asarray(every.ranks, int).tolist()) == {64}


def test_rows_agree_with_single_estimates(found):
    model, cluster = load_model(MIXTRAL), make_cluster(8)
    picked = [found.deployments[0], found.deployments[len(found.deployments) // 2], found.deployments[-1]]
    picked += [next(d for d in found.deployments if d.weights == "int4"), next(d for d in found.deployments if d.attention_data > 1)]
    for d in picked:
        plan = Parallelism(d.tensor, d.pipeline, d.data, expert=d.expert, attention_data=d.attention_data)
        precision = Precision("bf16", d.weights, d.activations, d.kv_cache)
        single = estimate(model, cluster, Workload(d.batch, 600, 60), plan, precision)
        for name in ("ttft", "tpot", "throughput", "tokens_per_second_per_accelerator", "cost_per_million_output_tokens"):
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
    points = [(d.tokens_per_second_per_user, d.tokens_per_second_per_accelerator) for d in found.deployments]

    def beaten(point):
        return any(other != point and other[0] >= point[0] and other[1] >= point[1] for other in points)

    front = [(d.tokens_per_second_per_user, d.tokens_per_second_per_accelerator) for d in found.pareto()]
    assert set(front) == {point for point in points if not beaten(point)}


def test_formats_are_those_the_accelerator_multiplies():
    model = load_model(LLAMA)
    ampere = search(model, load_platform("a100_sxm", 2), Workload(1, 100, 10), batches=[1])
    assert {d.activations for d in ampere.deployments} == {"bf16"}
    volta = search(model, load_platform("v100_sxm", 2), Workload(1, 100, 10), batches=[1])  # has no bf16
    assert {d.activations for d in volta.deployments} == {"fp16"}
    blackwell = search(model, load_platform("b200_sxm", 2), Workload(1, 100, 10), batches=[1])
    assert {d.weights for d in blackwell.deployments} == {"bf16", "int4", "fp8", "nvfp4"}


def test_formats_of_several_structures_are_searched_together():
    """A cache that GEAR compresses and one that it does not are two programs; rows are those of single estimates."""
    model, cluster, workload = load_model(LLAMA), make_cluster(2), Workload(1, 100, 10)
    formats = (Precision(), Precision(kv_cache="gear-int4"), Precision(weights="fp8"))
    found = search(model, cluster, workload, batches=[1, 64], precisions=formats)
    assert len(found.deployments) == found.tried == 3 * 2 * 3
    one = {(d.weights, d.kv_cache): d for d in found.deployments if (d.tensor, d.data, d.batch) == (1, 2, 64)}
    plain, compressed, narrow = (one[names] for names in (("bf16", "bf16"), ("bf16", "gear-int4"), ("fp8", "bf16")))
    assert narrow.memory < compressed.memory < plain.memory
    single = estimate(model, cluster, workload.replace(batch=64), Parallelism(data=2), formats[1])
    assert float(single.tpot) == pytest.approx(compressed.tpot, rel=1e-5)
    assert float(single.memory.total) == pytest.approx(compressed.memory, rel=1e-6)
    with pytest.raises(InputError, match="kv_cache: vllm keeps no KV cache in gear-int4"):
        launch_command("vllm", LLAMA, compressed, 110)


def test_nothing_fits_says_what_would():
    with pytest.raises(NoSolution, match=r"nothing fits: .*; (\d+) would hold it \(weights fp8"):
        search(load_model("deepseek-ai/DeepSeek-V3"), make_cluster(2), Workload(1, 100, 10))
    with pytest.raises(NoSolution, match="none meets the targets: the lowest tpot is .* ms, 0.001 was asked for"):
        search(load_model(LLAMA), make_cluster(1), Workload(1, 100, 10), tpot=1e-6, batches=[1, 2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ttft": 0.0}, "ttft: 0.0"),
        ({"tpot": math.nan}, "tpot: nan"),
        ({"batches": []}, "batches: none"),
        ({"batches": [1.5]}, "batches: 1.5 is not a whole number"),
    ],
)
def test_bad_questions_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        search(load_model(LLAMA), make_cluster(1), Workload(1, 100, 10), **changes)


def test_command_line_saves_what_export_reads(tmp_path, capsys):
    results, rows, picture = tmp_path / "found.json", tmp_path / "found.csv", tmp_path / "front.png"
    asked = ["search", LLAMA, "--system", "h100_sxm", "--gpus", "4", "--isl", "500", "--osl", "50", "--tpot", "30", "--batch", "1", "16"]
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


def test_command_line_exits_3_when_nothing_fits(capsys):
    assert main(["search", "meta-llama/Llama-3.1-70B", "--system", "l4", "--gpus", "1", "--batch", "1"]) == 3
    assert "would hold it" in capsys.readouterr().err


def test_launch_commands_of_an_expert_plan(found):
    d = found.deployments[0]._replace(tensor=2, attention_data=4, pipeline=1, data=2, expert=8, batch=64, weights="fp8", kv_cache="fp8")
    vllm, sglang = launch_command("vllm", MIXTRAL, d, 700), launch_command("sglang", MIXTRAL, d, 700)
    for flag in ("--tensor-parallel-size 2", "--data-parallel-size 4", "--enable-expert-parallel", "--max-num-seqs 8", "--quantization fp8", "run 2"):
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
    with pytest.raises(InputError, match="vLLM spreads experts over all 8 ranks of a stage or over none, not 4"):
        launch_command("vllm", MIXTRAL, d._replace(expert=4), 700)
    with pytest.raises(InputError, match="engine: 'tgi' is not known"):
        launch_command("tgi", MIXTRAL, d, 700)
