"""Use cases: those that are shipped, and what they refuse."""

import math

import pytest

from diffgenz import InputError, Serving, load_use_case
from diffgenz.scenario.use_case_figures import USE_CASES

CHAT = load_use_case("chat")


@pytest.mark.parametrize("name", USE_CASES)
def test_use_cases_load(name):
    use, figures = load_use_case(name), USE_CASES[name]
    assert use.name == name
    assert use.source
    assert float(use.workload.input_tokens) == figures.input_tokens
    assert float(use.workload.batch) == figures.batch
    assert float(use.beams) == figures.beams
    assert float(use.tpot) == pytest.approx(figures.tpot)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tpot": 0}, "tpot: 0 is not allowed; it must be above 0"),
        ({"ttft": -1}, "ttft: -1 is not allowed"),
        ({"tpot": math.nan}, "tpot: nan is not allowed"),
        ({"beams": 0.5}, "beams: 0.5 is not allowed; it must be finite, at least 1"),
        ({"input_tokens": math.inf}, "input_tokens: inf is not allowed"),
        ({"slo": 1}, "UseCase field: 'slo' is not known"),
    ],
)
def test_a_bad_use_case_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        CHAT.replace(**change)


def test_unknown_use_cases_are_refused():
    with pytest.raises(
        InputError, match=r"use case: 'summarisation' is not known; did you mean summarization\?"
    ):
        load_use_case("summarisation")


def test_beams_are_those_of_the_use_case():
    assert float(CHAT.served().beams) == 2
    served = CHAT.served(Serving(chunk=512))
    assert (float(served.chunk), float(served.beams)) == (512, 2)
    with pytest.raises(InputError, match="serving: beams are the use case's; set UseCase.beams"):
        CHAT.served(Serving(beams=4))
