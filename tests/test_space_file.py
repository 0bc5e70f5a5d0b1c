"""Space files: what people write, and how mistakes are named."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

import diffgenz as dgz
from diffgenz.core.sections import quantity
from diffgenz.studies.sweep.sweep import Pace
from diffgenz.ui.cli.main import main
from diffgenz.ui.labels import shown
from diffgenz.ui.plots.sweep import parallel_plot, plot

EXAMPLES = Path(__file__).parents[1] / "examples"
TINY = """
constraints = ["fits", "tpot <= 0.02"]
[scenario]
model = "meta-llama/Llama-3.1-8B"
system = "h100_sxm"
gpus = 2
isl = 512
osl = 64
[axes]
memory_bandwidth = { values = ["2 TB/s", "4 TB/s"] }
plan = { plans = "all" }
batch = { values = [1, 8, 64] }
[keep.front]
kind = "pareto"
minimize = ["tpot"]
maximize = ["throughput"]
[keep.map]
kind = "best"
by = ["memory_bandwidth", "batch"]
maximize = "throughput"
[keep.slow]
kind = "histogram"
of = "tpot"
low = 1e-4
high = 1
bins = 4
logarithmic = true
"""


@pytest.fixture
def written(tmp_path):
    def write(text=TINY, name="tiny.toml"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The folder of one sweep, made by the command."""
    folder = tmp_path_factory.mktemp("swept")
    (folder / "tiny.toml").write_text(TINY)
    assert main(["sweep", str(folder / "tiny.toml"), "--out", str(folder / "out")]) == 0
    return folder / "out"


def test_a_file_is_the_space_that_python_would_make(written):
    space, reductions = dgz.load_space(written())
    assert space.size == 2 * 4 * 3
    assert {name: type(reduction).__name__ for name, reduction in reductions.items()} == {
        "front": "Pareto",
        "map": "Best",
        "slow": "Histogram",
    }
    assert space.coordinates([23]) == {
        "memory_bandwidth": [pytest.approx(4e12)],
        "plan": ["tp 2"],
        "batch": [64.0],
    }
    made = space.configuration(23)
    platform = dgz.load_platform("h100_sxm", 2)
    platform = platform.replace(accelerator=platform.accelerator.replace(memory_bandwidth=4e12))
    by_hand = dgz.estimate(
        dgz.load_model("meta-llama/Llama-3.1-8B"),
        platform,
        dgz.Workload(64, 512, 64),
        dgz.Parallelism(2),
    )
    served = made.served[0]
    assert float(
        dgz.estimate(served.model, made.platform, served.workload, served.plan).tpot
    ) == pytest.approx(float(by_hand.tpot), rel=1e-6)


AXES = {
    "linear": ("launch_latency = { linear = ['1 us', '3 us'], count = 3 }", [1e-6, 2e-6, 3e-6]),
    "geometric": (
        "memory_capacity = { geometric = ['50 GB', '200 GB'], count = 3 }",
        [50e9, 100e9, 200e9],
    ),
    "integers": ("input_tokens = { integers = [128, 512], step = 128 }", [128, 256, 384, 512]),
    "numbers in SI": ("'peak_flops[bf16]' = { values = [1e15] }", [1e15]),
    "systems": ("chip = { systems = ['h100_sxm', 'h200_sxm'] }", ["h100_sxm", "h200_sxm"]),
    "other structure": ("chip = { systems = ['h100_sxm', 'mi300x'] }", ["h100_sxm", "mi300x"]),
    "models": (
        "model = { models = ['Qwen/Qwen3-8B', 'Qwen/Qwen3-32B'] }",
        ["Qwen/Qwen3-8B", "Qwen/Qwen3-32B"],
    ),
    "plans": ("plan = { plans = [{ tp = 2 }, { dp = 2 }, {}] }", ["tp 2", "dp 2", "tp 1"]),
    "formats": (
        "formats = { formats = [{}, { weights = 'fp8', kv-cache = 'fp8' }] }",
        ["bf16", "weights fp8, kv_cache fp8"],
    ),
    "options": (
        "hbm = { options = { a = { memory_bandwidth = '1 TB/s', memory_capacity = '40 GB' } } }",
        ["a"],
    ),
    "sampled": ("batch = { values = [1, 2], sampled = true }", [1, 2]),
}


@pytest.mark.parametrize("kind", AXES)
def test_axes(kind, written):
    line, levels = AXES[kind]
    samples = "samples = 4\n" if "sampled" in line else ""
    text = (
        samples
        + TINY[: TINY.index("memory_bandwidth")]
        + line
        + '\n[keep.t]\nkind = "top"\nminimize = "tpot"'
    )
    space, _ = dgz.load_space(written(text))
    found = space.level_values(next(iter(space.axes)))
    assert found == levels if isinstance(levels[0], str) else found == pytest.approx(levels)


