"""`diffgenz sweep`, `pareto` and `merge` from end to end."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from space_cases import TINY
from ui_cases import run, run_json

import diffgenz as dgz
from diffgenz.hardware.specs import specs_folder
from diffgenz.studies.sweep import sweep as sweeping
from diffgenz.ui.cli.main import main
from diffgenz.ui.plots.parallel import parallel_plot
from diffgenz.ui.plots.sweep import plot
from diffgenz.ui.text.sweep import duration

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def written(tmp_path):
    def write(text=TINY):
        (tmp_path / "tiny.toml").write_text(text)
        return str(tmp_path / "tiny.toml")

    return write


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The folder of one sweep, made by the command."""
    folder = tmp_path_factory.mktemp("swept")
    (folder / "tiny.toml").write_text(TINY)
    assert main(["sweep", str(folder / "tiny.toml"), "--out", str(folder / "out")]) == 0
    return folder / "out"


def test_a_front_is_shown_saved_and_drawn(swept, capsys, tmp_path):
    table, picture, lines = (tmp_path / name for name in ("a.csv", "a.png", "a.svg"))
    files = ("--out", str(table), "--plot", str(picture), "--parallel", str(lines))
    data = run_json(capsys, "pareto", str(swept), *files)
    assert data["tally"]["tried"] == data["tally"]["legal"] == 24
    tpots, throughputs = ([row[name] for row in data["rows"]] for name in ("tpot", "throughput"))
    assert throughputs == sorted(throughputs, reverse=True)  # the goal to maximise comes first
    assert tpots == sorted(tpots, reverse=True)  # of two goals, more of one costs some of the other
    again = run_json(capsys, "pareto", str(swept), "--sort", "tpot")["rows"]
    assert [row["tpot"] for row in again] == tpots[::-1]
    lines_of_table = table.read_text().splitlines()
    assert len(lines_of_table) == 1 + data["count"]
    first = dict(zip(lines_of_table[0].split(","), lines_of_table[1].split(","), strict=False))
    assert int(first["index"]) == data["rows"][0]["index"]  # the best first, as on the screen
    assert picture.stat().st_size > 5000
    assert lines.read_bytes().startswith(b"<?xml")
    text = run(capsys, "pareto", str(swept), "--top", "1")
    assert f"and {data['count'] - 1} more" in text
    assert text.splitlines()[1].startswith("kernels as measured, of vllm")
    header = text.splitlines()[3].split("  ")
    assert [label for label in header if label] == [
        *("index", "memory_bandwidth, TB/s", "plan", "batch", "TPOT, ms", "tok/s"),
        *("TTFT, ms", "tok/s/user", "tok/s/GPU", "memory, GB"),
    ]


