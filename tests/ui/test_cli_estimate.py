"""`diffgenz estimate` from end to end."""

import pytest
from ui_cases import LLAMA, ROOFLINE, run, run_json

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
