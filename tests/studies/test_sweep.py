"""Sweeps against single estimates and brute force; what is compiled; what memory they take."""

import itertools
import json

import numpy as np
import pytest
from pyarrow import parquet
from support import CHIP, NODE, make_cluster
from sweep_cases import (
    assert_same,
    brute_front,
    finished,
    kept,
    python,
    result,
    scenario,
    space,
    varied,
)

import diffgenz as dgz
from diffgenz import Accelerator, InputError, Level, Platform, axes
from diffgenz.core import verb
from diffgenz.studies.sweep import program

OPTIONS = {
    "derived": {"idle_power": "20 * sqrt(peak_flops[bf16] / 1e14)"},
    "quantities": {
        "power": "idle_power + memory_bandwidth / 1e11",
        "odd": "log(batch - 1)",
        "per_watt": "throughput / power",
    },
    "constraints": ("fits", "tpot <= 0.004 or batch > 1", "power < 150"),
}
GOALS = ("tpot", "-throughput", "power", "memory.total", "ttft")
COLUMNS = (
    *GOALS,
    "memory_bandwidth",
    "batch",
    "plan.tensor",
    "energy_per_output_token",
    "per_watt",
    "fits",
    "peak_flops[bf16]",
)


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """Spaces as small as these are answered in NumPy otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "FEW", 0)
        yield


def test_numpy_finds_the_same(swept, monkeypatch):
    """The same configurations, all their columns, and the same counts."""
    compiled, rows = swept
    monkeypatch.setattr(program, "FEW", 2**14)
    keep = {"top": dgz.Top(maximize="per_watt", count=50), "rows": dgz.Pareto(minimize=GOALS[:3])}
    found = dgz.sweep(compiled.space, keep, batch=1000)
    assert found.tally == compiled.tally
    assert set(found.indices("rows")) == set(compiled.indices("front3"))
    assert found.indices("top") == compiled.indices("top")
    table = found.table("rows")
    place = {index: row for row, index in enumerate(rows["index"].tolist())}
    mine = [place[index] for index in table["index"]]
    for name in GOALS:
        goal = name.removeprefix("-")
        values = np.abs(rows[name][mine])
        np.testing.assert_allclose(table[goal], values, rtol=2e-6, err_msg=name)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep of 10,080 configurations, and all feasible ones as rows."""
    where = tmp_path_factory.mktemp("rows")
    reductions = {f"front{count}": dgz.Pareto(minimize=GOALS[:count]) for count in (2, 3, 4, 5)}
    reductions |= {
        "top": dgz.Top(maximize="per_watt", count=50),
        "best": dgz.Best(
            by=("memory_bandwidth", "plan.tensor"), minimize="energy_per_output_token"
        ),
        "spread": dgz.Histogram("tpot", 5e-4, 3e-3, bins=30),
        "rows": dgz.Rows(of=COLUMNS, choices=("batch",)),
    }
    findings = dgz.sweep(space(420, **OPTIONS), reductions, out=where, batch=1000, chunk=3000)
    tables = [parquet.read_table(path).to_pydict() for path in sorted(where.glob("rows-*.parquet"))]
    assert len(tables) == 4
    rows = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    return findings, rows


def test_rows_are_in_order_and_counted(swept):
    findings, rows = swept
    assert (np.diff(rows["index"]) > 0).all()
    assert len(rows["index"]) == findings.tally.feasible == findings.state("rows")["count"]
    assert (rows["level of batch"] == (rows["batch"] == 64)).all()


def test_constraints_hold_and_nothing_else_is_left_out(swept):
    findings, rows = swept
    assert findings.tally.tried == 10_080
    assert findings.tally.legal == 10_080 * 2 // 3  # 16 ranks are too many for 8 accelerators
    assert findings.tally.broken == 0
    assert (rows["power"] < 150).all()
    assert ((rows["tpot"] <= 0.004) | (rows["batch"] > 1)).all()
    columns = findings.space.coordinates(range(10_080))
    power = (
        20 * np.sqrt(np.asarray(columns["peak_flops[bf16]"]) / 1e14)
        + np.asarray(columns["memory_bandwidth"]) / 1e11
    )
    small = np.asarray(columns["plan.tensor"]) < 16
    clear = small & (np.abs(power - 150) > 1e-3)
    expected = set(
        np.flatnonzero(clear & (power < 150))
    )  # this model fits, and is fast enough, everywhere
    assert expected == set(rows["index"]) & set(np.flatnonzero(clear))