def test_maps_and_histograms(swept, capsys, tmp_path):
    picture = ("--plot", str(tmp_path / "a.png"))
    data = run_json(capsys, "pareto", str(swept), "--keep", "map", "--value", "plan", *picture)
    cells = data["map"]["cells"]
    assert np.shape(cells) == (2, 3)
    assert {cell for row in cells for cell in row} <= {"tp 2", "dp 2", "pp 2"}
    for name in ("map", "slow"):
        assert "wrote" in run(capsys, "pareto", str(swept), "--keep", name, *picture)
    slow = run(capsys, "pareto", str(swept), "--keep", "slow").splitlines()
    assert slow[3].split() == ["TPOT,", "ms", "from", "to", "configurations"]
    assert len(slow) == 5 + 6  # below, four bins, above
    counts = run_json(capsys, "pareto", str(swept), "--keep", "slow")["counts"]
    assert sum(counts) == data["tally"]["feasible"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--value", "plan"], "front is not a map"),
        (["--keep", "nothing"], "'nothing' is not known; known are front, map, slow"),
        (["--top", "0"], "--top: 0 is not allowed"),
        (["--sort", "ttft"], "sort: 'ttft' is not known; did you mean tpot"),
        (["--plot", "a.xyz"], "plot: 'a.xyz' is of no known kind"),
    ],
)
def test_what_pareto_refuses(flags, message, swept, capsys):
    assert main(["pareto", str(swept), *flags]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_without_a_sweep(tmp_path, capsys):
    assert main(["pareto", str(tmp_path)]) == 2
    assert "holds no sweep" in capsys.readouterr().err


def test_a_system_of_ones_own_must_stay_where_it_is(written, tmp_path, capsys):
    (tmp_path / "mine.toml").write_text((specs_folder() / "h100_sxm.toml").read_text())
    out = str(tmp_path / "out")
    run(capsys, "sweep", written(TINY.replace('"h100_sxm"', '"mine.toml"')), "--out", out)
    run(capsys, "pareto", out)
    (tmp_path / "mine.toml").unlink()
    assert main(["pareto", out]) == 2  # said, not computed with something else


def test_a_mistake_leaves_the_folder_free(written, tmp_path, capsys):
    wrong = {
        '"tpot <=': ('"tpott <=', "name: 'tpott' is not known; did you mean tpot"),
        'by = ["memory_bandwidth",': (
            'by = ["memory_bandwith",',
            "best by: 'memory_bandwith' is not known; did you mean memory_bandwidth",
        ),
    }
    for old, (new, message) in wrong.items():
        path = written(TINY.replace(old, new, 1))
        assert main(["sweep", path, "--out", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out" / "manifest.json").exists()


def test_shards_merge_and_others_are_refused(swept, written, tmp_path, capsys):
    path, parts = written(), [str(tmp_path / name) for name in ("1", "2")]
    for number, part in enumerate(parts, 1):
        run(capsys, "sweep", path, "--shard", f"{number}/2", "--out", part)
    run(capsys, "merge", *parts, "--out", str(tmp_path / "whole"))
    whole, alone = (
        run_json(capsys, "pareto", str(folder))["rows"] for folder in (tmp_path / "whole", swept)
    )
    assert whole == alone
    other = str(tmp_path / "other")
    changed = written(TINY.replace("512", "513"))
    run(capsys, "sweep", changed, "--shard", "2/2", "--out", other)
    for arguments, message in (
        (["merge", parts[0]], "is missing; merge every shard once"),
        (["merge", parts[0], other], "holds another sweep"),
        (["sweep", path, "--shard", "3"], "--shard: '3' is not i/n"),
        (["sweep", path, "--address", "auto"], "--address: 'auto' is of no use without --engine"),
    ):
        assert main([*arguments, "--out", str(tmp_path / "3")]) == 2
        assert message in capsys.readouterr().err


def test_nothing_feasible_says_the_tally_and_exits_3(written, tmp_path, capsys):
    path = written(TINY.replace("tpot <= 0.02", "tpot <= 1e-6"))
    assert main(["sweep", path, "--out", str(tmp_path / "out")]) == 3
    tally = "24 configurations tried, 24 legal, 0 feasible (fits; tpot <= 1e-6)"
    assert f"nothing is feasible: {tally}" in capsys.readouterr().err
    assert main(["pareto", str(tmp_path / "out")]) == 3


def test_a_front_that_overflows_is_said(written, tmp_path, capsys):
    path = written(TINY.replace('kind = "pareto"', 'kind = "pareto"\ncapacity = 1'))
    text = run(capsys, "sweep", path, "--out", str(tmp_path / "out"))
    assert "warning: front: the front is not exact: it had room for 1 points, and " in text
    assert "[keep.front] capacity = " in text
    assert "exact: nothing that was tried beats" not in text
    again = run(capsys, "pareto", str(tmp_path / "out"))
    assert "the front is not exact" in again


def test_an_interruption_says_how_to_go_on(written, tmp_path, capsys, monkeypatch):
    whole = sweeping.sweep

    def interrupted(*arguments, **options):
        whole(*arguments, **options)
        raise KeyboardInterrupt

    path, out = written(), tmp_path / "my out"
    monkeypatch.setattr(sweeping, "sweep", interrupted)
    assert main(["sweep", path, "--out", str(out), "--n", "24", "--progress"]) == 130
    error = capsys.readouterr().err
    assert "24 configurations, 1 program; compiling" in error
    assert "100.0 %  24 of 24" in error
    assert "front " in error
    command = shlex.split(error.rsplit("go on with: ", 1)[1])
    monkeypatch.setattr(sweeping, "sweep", whole)
    assert command[-1] == "--resume"
    assert main(command[1:]) == 0
    assert main(command[1:-1]) == 2  # what is there already is not overwritten unasked
    assert "holds this sweep already; resume it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(15.2, "15 s"), (75, "1 min 15 s"), (3725, "1 h 02 min"), (float("inf"), "?")],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_seconds_left():
    assert sweeping.Pace(25, 100, 5.0, None).seconds_left == 15


@pytest.mark.slow
@pytest.mark.parametrize("name", ["accelerators", "best_plan_map", "prefill_or_decode"])
def test_examples_hold_what_they_ask(name, tmp_path):
    space, reductions = dgz.load_space(EXAMPLES / f"{name}.toml")
    sizes = {"accelerators": 2**10, "best_plan_map": 2**14}
    shard = (1, space.size // sizes.get(name, space.size))
    findings = dgz.sweep(space, reductions, shard=shard, batch=2**10, out=tmp_path / "out")
    assert findings.tally.feasible > 0
    picture = tmp_path / "a.png"
    for kept in reductions:
        draw = parallel_plot if kept == "best" else plot
        draw(findings, kept, picture)
        assert picture.stat().st_size > 5000


def test_power_is_known_by_name_and_an_exact_front_is_said(written, tmp_path, capsys):
    text = TINY.replace('"tpot <= 0.02"', '"tpot <= 0.02", "power <= 700"').replace(
        'minimize = ["tpot"]', 'minimize = ["power"]'
    )
    out = str(tmp_path / "out")
    assert "points, exact: nothing that was tried" in run(
        capsys, "sweep", written(text), "--out", out
    )
    data = run_json(capsys, "pareto", out)
    assert all(0 < row["power"] <= 700 for row in data["rows"])
    throughputs = [row["throughput"] for row in data["rows"]]
    assert throughputs == sorted(throughputs, reverse=True)  # the best first
    assert "W/GPU" in run(capsys, "pareto", out)


def test_json_of_a_sweep(written, tmp_path, capsys):
    data = run_json(capsys, "sweep", written(), "--out", str(tmp_path / "out"))
    assert data["size"] == data["tally"]["tried"] == 24
    assert data["kept"]["map"] == {"kind": "best", "count": 6, "overflow": 0}
    assert json.dumps(data, allow_nan=False)
