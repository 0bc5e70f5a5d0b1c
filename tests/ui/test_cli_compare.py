"""`diffgenz compare` from end to end."""

import pytest
from serving_cases import AIPERF, INFERENCEX, SGLANG, VLLM, write
from ui_cases import ROOFLINE, run, run_json

from diffgenz import compare, read_benchmarks
from diffgenz.ui.cli.main import main
from diffgenz.ui.text.compare import comparison_json, comparisons_text

H100 = ("--system", "h100_sxm", "--tp", "8")


LATENCIES = {"TTFT": "ttft", "TPOT": "tpot", "ITL": "itl"}
KINDS = ("mean", "p50", "p90", "p99")


def test_a_closed_loop_is_predicted_as_serve_answers_it(capsys, tmp_path):
    path = str(write(tmp_path, "bench.json", VLLM))
    flags = ("--host", "0.5", "--max-num-seqs", "64")
    (found,) = run_json(capsys, "compare", path, *H100, *ROOFLINE, *flags)
    words = ("--isl", "2048", "--osl", "256", "--concurrency", "8", "--requests", "80")
    own = run_json(capsys, "serve", VLLM["model_id"], *H100, *ROOFLINE, *words, *flags)
    (own,) = own["loads"]
    predicted, ratio = found["predicted"], found["ratio"]
    for name in ("ttft", "tpot", "itl", "end_to_end"):
        for kind in KINDS:
            assert predicted[name][kind] == pytest.approx(own[f"{name}_{kind}"], rel=1e-6)
    assert predicted["throughput"] == pytest.approx(own["throughput"], rel=1e-6)
    assert ratio["ttft"] == pytest.approx(own["ttft_mean"] / 0.7, rel=1e-6)
    assert ratio["tpot"] == pytest.approx(own["tpot_mean"] / 0.0125, rel=1e-6)
    assert ratio["throughput"] == pytest.approx(own["throughput"] / 512, rel=1e-6)
    assert (found["under_load"], found["note"]) == (True, "")


def test_means_and_percentiles_stand_beside_each_other_for_some_runs(tmp_path):
    words = {"system": "h100_sxm", "tp": 8, "fit": "none"}
    (each,) = compare(read_benchmarks([write(tmp_path, "bench.json", VLLM)]), words)
    text, found = comparisons_text([each]), comparison_json(each)
    assert "\ntp 8, pp 1, dp 1; 2048 tokens in, 256 out\n" in text
    assert "under the load of each run by `serve`" in text
    assert "arrives together" not in text
    lines = [line.split() for line in text.splitlines()]
    for label, name in LATENCIES.items():
        for who in ("measured", "predicted"):
            (row,) = [line for line in lines if line[:3] == [label, "ms", who]]
            for cell, kind in zip(row[3:], KINDS, strict=True):
                value = found[who][name].get(kind)
                assert (cell == "-") == (value is None)
                if value is not None:
                    assert float(cell.replace(",", "")) == pytest.approx(1e3 * value, rel=6e-3)
    assert ["E2E", "ms", "measured"] not in [line[:3] for line in lines]  # it has none
    many = comparisons_text([each] * 7)
    assert "ratios: TTFT " in many
    assert "ITL ms" not in many


def test_what_serve_refuses_is_said_and_estimated_as_one_batch(capsys, tmp_path):
    path = str(write(tmp_path, "bench.json", VLLM))
    words = (*H100, *ROOFLINE, "--beams", "2")
    (found,) = run_json(capsys, "compare", path, *words)
    asked = ("--isl", "2048", "--osl", "256", "--batch", "8")
    own = run_json(capsys, "estimate", VLLM["model_id"], *words, *asked)
    for name in ("ttft", "tpot", "end_to_end"):
        assert found["predicted"][name] == {"mean": pytest.approx(own[name], rel=1e-6)}
    assert found["predicted"]["throughput"] == pytest.approx(own["throughput"], rel=1e-6)
    assert not found["under_load"]
    assert found["ratio"]["ttft"] is None
    assert found["ratio"]["tpot"] == pytest.approx(own["tpot"] / 0.0125, rel=1e-6)
    text = run(capsys, "compare", path, *words)
    said = "note: bench.json: estimated as one batch, not under load: beams: not modelled"
    assert said in text
    assert "under load TTFT includes queueing (not compared), and TPOT the prompts of" in text
    assert "by `serve`" not in text


def test_ttft_of_one_request_is_compared_whoever_answers(capsys, tmp_path):
    path = str(write(tmp_path, "runs.json", {**VLLM, "max_concurrency": 1}))
    (found,) = run_json(capsys, "compare", path, *H100, *ROOFLINE, "--chunk", "whole")
    assert not found["under_load"]
    expected = found["predicted"]["ttft"]["mean"] / 0.7
    assert found["ratio"]["ttft"] == pytest.approx(expected, rel=1e-6)


