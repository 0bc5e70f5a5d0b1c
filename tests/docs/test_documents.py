"""What README and docs/ show is what the code does: commands print it, Python blocks run.

A block of commands that is too dear to run has a line `<!-- not run: REASON -->` above it; a block
that is a file for them has `<!-- file: NAME -->`. A line "..." stands for any lines of output.
"""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from diffgenz.ui.cli.main import main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCS = {path.name: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}
FENCE = re.compile(r"(?:<!-- (not run|file): ([^\n]+?) -->\n)?```(\w+)\n(.*?)\n```", re.S)
PROMPT = "$ diffgenz "
PYTHON = re.compile(r"```python\n(.*?)```", re.S)
NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?")


def consoles():
    """Each block of commands with the files of its document; README's are run everywhere, those of
    docs/ in CI's second job."""
    for name, text in {"README.md": README, **DOCS}.items():
        marks = () if name == "README.md" else pytest.mark.slow
        found = FENCE.findall(text)
        files = {about: body for what, about, _, body in found if what == "file"}
        for number, (what, _, kind, body) in enumerate(found):
            if kind == "console" and what != "not run":
                yield pytest.param(files, body, id=f"{name}-{number}", marks=marks)


def check_alike(printed, shown):
    """The same words, and the same numbers to one unit of the third digit."""
    words = [re.sub(r"[-\s]+", " ", NUMBER.sub("#", text)) for text in (printed, shown)]
    assert words[0] == words[1]
    for now, then in zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True):
        expected = float(then.replace(",", ""))
        assert float(now.replace(",", "")) == pytest.approx(expected, rel=0.011)


@pytest.mark.parametrize(("files", "block"), list(consoles()))
def test_commands_print_what_is_shown(files, block, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("examples").symlink_to(ROOT / "examples")
    monkeypatch.delenv("COLUMNS")  # as where output is piped
    for name, text in files.items():
        Path(name).write_text(f"{text}\n")
    assert block.startswith(PROMPT)
    for part in block.removeprefix(PROMPT).split(f"\n{PROMPT}"):
        command, shown = part.split("\n", 1)
        assert main(shlex.split(command)) == 0
        printed = capsys.readouterr().out.strip("\n")
        if "..." in shown.split("\n"):
            printed, shown = without_elided(printed, shown)
        check_alike(printed, shown)


def without_elided(printed, shown):
    """Both texts without the lines that "..." stands for."""
    lines, asked = printed.split("\n"), shown.split("\n")
    place = asked.index("...")
    after = len(asked) - place - 1
    assert len(lines) >= place + after
    kept = lines[:place] + lines[len(lines) - after :]
    return "\n".join(kept), "\n".join(asked[:place] + asked[place + 1 :])


def test_all_that_is_shown_of_commands_is_run_or_says_why_not():
    for name, text in {"README.md": README, **DOCS}.items():
        for what, about, kind, body in FENCE.findall(text):
            if PROMPT in body:
                assert kind == "console", f"{name}: {body[:60]}"
            if what == "not run":
                assert len(about) > 10, f"{name}: say why"
        assert text.count("<!-- not run:") + text.count("<!-- file:") == sum(
            bool(what) for what, *_ in FENCE.findall(text)
        ), f"{name}: a remark stands above no block"


def test_python_of_every_document_is_run():
    """Each has a test of its own below."""
    run = {"python.md", "sweeps.md", "serving.md", "formats.md", "calibration.md"}
    run |= {"routing.md", "synthetic_traces.md", "technology.md"}
    assert {name for name, text in DOCS.items() if PYTHON.search(text)} == run


def names_of(text, **given):
    """The names that the Python blocks of a document define, run one after the other."""
    names = dict(given)
    for block in PYTHON.findall(text):
        exec(compile(block, "document", "exec"), names)
    return names


def test_python_of_the_readme_runs_and_says_what_it_promises():
    names = names_of(README)
    assert bool(names["now"].memory.fits)
    assert names["where"].rows("tpot")["gate_up"]["memory"] > 0
    assert names["card"]["accelerator.memory_bandwidth"] < 0
    assert names["best"].metrics["tpot"] <= 0.02
    assert names["surface"].shape == (1_000_000,)


@pytest.mark.slow
def test_python_of_python():
    names = names_of(DOCS["python.md"])
    assert names["slopes"].network[0].latency > 0
    assert float(names["excess"](names["bandwidth"])) == pytest.approx(0, abs=1e-7)
    assert float(names["need"].decode.memory_bandwidth) < 3.35e12
    assert 0 < float(names["cost"].stage_seconds) <= float(names["cost"].seconds)
    assert names["found"].tally.tried == 4


@pytest.mark.slow
def test_python_of_sweeps(monkeypatch):
    monkeypatch.chdir(ROOT)
    names = names_of(DOCS["sweeps.md"])
    assert names["found"].tally.tried == names["space"].size


@pytest.mark.slow
def test_python_of_technology():
    names = names_of(DOCS["technology.md"])
    assert 700 < float(names["build"].die_area) < 900


@pytest.mark.slow
def test_python_of_serving():
    names = names_of(DOCS["serving.md"])
    assert names["now"].tpot < names["now"].mixed_tpot
    assert names["loaded"].ttft.mean < names["loaded"].ttft.p99
    assert names["burst"].ttft.max() > names["burst"].ttft.min()


@pytest.mark.slow
def test_python_of_formats():
    assert names_of(DOCS["formats.md"])["shipped"].weights == "mxfp4"


@pytest.mark.slow
def test_python_of_calibration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    import diffgenz as dgz

    text = DOCS["calibration.md"].replace(', fit="fit.toml"', "")
    names_of(text, dgz=dgz, model=dgz.load_model("meta-llama/Llama-3.1-8B"), chat=dgz.Workload())


@pytest.mark.slow
def test_python_of_routing_writes_the_example(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = names_of(DOCS["routing.md"])
    found = names["found"].table("map")
    shown = re.findall(r"^\| (\d+ groups[^|]*) \|(.*)\|$", DOCS["routing.md"], flags=re.M)
    told = [float(cell) for _, cells in shown for cell in cells.split("|")]
    assert [label for label, _ in shown for _ in range(3)] == list(found["layout"])
    np.testing.assert_allclose(1e3 * np.asarray(found["tpot"]), told, atol=0.06)
    with np.load("routing_trace.npz") as now, np.load(ROOT / "examples/routing_trace.npz") as then:
        assert set(now) == set(then)
        for name in now:
            np.testing.assert_array_equal(now[name], then[name])


def test_both_setup_commands_are_whole():
    lines = re.findall(r"```bash\n(.*?)\n```", README, flags=re.S)
    assert len(lines) >= 2
    start = "python3 -m venv .venv && .venv/bin/pip install"
    assert all(line.startswith(start) for line in lines[:2])
    assert lines[1] in (ROOT / ".ci" / "run").read_text()


def test_the_readme_is_short():
    assert README.count("\n") <= 120


def test_links_lead_somewhere():
    for name, text in {"README.md": README, **{f"docs/{n}": t for n, t in DOCS.items()}}.items():
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert ((ROOT / name).parent / target).exists(), f"{name}: {target}"
