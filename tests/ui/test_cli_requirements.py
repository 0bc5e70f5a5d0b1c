"""`diffgenz requirements` from end to end, and its words."""

import math

import pytest
from ui_cases import LLAMA, run, run_json

from diffgenz.ui.text.requirements import verdict


@pytest.mark.slow
def test_json_is_si_and_says_what_bounds(capsys):
    words = (*LLAMA, "--use-case", "chat", "--tp", "2", "--tpot", "0.5")
    data = run_json(capsys, "requirements", *words)
    assert data["tpot"] == pytest.approx(0.0005)
    assert data["prefill"]["compute"]["bound"] == "at least"
    assert data["prefill"]["NVLink 4 / NVSwitch latency"]["bound"] == "at most"
    assert data["decode"]["memory_bandwidth"] == {"value": None, "bound": "out of reach"}
    assert data["now"]["memory_bandwidth"] == pytest.approx(3.35e12)


def test_without_a_system_they_are_of_ideal_accelerators(capsys):
    words = (LLAMA[0], "--use-case", "assistant", "--batch", "2")
    data = run_json(capsys, "requirements", *words)
    assert data["system"] is data["now"] is data["ttft"] is None
    assert data["batch"] == 2
    assert data["beams"] == 4
    assert data["serving"]["chunk"] == 8192
    assert "beams" not in data["serving"]
    assert data["prefill"]["compute"] == {"value": 0, "bound": "any"}
    assert data["decode"]["compute"]["value"] > 1e12
    text = run(capsys, "requirements", *words)
    assert text.startswith("meta-llama/Llama-3.1-8B (8.03e9 parameters) for assistant on an acc")
    assert "batch 2, 4 beams, 100000 tokens in, 2000 out; TPOT 200 ms" in text
    assert "each number on its own, the others unlimited\nuncalibrated: smooth" in text


def test_what_is_out_of_reach_is_said(capsys):
    words = (*LLAMA, "--use-case", "chat", "--tpot", "0.1", "--chunk", "512")
    text = run(capsys, "requirements", *words)
    assert "out of reach" in text
    assert "serving: chunks of 512 tokens; 90 % of memory usable\n" in text
    assert "the others as on NVIDIA H100 SXM 80GB" in text


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("compute", 1e12, "at least"),
        ("compute", 0.0, "any"),
        ("compute", math.inf, "out of reach"),
        ("NVLink latency", 1e-6, "at most"),
        ("NVLink latency", math.inf, "any"),
        ("NVLink latency", -math.inf, "out of reach"),
    ],
)
def test_verdicts(name, value, expected):
    assert verdict(name, value) == expected


def test_objectives_need_no_use_case(capsys):
    words = (LLAMA[0], "--tpot", "20ms", "--isl", "4k", "--osl", "64", "--batch", "8")
    data = run_json(capsys, "requirements", *words)
    assert data["use_case"] is None
    assert (data["tpot"], data["ttft"]) == (pytest.approx(0.02), None)
    assert (data["input_tokens"], data["output_tokens"], data["batch"]) == (4096, 64, 8)
    assert data["prefill"]["compute"] == {"value": 0, "bound": "any"}
    text = run(capsys, "requirements", *words)
    assert text.startswith("meta-llama/Llama-3.1-8B (8.03e9 parameters) on an accelerator\n")
    assert "\nbatch 8, 4096 tokens in, 64 out; TPOT 20 ms\n" in text


def test_lengths_and_batch_override_those_of_the_use_case(capsys):
    words = (LLAMA[0], "--use-case", "chat", "--isl", "100", "--batch", "3")
    data = run_json(capsys, "requirements", *words)
    assert (data["use_case"], data["input_tokens"], data["batch"]) == ("chat", 100, 3)