def test_the_file_says_layout_formats_and_engine(capsys, tmp_path):
    path = str(write(tmp_path, "runs.jsonl", SGLANG))
    (found,) = run_json(capsys, "compare", path, "--system", "h200_sxm")
    assert (found["tensor"], found["attention_data"], found["expert"]) == (2, 2, 4)
    assert (found["precision"]["weights"], found["precision"]["kv_cache"]) == ("fp8", "fp8")
    assert "sglang" in " ".join(found["kernels"].values())
    (other,) = run_json(capsys, "compare", path, "--system", "h200_sxm", "--gpus", "4", *ROOFLINE)
    assert (other["tensor"], other["attention_data"]) == (4, 1)


def test_systems_of_a_file_are_rows_and_may_be_chosen(capsys, tmp_path):
    plain = {**INFERENCEX, "precision": "bf16"}
    path = str(write(tmp_path, "agg.json", plain, {**plain, "hw": "b200-trt", "conc": 8}))
    found = run_json(capsys, "compare", path, *ROOFLINE)
    assert [each["system"] for each in found] == ["h200_sxm", "b200_sxm"]
    text = run(capsys, "compare", path, *ROOFLINE)
    assert "\n8 x NVIDIA H200 SXM 141GB  " in text
    (one,) = run_json(capsys, "compare", path, *ROOFLINE, "--system", "b200_sxm")
    assert (one["system"], one["batch"]) == ("b200_sxm", 8)


def test_quantised_checkpoints_are_served_as_they_are(capsys, tmp_path):
    path = str(write(tmp_path, "profile.json", AIPERF))
    (found,) = run_json(capsys, "compare", path, "--system", "h100_sxm", "--gpus", "1", *ROOFLINE)
    assert "mxfp4" in str(found["precision"])
    assert found["batch"] == 10


def test_runs_that_no_estimate_describes_are_left_out(capsys, tmp_path):
    plain = {**INFERENCEX, "precision": "bf16"}
    path = write(
        tmp_path, "agg.json", plain, {**plain, "disagg": True}, {**plain, "spec_decoding": "mtp"}
    )
    assert main(["compare", str(path), *ROOFLINE, "--json"]) == 0
    error = capsys.readouterr().err
    assert "left out: agg.json: row 2: prefill and decode on pools of their own\n" in error
    assert "left out: agg.json: row 3: speculative decoding (mtp); give --drafts" in error


BAD = [
    ([VLLM], ("--tp", "8"), "bench.json: system: the file does not say it; give --system"),
    ([VLLM], ("--system", "h100_sxm"), "bench.json: tp: the file does not say on how many"),
    ([{**VLLM, "failed": 3}], H100, "bench.json: failed: 3 of 83 requests failed"),
    ([VLLM, {**VLLM, "model_id": "Qwen/Qwen3-8B"}], H100, "are 2 models; name one of them with"),
    ([{**VLLM, "model_id": "served-name"}], H100, "bench.json: model: 'served-name' is not known"),
    ([VLLM], (*H100, "--isl", "4k"), "--isl: 4096 contradicts bench.json, which has 2048; leave"),
    ([{**INFERENCEX, "hw": "xpu9"}], (), "bench.json: system: 'xpu9' is not known; give --system"),
    ([{**INFERENCEX, "precision": "fp7"}], (), "bench.json: precision: 'fp7' is not known; give"),
    ([{**INFERENCEX, "disagg": True}], (), "FILE: nothing is left to compare; left out: bench.js"),
    ([VLLM], (*H100, "--set", "speed=1"), "--set: 'speed' is not known"),
    (
        [{**VLLM, "max_concurrency": None, "output_throughput": None}],
        H100,
        "bench.json: batch: the file does not say it; give --batch",
    ),
]


@pytest.mark.parametrize(("runs", "words", "message"), BAD, ids=[message for *_, message in BAD])
def test_bad_input_is_one_line_and_exit_2(runs, words, message, capsys, tmp_path):
    path = write(tmp_path, "bench.json", *runs)
    assert main(["compare", str(path), *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    lines = [line for line in captured.err.splitlines() if not line.startswith("left out")]
    assert len(lines) == 1
    assert lines[0].startswith("diffgenz: error: ")


def test_words_fill_what_the_file_does_not_say(capsys, tmp_path):
    bare = {name: value for name, value in VLLM.items() if not name.startswith("total_")}
    path = str(write(tmp_path, "bench.json", {**bare, "total_input_tokens": None}))
    words = (*H100, *ROOFLINE, "--isl", "2k", "--osl", "256", "--model", "Qwen/Qwen3-32B")
    (found,) = run_json(capsys, "compare", path, *words)
    assert (found["input_tokens"], found["model"]) == (2048, "Qwen/Qwen3-32B")
