"""Parity with GenZ: the goldens, where they are at hand, and the script that compares them."""

import json
from pathlib import Path

import genz_parity
import pytest
from genz.graph import ACTIVATIONS_ON_CHIP, RESIDENCY
from genz.parity import HEADLINE, Outcome, compare, read_rows, relative_error

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

GOLDENS = Path(__file__).parents[1].parent / "shared" / "goldens"

FILES = [GOLDENS / "genz_operators.jsonl", GOLDENS / "genz_estimates.jsonl"]

with_goldens = pytest.mark.skipif(
    not all(file.exists() for file in FILES), reason="no goldens here"
)


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    return compare([row for file in FILES for row in read_rows(file)])


def assert_agree(outcomes: list[Outcome], tolerance: float) -> None:
    """All covered, and within tolerance."""
    assert outcomes
    assert not [(o.row, o.reason) for o in outcomes if not o.covered]
    assert not [(o.row, o.errors) for o in outcomes if o.headline > tolerance]


@with_goldens
def test_primitives(outcomes):
    assert_agree([o for o in outcomes if o.kind == "primitive"], 1e-6)


@with_goldens
@pytest.mark.parametrize("family", ["dense", "MoE", "Mamba"])
@pytest.mark.parametrize("phase", ["prefill", "decode", "chunked", "spec"])
def test_whole_models(outcomes, phase, family):
    rows = [
        o
        for o in outcomes
        if (o.kind, o.status, o.group, o.family) == ("estimate", "ok", phase, family)
    ]
    if not rows and family == "Mamba" and phase in ("chunked", "spec"):
        pytest.skip("no such rows")
    assert_agree(rows, 1e-5)
    assert all(o.errors.keys() >= {"latency", "throughput", "weights", "kv"} for o in rows)
    assert set(HEADLINE) >= {"latency", "throughput", "weights", "kv"}


@with_goldens
def test_what_does_not_fit(outcomes):
    assert_agree([o for o in outcomes if o.status == "does_not_fit"], 1e-5)


@with_goldens
@pytest.mark.parametrize("kind", ["op_in_model", "search"])
def test_operators_and_searches(outcomes, kind):
    assert_agree([o for o in outcomes if o.kind == kind], 1e-5)


@with_goldens
def test_only_crashes_are_left_out(outcomes):
    assert all(str(o.reason).startswith("GenZ crashed") for o in outcomes if not o.covered)
    assert {o.status for o in outcomes if not o.covered} <= {"error"}


@with_goldens
def test_every_quirk_is_named_where_it_is_coded(outcomes):
    source = "".join(file.read_text() for file in (BENCHMARKS / "genz").glob("*.py"))
    assert not {quirk for o in outcomes for quirk in o.quirks if quirk not in source}


def test_relative_error():
    assert relative_error(1.1, 1.0) == pytest.approx(0.1)
    assert relative_error(0.0, 0.0) == relative_error(float("nan"), None) == 0
    assert (
        relative_error(1.0, 0.0)
        == relative_error(float("nan"), 1.0)
        == relative_error(1.0, None)
        == 1
    )
    assert relative_error(True, False) == relative_error(False, True) == 1


PRIMITIVE = {
    "kind": "primitive",
    "id": "mine",
    "op_type": "Sync",
    "args": {"B": 1, "M": 10, "N": 100, "nodes": 4, "collective": "AllReduce"},
    "residency": None,
    "system": {
        "flops": 4,
        "offchip_mem_bw": 1,
        "off_chip_mem_size": 1024,
        "interchip_link_bw": 1,
        "interchip_link_latency": 1,
        "onchip_mem_bw": 10,
        "compute_efficiency": 1,
        "memory_efficiency": 1,
        "comm_efficiency": 1,
        "bits": "bf16",
    },
    "out": {
        "latency_s": 1.1e-5 + 3000 / 2**30,
        "comm_s": 1.1e-5 + 3000 / 2**30,
        **dict.fromkeys(
            ("compute_s", "memory_s", "flops", "input_a_bytes", "input_w_bytes", "output_bytes"),
            0.0,
        ),
    },
}

STRANGE = [
    {},
    {"kind": "poem"},
    {"phase": "training"},
    {"kind": "search", "what": "meaning"},
    PRIMITIVE | {"op_type": "Softmax"},
    PRIMITIVE | {"args": {}},
    PRIMITIVE | {"args": PRIMITIVE["args"] | {"collective": "ReduceScatter"}},
    PRIMITIVE | {"args": PRIMITIVE["args"] | {"nodes": None}},
    PRIMITIVE | {"system": PRIMITIVE["system"] | {"offchip_mem_bw": 0}},
    PRIMITIVE | {"system": PRIMITIVE["system"] | {"bits": "fp1"}},
    PRIMITIVE
    | {
        "op_type": "Einsum",
        "residency": "All_offchip",
        "args": {"equation": "a,b,c->abc", "dims": {}},
    },
    PRIMITIVE | {"out": {}},
]


def test_strange_rows_are_counted_and_harm_no_others():
    *strange, mine = compare([*STRANGE, PRIMITIVE])
    assert mine.covered
    assert mine.headline < 1e-14
    assert len(strange) == len(STRANGE)
    assert not any(o.covered for o in strange)
    assert all(o.reason for o in strange)


def test_script_writes_the_contract(tmp_path, capsys):
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out.json"
    rows.write_text("\n".join(map(json.dumps, [PRIMITIVE, *STRANGE])))
    genz_parity.main([str(rows), str(rows), "--json", str(out), "--quick"])
    written = json.loads(out.read_text())
    assert written.keys() >= {"machine", "versions", "rows", "checks"}
    assert len(written["rows"]) == 2 * (1 + len(STRANGE))
    assert {"name", "value", "unit", "target", "ok"} <= written["checks"][0].keys()
    error, covered = written["checks"][:2]
    assert error["ok"]
    assert (covered["value"], covered["target"], covered["ok"]) == (2, 18, False)
    assert set(tmp_path.iterdir()) == {rows, out}
    assert "no rows of kind 'poem'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "problem"),
    [("{", "not JSON"), ("[1]", "list"), ("\n", "no rows"), (None, "No such file")],
)
def test_script_says_when_it_cannot_run(tmp_path, text, problem):
    file = tmp_path / "rows.jsonl"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SystemExit, match=problem) as stop:
        genz_parity.main([str(file), str(file)])
    assert "\n" not in str(stop.value)


def test_activations_on_chip_is_what_the_goldens_call_it():
    assert RESIDENCY["AC_onchip"] == ACTIVATIONS_ON_CHIP
