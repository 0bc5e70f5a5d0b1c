"""Benchmarks run, keep their contract, and are right; how fast they find the machine is their business."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from throughput import forward_error, gradient_error

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FIGURES = {
    "throughput.py": 12,
    "startup.py": 5,
    "paper_requirements.py": 3,
    "calibrated.py": 6,
    "experts.py": 4,
    "deployments.py": 4,
    "sweep.py": 4,
}


@pytest.mark.users
@pytest.mark.parametrize(("script", "figures"), FIGURES.items())
def test_a_quick_run_writes_what_the_contract_says(script, figures, tmp_path):
    out = tmp_path / "out.json"
    setting = os.environ | {"XLA_FLAGS": ""}
    subprocess.run(
        [sys.executable, BENCHMARKS / script, "--quick", "--json", out],
        env=setting,
        check=True,
        capture_output=True,
    )
    report = json.loads(out.read_text())
    assert set(report) >= {"machine", "versions", "rows", "checks"}
    assert len(report["checks"]) == figures
    assert report["rows"]
    for check in report["checks"]:
        assert set(check) >= {"name", "value", "unit", "target", "ok"}
        if check["unit"] in ("s", "M/s", "x"):
            continue  # depends on the machine
        assert check["ok"], check


def test_float32_agrees_with_independent_float64():
    assert forward_error(20_000) < 2e-6


def test_gradients_agree_with_float64_differences():
    assert gradient_error(200) < 1e-4
