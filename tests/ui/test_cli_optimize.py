"""`diffgenz optimize` from end to end, on a small study; what cannot be used has one line."""

import json

import pytest
from ui_cases import run, run_json

import diffgenz as dgz
from diffgenz.ui.cli.main import main

STUDY = """
minimize = "dollars / throughput"
constraints = ["fits", "tpot <= 0.01"]
starts = 1

[scenario]
model = "meta-llama/Llama-3.1-8B"
system = "h100_sxm"
gpus = 1
isl = 512
osl = 64
fit = "none"

[over]
memory_bandwidth = ["1 TB/s", "16 TB/s"]
batch = [1, 64]

[quantities]
dollars = "2500 + 3e-10 * memory_bandwidth"
"""


def written(tmp_path, *changes):
    """The study with pieces of text exchanged: its path."""
    text = STUDY
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "study.toml").write_text(text)
    return str(tmp_path / "study.toml")


def test_an_optimum_is_told_saved_and_drawn(capsys, tmp_path):
    out, picture, chip = (str(tmp_path / name) for name in ("o.json", "o.png", "o.toml"))
    flags = ("--out", out, "--plot", picture, "--accelerator", chip)
    text = run(capsys, "optimize", written(tmp_path), *flags)
    for part in ("least dollars / throughput", "at its upper bound", "wrote", "tp 1"):
        assert part in text
    data = json.loads((tmp_path / "o.json").read_text())
    assert data["plans"][0]["numbers"]["batch"] == pytest.approx(64)
    assert (tmp_path / "o.png").read_bytes()[1:4] == b"PNG"
    (now,) = run_json(capsys, "technology", chip)  # it loads, and says how it is built
    assert now["stacks"] > 5
    numbers = data["exact"]["numbers"]
    loaded = dgz.load_platform(chip, 1).accelerator
    assert float(loaded.memory_bandwidth) == pytest.approx(numbers["memory_bandwidth"], rel=1e-6)


def test_what_if_has_a_row_for_each_factor(capsys, tmp_path):
    out = tmp_path / "w.json"
    path = written(tmp_path)
    text = run(capsys, "optimize", path, "--what-if", "launch_latency", "--out", str(out))
    assert "by elasticity" in text
    rows = json.loads(out.read_text())["rows"]
    assert [row["factor"] for row in rows] == [0.7, 0.9, 1.1, 1.3, 2]
    for row in rows[1:3]:
        assert row["predicted"] == pytest.approx(row["solved"], rel=2e-3)


BAD = {
    "bounds": ([('"1 TB/s", "16', '"20 TB/s", "16')], "over[memory_bandwidth]: the lower", 2),
    "leaf": ([("memory_bandwidth = [", "memory_bandwith = [")], "memory_bandwith", 2),
    "idle": ([("dollars / throughput", "launch_latency * 1e6")], "nothing that is free moves", 2),
    "integer": ([("batch = [1, 64]", "gpus = [1, 8]")], "gpus", 2),
    "NaN": ([("3e-10 * memory_b", "log(-1) * memory_b")], "dollars", 2),
    "scenario": ([("Llama-3.1-8B", "Llama-9-8B")], "Llama-9-8B", 2),
    "unattainable": ([("tpot <= 0.01", "tpot <= 1e-5")], "tpot <= 1e-05 to ", 3),
    "empty": ([("[over]", "[overs]")], "overs", 2),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_used_is_told_in_one_line(kind, capsys, tmp_path):
    changes, words, code = BAD[kind]
    assert main(["optimize", written(tmp_path, *changes)]) == code
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.startswith("diffgenz: ")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--points", "4"), "--points: is of a front"),
        (("--front", "tpot", "--worth", "launch_latency=2"), "ask one at a time"),
        (("--what-if", "launch_latency", "--plot", "a.png"), "--what-if has no picture"),
        (("--plot", "a.tex"), "is of no known kind"),
        (("--path", "launch_latency"), "is no NAME=FACTOR"),
        (("--worth", "launch_latency=1"), "a factor of 1 changes nothing"),
        (("--what-if", "memory_bandwidth"), "it is free or chosen"),
    ],
)
def test_flags_that_do_not_go_together_are_told(flags, words, capsys, tmp_path):
    assert main(["optimize", written(tmp_path), *flags]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
