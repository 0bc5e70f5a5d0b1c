"""What people and JSON are told of routing."""

from diffgenz import PerKind, PerPhase, PowerLaw, Traced, Uniform
from diffgenz.core.record import numbers_of
from diffgenz.ui.text.routing import routing_json, routing_lines


def test_uniform_routing_is_not_mentioned():
    assert routing_lines(Uniform()) == []
    assert routing_json(Uniform()) == {"kind": "uniform"}


def test_every_number_is_told():
    assert routing_lines(PowerLaw(0.5)) == ["experts: the i-th in popularity as i**-0.5"]
    numbers = (1.8, 1.3, 0.7, 0.73, 0.9, 0.95, 1.4, 1.2, 1.5)
    values = dict(zip(numbers_of(Traced), numbers, strict=True))
    (line,) = routing_lines(Traced(**values, note="MMLU"))
    assert line.startswith("experts (MMLU): rows 1.8 x the mean on the fullest rank, ")
    assert all(f"{value:g}" in line for value in values.values())
    told = routing_json(Traced(**values, note="MMLU"))
    assert (told["kind"], told["note"]) == ("traced", "MMLU")
    assert {name: round(told[name], 6) for name in values} == values


def test_zero_is_a_number():
    (line,) = routing_lines(Traced(far=0.0))
    assert line == "experts: 0 x the copies to other nodes"
    assert routing_lines(Traced()) == ["experts: as in uniform routing"]


def test_kinds_of_layers_have_a_line_each():
    routing = PerKind((Traced(rows=1.8), Uniform()))
    assert routing_lines(routing) == [
        "layers of kind 1: experts: rows 1.8 x the mean on the fullest rank",
        "layers of kind 2: experts: uniform",
    ]
    told = routing_json(routing)
    assert [each["kind"] for each in told["kinds"]] == ["traced", "uniform"]


def test_phases_have_a_line_each():
    routing = PerPhase(Traced(rows=1.8), Uniform())
    assert routing_lines(routing) == [
        "prefill: experts: rows 1.8 x the mean on the fullest rank",
        "decode: experts: uniform",
    ]
    told = routing_json(routing)
    assert (told["kind"], told["prefill"]["kind"]) == ("per_phase", "traced")
    assert told["decode"] == {"kind": "uniform"}