WRONG = {
    "misspelt leaf": ("memory_bandwidth =", "memory_bandwith =", r"axes\.memory_bandwith: leaf: 'memory_bandwith'.*did you mean .*memory_bandwidth"),
    "misspelt key": ("osl = 64", "olt = 64", r"tiny.toml: scenario: key: 'olt' is not known; did you mean osl"),
    "misspelt kind": ("{ plans = ", "{ plan = ", r"axes.plan: key: 'plan' is not known; did you mean plans"),
    "misspelt metric": ('"tpot <=', '"tpott <=', r"name: 'tpott' is not known; did you mean tpot"),
    "misspelt top": ("constraints =", "constraint =", r"key: 'constraint' is not known; did you mean constraints"),
    "a flag's word": ("batch = {", "isl = {", r"axes.isl: .*write input_tokens"),
    "unit of another kind": ('"2 TB/s"', '"2 TB"', r"axes.memory_bandwidth: values\[0\]: '2 TB' has the unit 'TB'"),
    "bounds the wrong way round": ("values = [1, 8, 64]", "linear = [8, 1], count = 3", r"axes.batch: axis: the lower bound 8 exceeds the upper bound 1"),
    "one bound": ("values = [1, 8, 64]", "log_uniform = [8]", r"axes.batch: log_uniform = \[8\] has 1 bounds"),
    "no count": ("values = [1, 8, 64]", "linear = [1, 8]", r"axes.batch: count is missing"),
    "two kinds": ("values = [1, 8, 64]", "values = [1], uniform = [1, 2]", r"axes.batch: has values and uniform; an axis has one"),
    "no kind": ("{ values = [1, 8, 64] }", "{ sampled = true }", r"axes.batch: does not say what the axis has"),
    "not a table": ("{ values = [1, 8, 64] }", "8", r"axes.batch: 8 is not a table"),
    "empty axis": ("values = [1, 8, 64]", "values = []", r"axes.batch: axis: it has no values"),
    "value refused": ("values = [1, 8, 64]", "values = [0.5]", r"tiny.toml: axis batch: batch: 0.5 is not allowed"),
    "sampling without samples": ("values = [1, 8, 64]", "uniform = [1, 8]", r"tiny.toml: samples: needed, since batch is sampled"),
    "list where one value goes": ("isl = 512", "isl = [512, 1024]", r"scenario.isl: \[512, 1024\] is not one value; what varies is an axis"),
    "text where a number goes": ("isl = 512", "isl = 'long'", r"scenario: argument --isl: invalid int value: 'long'"),
    "no model": ('model = "meta-llama/Llama-3.1-8B"', "", r"scenario.model: is missing; see `diffgenz list models`"),
    "no axes": (TINY[TINY.index("memory_b") : TINY.index("[keep.front]")], "", r"axes: is missing or empty"),
    "unknown reduction": ('kind = "best"', 'kind = "bests"', r"keep.map.kind: 'bests' is not one of pareto, top, best"),
    "reduction's field": ('maximize = ["throughput"]', 'maximise = ["throughput"]', r"keep.front: key: 'maximise' is not known; did you mean maximize"),
    "reduction's missing field": ("low = 1e-4", "", r"keep.slow.low: is missing; a histogram needs it"),
    "reduction's kind of value": ("bins = 4", "bins = 'many'", r"keep.slow.bins: 'many' is not a whole number"),
    "not an axis to map": ('by = ["memory_bandwidth",', 'by = ["memory_bandwith",', r"best by: 'memory_bandwith' is not known; did you mean memory_bandwidth"),
    "not TOML": ("[axes]", "[axes", r"tiny.toml: not valid TOML"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_mistake_is_named_with_its_remedy(what, written, tmp_path, capsys):
    old, new, message = WRONG[what]
    assert old in TINY
    path = written(TINY.replace(old, new, 1))
    assert main(["sweep", str(path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("diffgenz: error: ")
    assert error.count("\n") == 1
    with pytest.raises(dgz.InputError, match=message):
        raise dgz.InputError(error)
    assert not (tmp_path / "out" / "manifest.json").exists()  # so that the mended file may go there


def test_n_is_what_sampling_makes_of_it(written):
    with pytest.raises(
        dgz.InputError,
        match=r"n: 25 is larger than the space, which has 24 configurations; leave n out, or sample",
    ):
        dgz.load_space(written(), n=25)
    with pytest.raises(dgz.InputError, match="n: 5 is not all of the space"):
        dgz.load_space(written(), n=5)
    with pytest.raises(dgz.InputError, match=r"n: 1.5 is not allowed"):
        dgz.load_space(written(), n=1.5)
    assert dgz.load_space(written(), n=24).space.size == 24
    sampled = TINY.replace("values = [1, 8, 64]", "values = [1, 8, 64], sampled = true")
    assert (
        dgz.load_space(written(sampled), n=1e6 + 1).space.size == 1_000_008
    )  # 125,001 samples of 8 combinations


def test_a_mix_shares_what_stands_above_it(written):
    parts = '[[scenario.mix]]\nmodel = "Qwen/Qwen3-8B"\nshare = 3\n[[scenario.mix]]\nmodel = "meta-llama/Llama-3.1-8B"\nisl = 99\n[axes]'
    text = TINY.replace('model = "meta-llama/Llama-3.1-8B"\n', "").replace("[axes]", parts)
    scenario = dgz.load_space(written(text)).space.scenario
    assert [float(served.share) for served in scenario.served] == [3, 1]
    assert [float(served.workload.input_tokens) for served in scenario.served] == [512, 99]
    with pytest.raises(
        dgz.InputError,
        match=r"scenario.mix\[0\].gpus: all models of a mix run on the same accelerators",
    ):
        dgz.load_space(written(text.replace("share = 3", "gpus = 3")))


def test_a_system_of_ones_own_is_found_beside_the_file(written, tmp_path):
    from diffgenz.hardware.specs import specs_folder

    (tmp_path / "mine.toml").write_text((specs_folder() / "h100_sxm.toml").read_text())
    text = TINY.replace('"h100_sxm"', '"mine.toml"')
    assert main(["sweep", str(written(text)), "--out", str(tmp_path / "out")]) == 0
    assert main(["pareto", str(tmp_path / "out"), "--json"]) == 0
    (tmp_path / "mine.toml").unlink()
    assert main(["pareto", str(tmp_path / "out")]) == 2  # said, not computed with something else


def test_sweep_and_pareto(swept, capsys, tmp_path):
    table, picture, lines = tmp_path / "front.csv", tmp_path / "front.png", tmp_path / "lines.svg"
    assert (
        main(
            [
                "pareto",
                str(swept),
                "--out",
                str(table),
                "--plot",
                str(picture),
                "--parallel",
                str(lines),
                "--json",
            ]
        )
        == 0
    )
    data = json.loads(capsys.readouterr().out)
    assert data["tally"]["tried"] == data["tally"]["legal"] == 24
    tpots, throughputs = ([row[name] for row in data["rows"]] for name in ("tpot", "throughput"))
    assert tpots == sorted(tpots)
    assert throughputs == sorted(
        throughputs
    )  # a front of two goals: more of one costs some of the other
    assert len(table.read_text().splitlines()) == 1 + data["count"]
    assert picture.stat().st_size > 5000
    assert lines.read_bytes().startswith(b"<?xml")
    assert main(["pareto", str(swept), "--top", "1"]) == 0
    text = capsys.readouterr().out
    assert f"and {data['count'] - 1} more" in text
    assert "TPOT, ms" in text


def test_maps_and_histograms(swept, capsys, tmp_path):
    assert (
        main(
            [
                "pareto",
                str(swept),
                "--keep",
                "map",
                "--value",
                "plan",
                "--json",
                "--plot",
                str(tmp_path / "plan.png"),
            ]
        )
        == 0
    )
    cells = json.loads(capsys.readouterr().out)["map"]["cells"]
    assert np.shape(cells) == (2, 3)
    assert {cell for row in cells for cell in row} <= {"tp 2", "dp 2", "pp 2"}
    assert main(["pareto", str(swept), "--keep", "map", "--plot", str(tmp_path / "goal.png")]) == 0
    assert main(["pareto", str(swept), "--keep", "slow", "--plot", str(tmp_path / "slow.png")]) == 0
    assert capsys.readouterr().out.count("wrote") == 2
    assert main(["pareto", str(swept), "--value", "plan"]) == 2
    assert main(["pareto", str(swept), "--keep", "nothing"]) == 2
    assert main(["pareto", str(tmp_path)]) == 2
    errors = capsys.readouterr().err
    for message in (
        "front is not a map",
        "'nothing' is not known; known are front, map, slow",
        "holds no sweep",
    ):
        assert message in errors


def test_shards_merge_and_others_are_refused(swept, written, tmp_path, capsys):
    path = written()
    for number in (1, 2):
        assert (
            main(
                ["sweep", str(path), "--shard", f"{number}/2", "--out", str(tmp_path / f"{number}")]
            )
            == 0
        )
    assert (
        main(["merge", str(tmp_path / "1"), str(tmp_path / "2"), "--out", str(tmp_path / "whole")])
        == 0
    )
    capsys.readouterr()
    rows = []
    for folder in (tmp_path / "whole", swept):
        assert main(["pareto", str(folder), "--json"]) == 0
        rows.append(json.loads(capsys.readouterr().out)["rows"])
    assert rows[0] == rows[1]
    assert main(["merge", str(tmp_path / "1"), "--out", str(tmp_path / "half")]) == 2
    assert (
        main(
            [
                "sweep",
                str(written(TINY.replace("512", "513"))),
                "--out",
                str(tmp_path / "other"),
                "--shard",
                "2/2",
            ]
        )
        == 0
    )
    assert (
        main(
            [
                "merge",
                str(tmp_path / "1"),
                str(tmp_path / "other"),
                "--out",
                str(tmp_path / "mixed"),
            ]
        )
        == 2
    )
    assert main(["sweep", str(path), "--shard", "3", "--out", str(tmp_path / "3")]) == 2
    assert main(["sweep", str(path), "--address", "auto", "--out", str(tmp_path / "3")]) == 2
    errors = capsys.readouterr().err
    for message in (
        "is missing; merge every shard once",
        "holds another sweep",
        "'3' is not i/n",
        "without --engine ray",
    ):
        assert message in errors


def test_nothing_feasible_says_the_tally_and_exits_3(written, tmp_path, capsys):
    path = written(TINY.replace("tpot <= 0.02", "tpot <= 1e-6"))
    assert main(["sweep", str(path), "--out", str(tmp_path / "out")]) == 3
    error = capsys.readouterr().err
    assert (
        "nothing is feasible: 24 configurations tried, 24 legal, 0 feasible (fits; tpot <= 1e-6)"
        in error
    )
    assert main(["pareto", str(tmp_path / "out")]) == 3


def test_a_front_that_overflows_is_said(written, tmp_path, capsys):
    path = written(TINY.replace('kind = "pareto"', 'kind = "pareto"\ncapacity = 1'))
    assert main(["sweep", str(path), "--out", str(tmp_path / "out")]) == 0
    assert "the front is not exact; give [keep.front] a larger capacity" in capsys.readouterr().out


def test_an_interruption_says_how_to_go_on(written, tmp_path, capsys, monkeypatch):
    from diffgenz.ui.cli import sweep as sweep_command

    whole = sweep_command.sweep

    def interrupted(*arguments, **options):
        whole(*arguments, **options)
        raise KeyboardInterrupt

    path, out = written(), tmp_path / "my out"
    monkeypatch.setattr(sweep_command, "sweep", interrupted)
    assert main(["sweep", str(path), "--out", str(out), "--n", "24", "--progress"]) == 130
    error = capsys.readouterr().err
    assert "100.0 %  24 of 24" in error
    assert "front " in error
    command = shlex.split(error.rsplit("go on with: ", 1)[1])
    monkeypatch.setattr(sweep_command, "sweep", whole)
    assert command[-1] == "--resume"
    assert main(command[1:]) == 0
    assert main(command[1:-1]) == 2  # what is there already is not overwritten unasked
    assert "holds this sweep already; resume it" in capsys.readouterr().err


def test_seconds_left():
    assert Pace(25, 100, 5.0, None).seconds_left == 15


def test_columns_have_the_units_of_people():
    assert shown("network[0].bandwidth") == ("network[0].bandwidth, GB/s", 1e-9)
    assert shown("memory_bandwidth") == ("memory_bandwidth, TB/s", 1e-12)
    assert shown("tpot[1]") == ("TPOT, ms [1]", 1e3)
    assert shown("price") == ("price, USD/h", 3600.0)
    assert shown("price", {"price"}) == ("price", 1.0)  # a quantity of that name
    assert shown("tpot / price") == ("tpot / price", 1.0)
    assert quantity("x", "60 pJ/B", "J/B") == pytest.approx(60e-12)
    assert quantity("x", "132", None) == 132
    with pytest.raises(dgz.InputError, match="x: True is not a quantity"):
        quantity("x", True, "B")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.toml")))
def test_examples_hold_what_they_ask(name, tmp_path):
    space, reductions = dgz.load_space(EXAMPLES / f"{name}.toml")
    small = {"accelerators": 2**10, "best_plan_map": 2**14, "prefill_or_decode": space.size}[name]
    findings = dgz.sweep(
        space, reductions, shard=(1, space.size // small), batch=2**10, out=tmp_path / "out"
    )
    assert findings.tally.feasible > 0
    for kept in reductions:
        plot(findings, kept, tmp_path / "a.png") if kept != "best" else parallel_plot(
            findings, kept, tmp_path / "a.png"
        )
        assert (tmp_path / "a.png").stat().st_size > 5000
