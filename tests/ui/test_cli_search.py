"""`diffgenz search` and `diffgenz export` from end to end, and their words."""

import json

import pytest
from ui_cases import run, run_json

import diffgenz as dgz
from diffgenz.inference.metrics import METRICS
from diffgenz.ui.cli.main import main
from diffgenz.ui.text.scenario import UNCALIBRATED
from diffgenz.ui.text.search import deployment_row, rows_csv, search_text, targets_text

LLAMA = "meta-llama/Llama-3.1-8B"
ASKED = [
    *("search", LLAMA, "--system", "h100_sxm"),
    *("--isl", "500", "--osl", "50", "--tpot", "30"),
]


def test_results_are_shown_saved_drawn_and_exported(tmp_path, capsys):
    results, rows, picture = (tmp_path / name for name in ("a.json", "a.csv", "a.png"))
    asked = [*ASKED, "--gpus", "4", "--batch", "1", "16", "--weights", "bf16"]
    text = run(capsys, *asked, "--out", str(results), "--plot", str(picture))
    assert "Pareto front" in text
    assert "with TPOT <= 30 ms\nrow 1: TTFT is bound by " in text
    assert "kernels as measured, of vllm" in text
    assert UNCALIBRATED in run(capsys, *asked, "--fit", "none")
    data = run_json(capsys, *asked, "--out", str(rows))
    assert data == json.loads(results.read_text())
    assert len(rows.read_text().splitlines()) == 1 + len(data["best"])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob(".*"))
    command = run(capsys, "export", "vllm", str(results))
    assert f"vllm serve {LLAMA}" in command
    assert f"--tensor-parallel-size {data['best'][0]['tensor']}" in command
    assert main(["export", "sglang", str(results), "--row", "99"]) == 2
    assert "--row: 99 is not there" in capsys.readouterr().err
    assert main([*asked, "--out", str(tmp_path / "a.txt")]) == 2
    assert "--out: 'a.txt' is neither .json nor .csv" in capsys.readouterr().err
    results.write_text("{}")
    assert main(["export", "sglang", str(results)]) == 2
    assert "is not what `diffgenz search ... --out FILE.json` saves" in capsys.readouterr().err


def test_chunks_are_tried(tmp_path, capsys):
    results = tmp_path / "found.json"
    drafts = ("--drafts", "3", "--acceptance", "0.5")
    asked = [*ASKED, "--gpus", "2", "--batch", "16", "--chunk", "256", "--mixed", *drafts]
    asked += ["--weights", "bf16"]
    text = run(capsys, *asked, "--out", str(results))
    assert "while each iteration carries a chunk" in text
    assert "memory usable; 3 drafts, acceptance 0.5" in text
    data = json.loads(results.read_text())
    assert data["chunks"] == [256]
    assert all(row["chunk"] == 256 and row["mixed_tpot"] <= 0.03 for row in data["best"])
    command = run(capsys, "export", "vllm", str(results))
    assert "--max-num-batched-tokens" in command
    assert command.startswith("# modelled with 3 drafts, acceptance 0.5: set the engine's own")


def test_formats_are_named_and_exported_as_the_checkpoint_has_them(tmp_path, capsys):
    """gpt-oss: experts in mxfp4, attention in bf16, and no --quantization."""
    results = tmp_path / "found.json"
    asked = ("search", "openai/gpt-oss-20b", "--system", "h200_sxm", "--gpus", "2")
    small = ("--batch", "4", "--isl", "200", "--osl", "20", "--fit", "none")
    text = run(capsys, *asked, *small, "--out", str(results))
    assert "note: the checkpoint is in mxfp4 (mxfp4), which is what is tried" in text
    data = json.loads(results.read_text())
    assert {row["weights"] for row in data["best"]} == {"mxfp4"}
    command = run(capsys, "export", "vllm", str(results))
    assert "vllm serve openai/gpt-oss-20b " in command
    assert "--quantization" not in command
    named = run(capsys, *asked, *small, "--weights", "checkpoint", "fp8", "--any-layout")
    assert "note: no engine would load weights fp8: the checkpoint is in mxfp4" in named
    assert main([*asked, "--weights", "fp9"]) == 2
    assert "weights: 'fp9' is not known" in capsys.readouterr().err


