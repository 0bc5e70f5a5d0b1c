"""Use cases: what they ask, and what they leave to the server."""

import math

import pytest

from diffgenz import USE_CASES, InputError, Serving, UseCase, load_use_case


@pytest.mark.parametrize("name", USE_CASES)
def test_a_shipped_use_case_has_the_figures_of_its_table(name):
    use, figures = load_use_case(name), USE_CASES[name]
    assert float(use.workload.input_tokens) == figures.input_tokens
    assert float(use.workload.output_tokens) == figures.output_tokens
    assert (float(use.ttft), float(use.tpot)) == pytest.approx((figures.ttft, figures.tpot))
    assert float(use.served(Serving(chunk=512)).beams) == figures.beams
    assert float(use.served(Serving(chunk=512)).chunk) == 512


def test_beams_are_the_use_cases():
    with pytest.raises(InputError, match="serving: beams are the use case's"):
        load_use_case("chat").served(Serving(beams=2))


def test_an_unknown_use_case_suggests_the_nearest():
    with pytest.raises(InputError, match="use case: 'chatt' is not known; did you mean chat"):
        load_use_case("chatt")


@pytest.mark.parametrize("field", ["input_tokens", "output_tokens", "beams", "batch"])
def test_a_bad_number_is_refused_by_name(field):
    numbers = {"input_tokens": 100, "output_tokens": 10} | {field: 0.5}
    with pytest.raises(InputError, match=f"{field}: 0.5 is not allowed"):
        UseCase("mine", **numbers)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_an_objective_is_above_zero_or_infinite(value):
    assert UseCase("mine", 100, 10, ttft=math.inf).ttft == math.inf
    with pytest.raises(InputError, match=f"ttft: {value:g} is not allowed"):
        UseCase("mine", 100, 10, ttft=value)
