"""Estimates in words and JSON, on results made by hand."""

import json

import equinox as eqx
import jax.numpy as jnp
import pytest

import diffgenz as dgz
from diffgenz.scenario.from_words import Asked
from diffgenz.ui.labels import SCALARS
from diffgenz.ui.text.estimate import (
    Estimated,
    estimate_json,
    estimates_text,
    memory_json,
    memory_line,
    time_table,
)


def number(x):
    return jnp.asarray(x, float)


MEMORY = dgz.Memory(*(number(x * 1e9) for x in (16.0, 2.0, 0.5, 22.5, 80.0)))
RESULT = dgz.Estimate(
    ttft=number(0.1),
    tpot=number(0.01),
    end_to_end=number(1.37),
    throughput=number(374.0),
    tokens_per_second_per_user=number(100.0),
    tokens_per_second_per_accelerator=number(46.75),
    memory=MEMORY,
    energy_per_output_token=number(2.5),
    power=number(116.9),
    cost_per_million_output_tokens=None,
)
ROWS = jnp.asarray([[2.0, 1.0, 0.0, 0.5], [0.0, 0.0, 0.5, 0.0], [1e-9, 0.0, 0.0, 0.0]])
TIMES = dgz.Breakdown(("gemm", "all_reduce", "small"), 1e-3 * ROWS, 2e-3 * ROWS)


@pytest.fixture(scope="module")
def case(llama_8b):
    platform = dgz.load_platform("h100_sxm", 8, fit="none")
    return dgz.Scenario(llama_8b, platform, dgz.Workload(4, 600, 60))


def header(text):
    return text.splitlines()[0].split("  ")


def test_a_fitting_estimate_has_a_row_and_its_details(case):
    lines = estimates_text([Estimated(case, RESULT, TIMES)]).splitlines()
    assert [word.strip() for word in lines[0].split("  ") if word] == [
        "batch",
        "TTFT ms",
        "TPOT ms",
        "E2E s",
        "tok/s",
        "tok/s/user",
        "tok/s/GPU",
        "memory GB of 80.0",
        "J/token",
        "USD/Mtok",
        "bound by",
    ]
    assert lines[2].split() == [
        *("4", "100", "10", "1.37", "374", "100", "46.8"),
        *("22.5", "2.5", "-", "compute,", "compute"),
    ]
    assert lines[4].startswith("memory per accelerator, GB: weights 16.00, KV cache 2.00, ")
    assert lines[5].startswith("memory has room for ")
    assert lines[7].startswith("TTFT, ms")


def test_chunked_prefill_has_a_column_more(case):
    chunked = eqx.tree_at(lambda r: r.mixed_tpot, RESULT, number(0.02), is_leaf=lambda x: x is None)
    text = estimates_text([Estimated(case, chunked, TIMES)] * 2)
    assert "TPOT ms  mixed ms  E2E s" in text
    assert "TTFT, ms" not in text  # details are those of a single one


def test_deviations_stand_beside_times(case):
    deviation = eqx.tree_at(lambda r: (r.ttft, r.tpot), RESULT, (number(0.0123), number(0.001)))
    text = estimates_text([Estimated(case, RESULT, TIMES, deviation)])
    assert "100 +-12" in text
    assert "10 +-1" in text
    assert text.splitlines()[2].count("+-") == 3


def full(case):
    return eqx.tree_at(lambda r: r.memory.total, RESULT, number(90e9))


def test_what_does_not_fit_says_what_would(case):
    needed = case.replace(plan=dgz.Parallelism(tensor=2, pipeline=2, data=2))
    text = estimates_text([Estimated(case, full(case), needed=needed)])
    assert text.splitlines()[2].split() == [
        "4",
        "-",
        "-",
        "-",
        "-",
        "-",
        "-",
        "90.0",
        "-",
        "-",
        "does",
        "not",
        "fit",
    ]
    assert "batch 4 does not fit: memory per accelerator, GB: weights 16.00" in text
    assert text.endswith("It fits on 8: tp 2, pp 2, dp 2.")
    shared = case.replace(plan=dgz.Parallelism(context=4))
    assert "It fits on 4: tp 1, cp 4, pp 1, dp 1." in estimates_text(
        [Estimated(case, full(case), needed=shared)]
    )
    assert "No layout of it fits: reduce the batch" in estimates_text([Estimated(case, full(case))])


def test_json_of_an_estimate(case):
    asked = Asked(case, "h100_sxm", "")
    data = estimate_json(Estimated(case, RESULT, TIMES), asked, {"gemm bf16": "roofline"})
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert list(data)[:5] == [
        "model",
        "parameters",
        "active_parameters",
        "system",
        "accelerators",
    ]
    assert set(SCALARS) <= set(data)
    assert data["ttft"] == pytest.approx(0.1)
    assert data["mixed_tpot"] is data["deviation"] is None
    assert data["accelerators"] == data["accelerators_needed"] == data["tensor"] == 8
    assert data["input_tokens"] == 600
    assert data["kernels"] == {"gemm bf16": "roofline"}
    assert data["bound_by"] == {"ttft": "compute", "tpot": "compute"}
    assert data["breakdown"]["tpot"]["all_reduce"]["communication"] == pytest.approx(1e-3)
    uncertain = estimate_json(Estimated(case, RESULT, TIMES, RESULT), asked, {})
    assert set(uncertain["deviation"]) == set(SCALARS)


def test_json_of_what_does_not_fit(case):
    asked = Asked(case, "h100_sxm", "")
    needed = case.replace(plan=dgz.Parallelism(tensor=4))
    data = estimate_json(Estimated(case, full(case), needed=needed), asked, {})
    assert data["memory"]["fits"] is False
    assert data["accelerators_needed"] == 4
    for name in (*SCALARS, "breakdown", "bound_by"):
        assert data[name] is None
    assert estimate_json(Estimated(case, full(case)), asked, {})["accelerators_needed"] is None


def test_memory_says_what_lives_where(case):
    moved = eqx.tree_at(
        lambda m: (m.total, m.room, m.movable),
        MEMORY,
        (number(90e9), number(100e9), number(20e9)),
        is_leaf=lambda x: x is None,
    )
    moved = dgz.Memory(**{**vars(moved), "offloaded": (number(10e9),)})
    line = memory_line(moved, case.platform)
    assert line.endswith("total 90.00 of 80.00 + 100.00; 10.00 GB of it in host memory")
    data = memory_json(moved, case.platform)
    assert data["offloaded"] == {"host": pytest.approx(10e9)}
    assert data["fits"] is True
    assert data["reserve"] == pytest.approx(float(case.platform.accelerator.memory_reserve))


def test_the_time_table_is_sorted_and_hides_what_is_nothing():
    lines = time_table(TIMES, "ttft").splitlines()
    assert lines[0].split() == [
        *("TTFT,", "ms", "compute", "memory", "communication", "launch", "total", "share")
    ]
    assert [line.split()[0] for line in lines[2:]] == ["gemm", "all_reduce", "small", "total"]
    assert lines[2].split()[1:] == ["2.000", "1.000", "0", "0.500", "3.500", "87.5", "%"]
    assert lines[4].split()[1:] == ["0", "0", "0", "0", "0", "0.0", "%"]
