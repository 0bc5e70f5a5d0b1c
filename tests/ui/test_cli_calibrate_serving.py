"""`diffgenz calibrate` on serving benchmarks, and its fit in other commands."""

import json
import sys

import pytest
from serving_cases import VLLM, write
from ui_cases import run, run_json

from diffgenz.serving.serving_fit import load_serving_fit
from diffgenz.ui.cli.main import main

SMALL = {"model_id": "meta-llama/Llama-3.2-1B", "system": "h100_sxm", "tp": "1", "backend": "vllm"}


def bench(under_way: int, ttft: float, tpot: float) -> dict:
    """A run of `vllm bench serve` with as many requests under way; ms."""
    known = {key: value for key, value in VLLM.items() if "_tpot" not in key and "_ttft" not in key}
    count = 10 * under_way
    return (
        known
        | SMALL
        | {
            "max_concurrency": under_way,
            "num_prompts": count,
            "completed": count,
            "total_input_tokens": 1024 * count,
            "total_output_tokens": 128 * count,
            "mean_ttft_ms": ttft,
            "mean_tpot_ms": tpot,
        }
    )


RUNS = [bench(*each) for each in ((1, 56.0, 2.4), (4, 58.0, 2.6), (16, 60.0, 2.9))]


def test_benchmarks_are_recognised_calibrated_and_used(tmp_path, capsys, monkeypatch):
    files = [str(write(tmp_path, f"{n}.json", each)) for n, each in enumerate(RUNS)]
    saved, picture = tmp_path / "fit.toml", tmp_path / "parity.svg"
    words = ["calibrate", *files, "--out", str(saved), "--plot", str(picture)]
    monkeypatch.setattr(sys, "argv", ["diffgenz", *words])
    text = run(capsys, *words)
    assert "3 configurations of vllm" in text
    assert "nothing fitted" in text
    assert "configurations held out" in text
    assert f"saved: {saved}; use it with `--serving-fit {saved}`" in text
    assert picture.read_text().lstrip().startswith("<?xml")
    (engine,) = load_serving_fit(saved).engines
    assert (engine.name, engine.runs) == ("vllm", 3)
    assert engine.values
    flags = ("--serving-fit", str(saved))
    (with_fit,) = run_json(capsys, "compare", files[2], *flags)
    (without,) = run_json(capsys, "compare", files[2])
    for name in ("ttft", "tpot"):
        assert abs(with_fit["ratio"][name] - 1) < abs(without["ratio"][name] - 1)
    served = ("serve", SMALL["model_id"], "--system", "h100_sxm", "--isl", "1024", "--osl", "128")
    own = run_json(capsys, *served, "--concurrency", "16", "--requests", "160", *flags)
    assert own["loads"][0]["ttft_mean"] == pytest.approx(with_fit["predicted"]["ttft"]["mean"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("{bench}", "--suggest", "2"), "--system: it is missing; name the accelerator"),
        (("{bench}", "--posterior"), "--posterior: is of measured kernels, not of benchmarks"),
        (("{bench}", "--fit", "gemm"), "--fit: is of measured kernels, not of benchmarks"),
        (("{bench}", "{kernels}"), "calibrate kernels and servers apart"),
        (("{kernels}",), "--system: it is missing; name the accelerator"),
        (("{failed}",), "failed: 3 of 80 requests failed"),
        (("{bench}", "--gpus", "2", "--tp", "4"), "4"),
    ],
)
def test_bad_input_is_one_line(words, message, tmp_path, capsys):
    places = {
        "bench": write(tmp_path, "bench.json", RUNS[0]),
        "kernels": write(tmp_path, "gemm.csv", "family,format,source,m,n,k,latency_us\n"),
        "failed": write(tmp_path, "bad.json", json.dumps(VLLM | {"completed": 77, "failed": 3})),
    }
    assert main(["calibrate", *(word.format(**places) for word in words)]) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert "\n" not in said.partition("diffgenz: ")[2]