@pytest.mark.parametrize("objectives", [2, 3, 4, 5])
def test_fronts_equal_brute_force(swept, objectives):
    findings, rows = swept
    points = np.stack([rows[goal] for goal in GOALS[:objectives]], 1)
    assert (
        sorted(findings.indices(f"front{objectives}"))
        == rows["index"][brute_front(points)].tolist()
    )
    assert findings.overflow(f"front{objectives}") == 0


def test_top_best_and_histogram_equal_brute_force(swept):
    findings, rows = swept
    order = np.lexsort((rows["index"], -rows["per_watt"]))[:50]
    assert findings.indices("top") == rows["index"][order].tolist()
    bandwidths, ranks = (
        findings.space.level_values("memory_bandwidth"),
        findings.space.level_values("plan.tensor"),
    )
    indices = findings.state("best")["indices"]
    for cell, (bandwidth, rank) in zip(
        np.ndindex(4, 3), itertools.product(bandwidths, ranks), strict=True
    ):
        mine = np.flatnonzero(
            (rows["memory_bandwidth"] == np.float32(bandwidth)) & (rows["plan.tensor"] == rank)
        )
        if len(mine):
            assert (
                indices[cell] == rows["index"][mine[rows["energy_per_output_token"][mine].argmin()]]
            )
            assert findings.map("best")[cell] == rows["energy_per_output_token"][mine].min()
        else:
            assert indices[cell] == -1
            assert np.isnan(findings.map("best")[cell])
    edges, counts = findings.counts("spread")
    bounds = np.concatenate([[-np.inf], edges.astype(np.float32), [np.inf]])
    assert counts.tolist() == [
        ((rows["tpot"] >= a) & (rows["tpot"] < b)).sum() for a, b in itertools.pairwise(bounds)
    ]
    assert findings.quantile("spread", 0.5) == pytest.approx(
        np.median(rows["tpot"]), abs=edges[1] - edges[0]
    )


def test_rows_are_single_estimates(swept):
    findings, rows = swept
    for place in np.linspace(0, len(rows["index"]) - 1, 12).astype(int):
        built = findings.space.configuration(int(rows["index"][place]))
        single = dgz.estimate(built)
        power = (
            float(built.platform.accelerator.idle_power)
            + float(built.platform.accelerator.memory_bandwidth) / 1e11
        )
        expected = (single.tpot, -single.throughput, power, single.memory.total, single.ttft)
        for name, value in zip(GOALS, expected, strict=True):
            assert rows[name][place] == pytest.approx(float(value), rel=2e-6), name


def test_a_small_sweep_equals_brute_force_over_single_estimates(monkeypatch):
    """Single estimates are compiled here, too: ties on a front ask for equal rounding."""
    monkeypatch.setattr(verb, "FEW", 0)
    small = space(3)
    findings = dgz.sweep(small, kept(), batch=64)
    figures, illegal = {}, 0
    for index in range(small.size):
        try:
            built = small.configuration(index)
        except InputError:
            illegal += 1
        else:
            figures[index] = dgz.estimate(built), built
    assert findings.tally == (small.size, small.size - illegal, 0, small.size - illegal)
    numbers = np.asarray(list(figures))
    energy = np.asarray([float(single.energy_per_output_token) for single, _ in figures.values()])
    assert findings.indices("top") == numbers[energy.argsort(kind="stable")[:7]].tolist()
    trio = [
        [single.tpot, built.platform.accelerator.memory_bandwidth, -single.throughput]
        for single, built in figures.values()
    ]
    assert (
        sorted(findings.indices("front"))
        == numbers[brute_front(np.asarray(trio, np.float32))].tolist()
    )


def test_the_result_does_not_depend_on_batches_and_chunks():
    whole = dgz.sweep(space(), kept(), batch=4096)
    assert_same(whole, dgz.sweep(space(), kept(), batch=64, chunk=777))


def test_what_is_not_finite_is_counted_apart():
    reductions = {
        "front": dgz.Pareto(minimize=("odd", "tpot")),
        "spread": dgz.Histogram("odd", 0, 10),
    }
    findings = dgz.sweep(space(8, **OPTIONS | {"constraints": ("fits",)}), reductions, batch=64)
    assert findings.tally == (192, 128, 64, 64)  # log(0) at batch 1
    assert findings.counts("spread")[1].sum() == 64
    assert findings.space.coordinates(findings.indices("front"))["batch"] == [64] * len(
        findings.indices("front")
    )