def test_a_row_that_no_engine_runs_is_not_exported(tmp_path, capsys):
    results = tmp_path / "found.json"
    asked = [*ASKED, "--gpus", "2", "--batch", "16", "--any-layout", "--where", "context == 2"]
    run(capsys, *asked, "--weights", "bf16", "--out", str(results))
    assert main(["export", "vllm", str(results)]) == 2
    said = capsys.readouterr().err
    assert "vLLM refuses cp 2: it shares no sequences of attention with KV heads; use cp 1" in said


def test_exit_3_when_nothing_fits(capsys):
    words = ("--system", "l4", "--gpus", "1", "--batch", "1")
    assert main(["search", "meta-llama/Llama-3.1-70B", *words]) == 3
    assert "would hold it" in capsys.readouterr().err


METRICS_BY_HAND = {
    **dict.fromkeys(METRICS),
    "ttft": 0.25,
    "tpot": 0.005,
    "mixed_tpot": 0.0075,
    "tokens_per_second_per_user": 200.0,
    "tokens_per_second_per_accelerator": 1000.0,
    "memory.total": 30e9,
}


@pytest.fixture(scope="module")
def deployment(llama_8b):
    plan = {"tensor": 2, "context": 1, "attention_data": 1, "pipeline": 1, "data": 4, "expert": 1}
    case = dgz.Scenario(llama_8b, dgz.load_platform("h100_sxm", 8, fit="none"))
    precision = dgz.Precision("bf16", "fp8", "fp8", "gear-int4")
    kernels = {"gemm fp8": "vllm-0.9 for fp8_block", "attention bf16": "roofline"}
    return dgz.Deployment(plan, 64, precision, 256, METRICS_BY_HAND, case, kernels)


def test_the_table(deployment):
    kernels = {"fp8": deployment.kernels, "bf16": {"gemm bf16": "vllm-0.9"}}
    found = dgz.Search(1000, 500, [deployment], kernels=kernels)
    lines = search_text(found, [deployment], "TTFT <= 1 ms", True, "row 1: why").splitlines()
    assert lines[:4] == [
        "fp8: kernels as measured, of vllm-0.9 for fp8_block (attention bf16 by the roofline)",
        "bf16: kernels as measured, of vllm-0.9",
        "1,000 deployments tried, 500 fit, 1 with TTFT <= 1 ms",
        "row 1: why",
    ]
    assert lines[5] == (
        "row  tok/s/GPU  tok/s/user  TTFT ms  TPOT ms  batch    GB  USD/Mtok  tp  cp  adp  pp  dp  "
        "ep  weights  act.         KV  chunk  mixed ms  kernels"
    )
    assert lines[7].split() == [
        *("1", "1,000", "200", "250", "5", "64", "30.0", "-"),
        *("2", "1", "1", "1", "4", "1", "fp8", "fp8", "gear-int4", "256", "7.5"),
        *("vllm", "for", "fp8_block;", "roofline:", "attention"),
    ]
    assert lines[-1].endswith("attention  " + "█" * 30)
    found = dgz.Search(1000, 500, [deployment])
    plain = search_text(found, [deployment], "", chunked=False)
    assert "chunk" not in plain
    assert plain.startswith("1,000 deployments tried, 500 fit\n\nrow")
    apart = dgz.Search(1000, 500, [deployment], [deployment])
    assert "Not ranked with these, since the roofline" in search_text(apart, [deployment], "", True)


def test_a_saved_row_is_flat(deployment):
    row = deployment_row(deployment)
    assert list(row)[:7] == [*deployment.plan, "batch"]
    assert row["memory"] == 30e9
    assert row["kv_cache"] == "gear-int4"
    assert row["cost_per_million_output_tokens"] is None
    lines = rows_csv([row, row]).splitlines()
    assert lines[0] == ",".join(row)
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("ttft", "tpot", "chunked", "said"),
    [
        (None, None, True, ""),
        (500.0, None, True, "TTFT <= 500 ms"),
        (500.0, 20.0, False, "TTFT <= 500 ms and TPOT <= 20 ms"),
        (None, 20.0, True, "TPOT <= 20 ms (while each iteration carries a chunk, where there are"),
    ],
)
def test_targets(ttft, tpot, chunked, said):
    assert targets_text(ttft, tpot, chunked).startswith(said)
