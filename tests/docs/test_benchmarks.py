"""Benchmarks run, keep their contract, and are right; how fast they find the machine is not tested.

The quick runs carry the mark `users`: the second CI job runs them, compiled as users compile.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import accuracy
import pytest
from throughput import forward_error, gradient_error

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FIGURES = {
    "throughput.py": 16,
    "paper_requirements.py": 3,
    "paper_studies.py": 3,
    "calibrated.py": 17,
    "experts.py": 16,
    "sweep.py": 4,
    "traces.py": 3,
}
"""The checks that a quick run of each script writes."""

OF_THE_MACHINE = ("s", "ns", "M/s", "x")
"""Units of the figures that depend on the machine."""


@pytest.mark.slow
@pytest.mark.parametrize(("script", "figures"), FIGURES.items())
def test_a_quick_run_writes_what_the_contract_says(script, figures, tmp_path):
    out = tmp_path / "out.json"
    command = [sys.executable, BENCHMARKS / script, "--quick", "--json", out]
    subprocess.run(command, env=os.environ | {"XLA_FLAGS": ""}, check=True, capture_output=True)
    report = json.loads(out.read_text())
    assert set(report) >= {"machine", "versions", "rows", "checks"}
    assert len(report["checks"]) == figures
    assert report["rows"]
    for check in report["checks"]:
        assert set(check) >= {"name", "value", "unit", "target", "ok"}
        assert check["ok"] or check["unit"] in OF_THE_MACHINE, check


@pytest.mark.parametrize("data", [None, "a folder without tables"])
def test_accuracy_says_how_to_get_tables(data, tmp_path, monkeypatch, capsys):
    out, given = tmp_path / "out.json", [] if data is None else ["--data", str(tmp_path)]
    monkeypatch.setattr(accuracy, "data_folder", lambda: None)
    monkeypatch.setattr(sys, "argv", ["accuracy.py", "--quick", "--json", str(out), *given])
    accuracy.main()
    assert 'pip install "diffgenz[calibration]"' in capsys.readouterr().out
    report = json.loads(out.read_text())
    assert (report["rows"], report["checks"]) == ([], [])


def test_float32_agrees_with_independent_float64():
    assert forward_error(20_000) < 2e-6


def test_gradients_agree_with_float64_differences():
    assert gradient_error(200) < 1e-4
