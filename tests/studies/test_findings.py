"""Findings: tables, scenarios, maps, histograms and files of what a sweep kept."""

import csv
import itertools

import numpy as np
import pytest
from pyarrow import parquet
from support import CHIP, NODE, make_cluster
from sweep_cases import kept, scenario, space, varied

import diffgenz as dgz
from diffgenz import Accelerator, InputError, Level, Mix, Platform, axes
from diffgenz.inference.metrics import metrics_of
from diffgenz.inference.mix import metrics_with_flags

OPTIONS = {
    "derived": {"idle_power": "20 * sqrt(peak_flops[bf16] / 1e14)"},
    "quantities": {
        "board_power": "idle_power + memory_bandwidth / 1e11",
        "twice": "2 * board_power",
    },
}


@pytest.fixture(scope="module")
def found():
    """A sweep of 480 configurations."""
    return dgz.sweep(space(20, **OPTIONS), kept(), batch=256)


def test_tables_have_axes_quantities_and_metrics(found):
    table = found.table("top", 3)
    assert list(table)[:7] == ["index", *varied(), "board_power", "twice"]
    assert set(table) >= {"tpot", "memory.total", "energy_per_output_token"}
    assert table["index"] == found.indices("top")[:3]
    for name, column in found.space.coordinates(table["index"]).items():
        assert table[name] == column
    assert table["twice"] == pytest.approx([2 * power for power in table["board_power"]])
    assert table["energy_per_output_token"] == pytest.approx(
        found.goals("top")["energy_per_output_token"][:3]
    )
    frame = found.to_pandas("top")
    assert frame["index"].tolist() == found.indices("top")
    assert len(found.table("front", 0)["index"]) == 0


@pytest.mark.parametrize("name", ["top", "front", "best"])
def test_scenarios_go_back_into_estimate(found, name):
    """What they come to is the table's row; their numbers are those of its axes and formulas."""
    cases, table = found.scenarios(name, 4), found.table(name, 4)
    assert len(cases) == len(table["index"]) == 4
    for row, case in enumerate(cases):
        metrics = metrics_of(dgz.estimate(case))
        assert {name: float(value) for name, value in metrics.items()} == {
            name: pytest.approx(table[name][row], rel=2e-6) for name in metrics
        }
        chip = case.platform.accelerator
        assert float(case.workload.batch) == table["batch"][row]
        assert float(case.plan.tensor) == table["plan.tensor"][row]
        power = float(chip.idle_power + chip.memory_bandwidth / 1e11)
        assert power == pytest.approx(table["board_power"][row])
    assert len(found.scenarios(name)) == len(found.indices(name))


def test_scenarios_have_the_records_that_were_chosen():
    """Also where options differ in structure, and where a mix is swept."""
    flat = Platform(Accelerator(**CHIP | {"name": "flat"}), (Level(**NODE),), 8)
    mix = Mix((scenario(), scenario().replace(workload=dgz.Workload(16, 100, 30))), (1, 3))
    both = dgz.Space(
        mix,
        {
            "platform": axes.choice({"cluster": make_cluster(8), "flat": flat}),
            "memory_bandwidth": axes.values(2e12, 3e12),
            "scenarios[1].plan.tensor": axes.values(1, 4),
        },
    )
    findings = dgz.sweep(both, {"top": dgz.Top(minimize="tpot", count=8)}, batch=64)
    table = findings.table("top")
    assert len(table["index"]) == 8
    for row, case in enumerate(findings.scenarios("top")):
        assert isinstance(case, Mix)
        levels = {"cluster": 2, "flat": 1}[table["platform"][row]]
        assert [len(part.platform.network) for part in case.scenarios] == [levels, levels]
        metrics = metrics_with_flags(case)
        for name in ("tpot", "ttft", "throughput", "energy_per_output_token", "tpot[1]"):
            assert float(metrics[name]) == pytest.approx(table[name][row], rel=2e-6)
        parts = [float(dgz.estimate(part).tpot) for part in case.scenarios]
        assert max(parts) == pytest.approx(table["tpot"][row], rel=2e-6)


def test_maps_have_axes(found):
    dataset = found.to_xarray("best")
    assert dict(dataset.sizes) == {"batch": 2, "plan.tensor": 3}
    goal = dataset["tokens_per_second_per_accelerator"]
    np.testing.assert_array_equal(goal, found.map("best"))
    assert np.isnan(found.map("best")[:, 2]).all()  # 16 ranks are too many
    fastest = found.map("best", "memory_bandwidth")
    np.testing.assert_array_equal(dataset["memory_bandwidth"], fastest)
    assert fastest[:, 2].tolist() == [None, None]


def test_histograms_count_and_tell_shares(found):
    edges, counts = found.counts("spread")
    assert (edges.shape, counts.shape) == ((21,), (22,))
    assert counts.sum() == found.tally.feasible
    quantiles = [found.quantile("spread", share) for share in (0.1, 0.5, 0.9)]
    assert all(low < high for low, high in itertools.pairwise(quantiles))


def test_goals_are_those_of_the_kept(found):
    table = found.table("front")
    for formula, values in found.goals("front").items():
        np.testing.assert_allclose(values, table[formula], rtol=2e-6)
    assert found.goals("spread") == {}
    assert found.overflow("front") == found.overflow("top") == 0


def test_tables_are_saved(found, tmp_path):
    found.write_table("top", tmp_path / "top.csv", 3)
    with (tmp_path / "top.csv").open() as file:
        header, *rows = csv.reader(file)
    table = found.table("top", 3)
    assert header == list(table)
    assert [float(row[header.index("tpot")]) for row in rows] == table["tpot"]
    found.write_table("top", tmp_path / "top.parquet")
    saved = parquet.read_table(tmp_path / "top.parquet").to_pydict()
    assert saved["index"] == found.indices("top")
    with pytest.raises(InputError, match=r"out: 'top.xlsx' is of no known kind; use .csv or"):
        found.write_table("top", tmp_path / "top.xlsx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["top.csv", "top.parquet"]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda found: found.indices("tap"), "reduction: 'tap' is not known; did you mean top"),
        (lambda found: found.indices("spread"), "reduction: spread is a histogram"),
        (lambda found: found.scenarios("spread"), "reduction: spread is a histogram"),
        (lambda found: found.counts("top"), "reduction: 'top' is not a histogram"),
        (lambda found: found.map("top"), "reduction: 'top' is not a map"),
        (lambda found: found.map("best", "colour"), "axis: 'colour' is not known"),
        (
            lambda found: found.quantile("spread", 2.0),
            "share: 2 is not allowed; it must be between 0 and 1",
        ),
        (lambda found: found.to_xarray("top"), "reduction: 'top' is not a map"),
        (lambda found: found.to_xarray("tap"), "reduction: 'tap' is not"),
    ],
)
def test_bad_questions_are_refused(found, ask, message):
    with pytest.raises(InputError, match=message):
        ask(found)
