"""`diffgenz sensitivity` from end to end, and its tornado."""

import pytest
from ui_cases import LLAMA, ROOFLINE, run, run_json

import diffgenz as dgz
from diffgenz.inference.metrics import METRICS as ALL
from diffgenz.inference.worth import worth
from diffgenz.ui.text.sensitivity import elasticities_table

METRIC = ALL["tpot"]


METRICS = ("tpot", "throughput", "cost_per_million_output_tokens")


def test_sensitivity_of_several_metrics(capsys):
    words = (*LLAMA, *ROOFLINE, "--batch", "4", "--metric", *METRICS)
    data = run_json(capsys, "sensitivity", *words)
    text = run(capsys, "sensitivity", *words)
    assert "batch 4\n" in text
    for metric in METRICS:
        assert f"({metric}); with 1 %" in text
        found = data["metrics"][metric]
        assert found["value"] > 0
        # 10 % more of a number does about what ten times 1 % does
        name = max(found["ten_percent_more"], key=lambda n: abs(found["elasticities"][n]))
        expected = found["value"] * (1.1 ** found["elasticities"][name] - 1)
        assert found["ten_percent_more"][name] == pytest.approx(expected, rel=0.1)


def test_parameters_of_kernels_are_shown_where_all_are(capsys):
    words = (*LLAMA, "--batch", "4")
    assert "kernels.forms" not in run(capsys, "sensitivity", *words)
    assert "not shown: --all" in run(capsys, "sensitivity", *words)
    assert "kernels.forms[gemm]" in run(capsys, "sensitivity", *words, "--all")


def test_worth_is_the_difference_of_two_estimates():
    case = dgz.Scenario(dgz.load_model("Qwen/Qwen3-8B"), dgz.load_platform("h100_sxm", 2))
    name = "accelerator.memory_bandwidth"
    found = worth(case, ["tpot", "throughput"], [name, "network[0].latency"], 0.5)
    chip = case.platform.accelerator
    faster = chip.replace(memory_bandwidth=1.5 * chip.memory_bandwidth)
    there = dgz.estimate(case.replace(platform=case.platform.replace(accelerator=faster)))
    now = dgz.estimate(case)
    for metric, changes in found.items():
        difference = float(getattr(there, metric)) - float(getattr(now, metric))
        assert changes[name] == pytest.approx(difference, rel=1e-3)
    assert found["tpot"]["network[0].latency"] > 0


def test_the_largest_come_first_with_their_units():
    platform = dgz.load_platform("h100_sxm", 8)
    card = {
        "accelerator.memory_bandwidth": -0.5,
        "accelerator.price": 1.0,
        "accelerator.launch_latency": 0.25,
        "network[0].latency": 0.125,
        "accelerator.memory_efficiency": -0.1,
        "accelerator.idle_power": 1e-5,
        "platform.accelerator.kernels.forms[gemm][bf16].level": 0.005,
    }
    lines = elasticities_table(card, card, METRIC, platform).splitlines()
    cells = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines[2:]]
    name = platform.network[0].name
    assert [row[0] for row in cells] == [
        "price",
        "memory_bandwidth",
        "launch_latency",
        f"{name} latency",
        "memory_efficiency",
    ]
    assert cells[1][1:4] == ["3.35 TB/s", "-0.5000 %", "-500"]
    assert cells[2][1] == "2.37 us"
    assert cells[0][1].endswith(" USD/h")
    assert cells[4][1] == "1"
    assert [row[4].count("█") for row in cells] == [30, 15, 7, 3, 3]
