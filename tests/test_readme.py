"""What README shows is what the code does: its commands print what stands there, its Python runs."""

import re
import shlex
from pathlib import Path

import pytest

from diffgenz.ui.cli.main import main

README = (Path(__file__).parents[1] / "README.md").read_text()
SERVING = (Path(__file__).parents[1] / "docs" / "serving.md").read_text()
SWEEPS = (Path(__file__).parents[1] / "docs" / "sweeps.md").read_text()
CALIBRATION = (Path(__file__).parents[1] / "docs" / "calibration.md").read_text()
FORMATS = (Path(__file__).parents[1] / "docs" / "formats.md").read_text()
CONSOLE = [
    pytest.param(command, shown, id=command, marks=() if text is README else pytest.mark.slow)
    for text in (README, SERVING, FORMATS, CALIBRATION)
    for command, shown in re.findall(r"```console\n\$ diffgenz (.*?)\n(.*?)\n```", text, flags=re.S)
]
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.S)
NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?")


@pytest.mark.parametrize(("command", "shown"), CONSOLE)
def test_commands_print_what_readme_shows(command, shown, capsys):
    assert main(shlex.split(command)) == 0
    check_alike(capsys.readouterr().out.strip(), shown)


def check_alike(printed, shown):
    words = [re.sub(r"[-\s]+", " ", NUMBER.sub("#", text)) for text in (printed, shown)]
    assert words[0] == words[1]
    for now, then in zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True):
        assert float(now.replace(",", "")) == pytest.approx(
            float(then.replace(",", "")), rel=0.011
        )  # one unit of the third digit


def test_the_sweep_runs_and_prints_what_readme_shows(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("space.toml").write_text(re.findall(r"```toml\n(.*?)```", README, flags=re.S)[0])
    block = re.search(r"```text\n(\$ diffgenz sweep.*?)\n```", README, flags=re.S)
    assert block
    for part in block[1].removeprefix("$ diffgenz ").split("\n$ diffgenz "):
        command, shown = part.split("\n", 1)
        assert main(shlex.split(command)) == 0
        check_alike(capsys.readouterr().out.strip(), shown)


@pytest.mark.slow
def test_python_of_sweeps_runs(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])
    names = {}
    exec(
        compile(
            "".join(re.findall(r"```python\n(.*?)```", SWEEPS, flags=re.S)), "sweeps.md", "exec"
        ),
        names,
    )
    assert names["found"].tally.tried == names["space"].size


def test_python_runs_and_says_what_it_promises():
    names = {}
    for block in PYTHON:
        exec(compile(block, "README.md", "exec"), names)
    assert bool(names["now"].memory.fits)
    assert names["where"].rows("tpot")["gate_up"]["memory"] > 0
    assert names["card"]["accelerator.memory_bandwidth"] < 0
    assert names["surface"].shape == (1_000_000,)
    assert names["slopes"].network[0].latency > 0
    assert float(names["need"].decode.memory_bandwidth) < 3.35e12
    assert float(names["excess"](names["bandwidth"])) == pytest.approx(0, abs=1e-7)


@pytest.mark.slow
def test_python_of_serving_runs():
    names = {}
    exec(
        compile(
            "".join(re.findall(r"```python\n(.*?)```", SERVING, flags=re.S)), "serving.md", "exec"
        ),
        names,
    )
    assert names["now"].tpot < names["now"].mixed_tpot


def test_both_setup_commands_are_whole():
    lines = re.findall(r"```bash\n(.*?)\n```", README, flags=re.S)
    assert len(lines) >= 2
    assert all(
        line.startswith("python3 -m venv .venv && .venv/bin/pip install") for line in lines[:2]
    )
    assert lines[1] in (Path(__file__).parents[1] / ".ci" / "run").read_text()