# Variants


def test_options_of_different_structure_are_compiled_apart_and_ranked_together():
    flat = Platform(Accelerator(**CHIP | {"name": "flat", "price": 2e-3}), (Level(**NODE),), 8)
    both = dgz.Space(
        scenario(),
        {
            "platform": axes.choice({"cluster": make_cluster(8), "flat": flat}),
            "batch": axes.integers(1, 5),
            "memory_bandwidth": axes.values(2e12, 3e12),
        },
    )
    assert (both.variant_count, both.size) == (2, 20)
    cost = "cost_per_million_output_tokens"
    findings = dgz.sweep(
        both,
        {
            "top": dgz.Top(minimize=cost, count=20),
            "best": dgz.Best(by=("platform",), minimize=cost),
        },
        batch=64,
    )
    estimates = [dgz.estimate(both.configuration(index)) for index in range(20)]
    singles = [float(each.cost_per_million_output_tokens) for each in estimates]
    assert findings.indices("top") == np.argsort(singles, kind="stable").tolist()
    assert findings.map("best").tolist() == pytest.approx(
        [min(singles[:10]), min(singles[10:])], rel=1e-6
    )
    assert findings.map("best", "batch").tolist() == [5, 5]


# Programs, devices, memory


def test_another_space_of_the_same_structure_compiles_nothing():
    programs = (program._decode, program._estimate, program._screen)
    dgz.sweep(space(), kept(), batch=512)
    compiled = [each._cache_size() for each in programs]
    other = varied() | {
        "memory_bandwidth": axes.linear(2e12, 3e12, 3),
        "batch": axes.values(3, 5),
        "peak_flops[bf16]": axes.log_uniform(1e15, 3e15),
    }
    slower = scenario().replace(platform=make_cluster(16))
    findings = dgz.sweep(dgz.Space(slower, other, samples=55, seed=9), kept(), batch=512)
    assert findings.tally.tried == 18 * 55
    assert [each._cache_size() for each in programs] == compiled


def test_devices_share_the_work_and_change_nothing():
    code = """
import json, jax
from diffgenz.studies.sweep import program
program.FEW = 0
findings = dgz.sweep(space(300), kept(), batch=500)
found = {name: array.tolist() for name, array in result(findings).items()}
print(json.dumps({"devices": jax.local_device_count(), "found": found}))
"""
    four = json.loads(
        finished(python(code, flags="--xla_force_host_platform_device_count=4")).splitlines()[-1]
    )
    assert four["devices"] == 4
    for name, array in result(dgz.sweep(space(300), kept(), batch=4096)).items():
        np.testing.assert_array_equal(
            np.asarray(four["found"][name], array.dtype), array, err_msg=name
        )


def test_memory_does_not_grow_with_the_number_of_configurations():
    """KiB after sweeps of 3,000, 12,000 and 48,000 samples, the first to warm up."""
    code = """
import resource
from diffgenz.studies.sweep import program
program.FEW = 0
for samples in (3000, 12_000, 48_000):
    dgz.sweep(space(samples), kept(), batch=4096)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    _, before, after = map(int, finished(python(code, XLA_FLAGS="")).split())
    assert after - before < 30_000  # of 860,000 more configurations, 36 B each


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, "batch: 0 is not allowed; it must be at least 1"),
        ({"chunk": 0}, "chunk: 0 is not allowed; it must be at least 1"),
        ({"shard": (3, 2)}, "shard: 3 of 2 is not possible; number them from 1 to 2"),
        ({"reductions": {}}, "reductions: none; say what to keep"),
        (
            {"reductions": {"top": dgz.Top(minimize="tpott")}},
            "name: 'tpott' is not known; did you mean .*tpot",
        ),
        (
            {"reductions": {"top": dgz.Top(minimize="latency")}},
            "'latency' is the end of several names",
        ),
        (
            {"reductions": {"best": dgz.Best(by=("peak_flops[bf16]",), minimize="tpot")}},
            "best by: 'peak_flops.*' is not known; known are",
        ),
        (
            {"reductions": {"rows": dgz.Rows(of=("tpot",))}},
            "rows: they are written to a folder; give out",
        ),
    ],
)
def test_bad_sweeps_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        dgz.sweep(space(), **({"reductions": kept()} | options))
