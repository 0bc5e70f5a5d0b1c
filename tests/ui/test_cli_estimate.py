"""`diffgenz estimate` from end to end."""

import pytest
from ui_cases import LLAMA, ROOFLINE, run, run_json

from diffgenz.hardware.specs import specs_folder
from diffgenz.ui.cli.main import main

BIG = ("meta-llama/Llama-3.1-405B", "--system", "h100_sxm", "--gpus", "8", *ROOFLINE)


def total(rows):
    return sum(sum(row.values()) for row in rows.values())


def test_json_is_si_and_adds_up(capsys):
    words = ("--gpus", "2", "--isl", "500", "--osl", "50", "--batch", "4")
    data = run_json(capsys, "estimate", *LLAMA, *words)
    assert data["tensor"] == data["accelerators"] == 2
    assert data["end_to_end"] == pytest.approx(data["ttft"] + 49 * data["tpot"], rel=1e-6)
    for phase in ("ttft", "tpot"):
        assert total(data["breakdown"][phase]) == pytest.approx(data[phase], rel=1e-6)
        assert data["bound_by"][phase] in ("compute", "memory", "communication", "launch")
    memory = data["memory"]
    parts = (memory[name] for name in ("weights", "kv_cache", "activations", "reserve"))
    assert memory["fits"] is True
    assert memory["total"] == pytest.approx(sum(parts), rel=1e-6)
    assert memory["total"] < memory["capacity"]


def test_context_and_sequence_parallel_ranks(capsys):
    words = (*ROOFLINE, "--gpus", "8", "--cp", "4", "--sp", "--isl", "3000")
    data = run_json(capsys, "estimate", *LLAMA, *words)
    assert data["tensor"] == 2
    assert data["context"] == 4
    assert data["sequence"] is True
    assert data["breakdown"]["ttft"]["context_all_gather"]["communication"] > 0
    assert total(data["breakdown"]["tpot"]) == pytest.approx(data["tpot"], rel=1e-6)


def test_serving_options(capsys):
    options = ("--chunk", "256", "--prefix-hit", "0.5", "--drafts", "3", "--acceptance", "0.5")
    plain, served = (
        run_json(capsys, "estimate", *LLAMA, *ROOFLINE, "--batch", "4", *flags)
        for flags in ((), (*options, "--beams", "2", "--mixed"))
    )
    assert plain["mixed_tpot"] is None
    assert served["serving"]["chunk"] == 256
    assert served["ttft"] < plain["ttft"]
    assert served["tpot"] < served["mixed_tpot"]


def test_what_does_not_fit_may_be_offloaded(capsys):
    memory = run_json(capsys, "estimate", *BIG, "--offload", "weights")["memory"]
    assert memory["fits"] is True
    over = memory["total"] - memory["capacity"]
    assert memory["offloaded"]["host"] == pytest.approx(over, rel=1e-5)


def test_several_batches_are_a_list(capsys):
    data = run_json(capsys, "estimate", *LLAMA, *ROOFLINE, "--batch", "1", "8", "64")
    assert [entry["batch"] for entry in data] == [1, 8, 64]


def test_what_does_not_fit_says_what_would(capsys):
    data = run_json(capsys, "estimate", *BIG, "--batch", "16")
    assert data["memory"]["fits"] is False
    assert data["ttft"] is data["breakdown"] is None
    assert data["accelerators_needed"] == 16
    enough = run_json(capsys, "estimate", *BIG, "--gpus", "16", "--batch", "16")
    assert enough["memory"]["fits"] is True
    assert "It fits on 16: tp 8, pp 2" in run(capsys, "estimate", *BIG, "--batch", "16")


def test_narrow_formats_shrink_memory(capsys):
    formats = ("--weights", "fp8", "--activations", "fp8", "--kv-cache", "gear-fp8:0:0.5")
    wide, narrow = (
        run_json(capsys, "estimate", *LLAMA, *ROOFLINE, *flags)
        for flags in ((), (*formats, "--messages", "int8"))
    )
    expected = wide["memory"]["kv_cache"] * (0.5 + 0.5 / 128)
    assert narrow["memory"]["kv_cache"] == pytest.approx(expected, rel=1e-3)
    assert narrow["memory"]["weights"] < 0.6 * wide["memory"]["weights"]
    assert narrow["precision"]["messages"] == "int8"


