"""`diffgenz sensitivity` from end to end, and its tornado."""

import pytest
from ui_cases import LLAMA, ROOFLINE, run, run_json

import diffgenz as dgz
from diffgenz.ui.text.sensitivity import elasticities_table


@pytest.mark.parametrize(
    "metric",
    [
        "tpot",
        pytest.param("throughput", marks=pytest.mark.slow),
        pytest.param("cost_per_million_output_tokens", marks=pytest.mark.slow),
    ],
)
def test_sensitivity(metric, capsys):
    words = (*LLAMA, *ROOFLINE, "--batch", "4", "--metric", metric)
    data = run_json(capsys, "sensitivity", *words)
    assert data["metric"] == metric
    assert data["value"] > 0
    assert any(value != 0 for value in data["elasticities"].values())
    text = run(capsys, "sensitivity", *words)
    assert "batch 4\n" in text
    assert f"{metric} = " in text


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
    lines = elasticities_table(card, platform).splitlines()
    cells = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines[2:]]
    name = platform.network[0].name
    assert [row[0] for row in cells] == [
        "price",
        "memory_bandwidth",
        "launch_latency",
        f"{name} latency",
        "memory_efficiency",
    ]
    assert cells[1][1:3] == ["3.35 TB/s", "-0.5000"]
    assert cells[2][1] == "2.37 us"
    assert cells[0][1].endswith(" USD/h")
    assert cells[4][1] == "1"
    assert [row[3].count("█") for row in cells] == [30, 15, 7, 3, 3]