def test_uncertainty(capsys):
    data = run_json(capsys, "estimate", *LLAMA, "--uncertainty")
    assert 0 < data["deviation"]["tpot"] < data["tpot"]
    assert main(["estimate", *LLAMA, *ROOFLINE, "--uncertainty"]) == 2
    assert "the kernels of NVIDIA H100 SXM 80GB are not fitted" in capsys.readouterr().err


def test_numbers_too_large_for_float32(capsys):
    assert main(["estimate", *LLAMA, *ROOFLINE, "--gpus", "1", "--osl", str(10**38)]) == 2
    assert "overflow float32; use smaller numbers" in capsys.readouterr().err


def test_several_systems_are_one_table(capsys, tmp_path):
    chip = (specs_folder() / "h100_sxm.toml").read_text().replace("3.35 TB/s", "6.7 TB/s")
    own = tmp_path / "mine.toml"
    own.write_text(f'{chip}\n[kernels]\nlike = "h100_sxm"\n')
    words = ("--system", "h100_sxm", str(own), "--batch", "1", "8", "--isl", "1k")
    data = run_json(capsys, "estimate", LLAMA[0], *words)
    asked = [(each["system"], each["batch"]) for each in data]
    assert asked == [("h100_sxm", 1), ("h100_sxm", 8), ("mine", 1), ("mine", 8)]
    assert data[2]["tpot"] < data[0]["tpot"]
    alone = run_json(
        capsys, "estimate", LLAMA[0], "--system", str(own), "--batch", "8", "--isl", "1024"
    )
    assert alone["tpot"] == pytest.approx(data[3]["tpot"], rel=1e-6)
    text = run(capsys, "estimate", LLAMA[0], *words)
    assert "on 1 each of h100_sxm, mine\n" in text
    assert "\nh100_sxm: kernels as measured, of vllm" in text
    assert "\nmine: kernels of vllm" in text
    assert "\nnot on one footing" in text
    rows = [line.split()[:2] for line in text.splitlines() if line.startswith("mine  ")]
    assert rows == [["mine", "1"], ["mine", "8"]]


def test_systems_on_one_footing_have_one_line_of_kernels(capsys):
    systems = ("--system", "h100_sxm", "h200_sxm", "--isl", "64")
    text = run(capsys, "estimate", LLAMA[0], *systems, *ROOFLINE)
    assert "not on one footing" not in text
    assert text.count("uncalibrated: smooth roofline") == 1


def test_an_error_says_which_of_several_systems_it_is_of(capsys):
    systems = ("--system", "h100_sxm", "a100_sxm")
    formats = ("--weights", "fp8", "--activations", "fp8")
    assert main(["estimate", LLAMA[0], *systems, *formats]) == 2
    error = capsys.readouterr().err
    assert error.startswith("diffgenz: error: --system a100_sxm: precision: ")


def test_numbers_of_the_system_are_set(capsys):
    before = run_json(capsys, "estimate", *LLAMA)
    double = ("--set", "memory_bandwidth=6.7 TB/s", "--set", "price=3 USD/h")
    after = run_json(capsys, "estimate", *LLAMA, *double)
    assert after["tpot"] < before["tpot"]
    assert after["notes"] == [
        "set memory.bandwidth = 6.7 TB/s (3.35 TB/s in h100_sxm), price.per_hour = 3 USD/h "
        "(2.99 USD/h in h100_sxm); the fits of h100_sxm are reused"
    ]
    assert "as on h100_sxm" in after["kernels"]["gemm bf16"]
    text = run(capsys, "estimate", *LLAMA, *double)
    assert f"\nnote: {after['notes'][0]}\n" in text


def test_imbalance_slows_the_experts(capsys):
    words = ("Qwen/Qwen3-30B-A3B", "--system", "h200_sxm", "--gpus", "4", "--ep", "4", *ROOFLINE)
    even = run_json(capsys, "estimate", *words, "--batch", "64")
    uneven = run_json(capsys, "estimate", *words, "--batch", "64", "--imbalance", "2")
    assert uneven["routing"]["rows"] == uneven["routing"]["wire"] == 2
    assert uneven["ttft"] > even["ttft"]
    text = run(capsys, "estimate", *words, "--imbalance", "8")
    assert "experts (imbalance 8): rows 8 x the mean on the fullest rank" in text
    assert main(["estimate", *words, "--imbalance", "2", "--routing", "power-law:1"]) == 2
