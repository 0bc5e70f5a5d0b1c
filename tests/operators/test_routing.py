"""Records of routing: what is left out is uniform, and kinds of layers are told apart."""

import jax
import numpy as np
import pytest

from diffgenz import InputError, PerKind, PowerLaw, Traced, Uniform, traced
from diffgenz.operators.popularity import active_share, fullest

NEUTRAL = {
    "rows": 1,
    "dispersion": 0,
    "variation": 0,
    "far": 1,
    "near": 1,
    "remote": 1,
    "pair": 1,
    "wire": 1,
    "slots": 1,
}


def single(*numbers):
    return [np.float32(x) for x in numbers]


def answers(routing, tokens=100.0, used=8.0, experts=256.0, ranks=8.0):
    n, k, e, r = single(tokens, used, experts, ranks)
    excess = routing.excess(n * k, e, r)
    return excess, routing.active(n, k, e), routing.travel(excess)


def test_uniform_routing_fills_ranks_evenly():
    excess, active, travel = answers(Uniform())
    assert excess is None
    assert float(active) == pytest.approx(1 - (1 - 8 / 256) ** 100, rel=1e-5)
    assert all(each is None for each in travel)


def test_numbers_of_uniform_routing_are_not_kept():
    for routing in (Traced(), Traced(**NEUTRAL)):
        assert jax.tree.leaves(routing) == []
        assert answers(routing) == answers(Uniform())
    for routing in (traced(), traced(**NEUTRAL), traced(**{k: [v, v] for k, v in NEUTRAL.items()})):
        kinds = routing.kinds if isinstance(routing, PerKind) else (routing,)
        assert all(isinstance(kind, Uniform) for kind in kinds)


def test_traced_numbers_are_counted():
    routing = Traced(1.8, None, 0.7, 0.73, 0.9, 0.95, 1.4, 1.2)
    excess, active, travel = answers(routing)
    assert float(excess) == pytest.approx(1.8)
    assert float(active) == float(active_share(*single(100, 8, 256, 0.7)))
    assert [float(each) for each in travel] == pytest.approx([0.9, 0.73, 0.95, 1.4, 1.2])
    assert float(answers(routing, ranks=1.5)[0]) == 1.5  # not more than all rows
    varying = routing.replace(dispersion=1.3)
    assert float(answers(varying)[0]) == float(fullest(*single(800, 8, 1.8, 1.3)))
    even = Traced(dispersion=1.3)
    assert float(answers(even)[0]) == float(fullest(*single(800, 8, 1.0, 1.3)))


def test_a_power_law_is_one_number():
    excess, active, travel = answers(PowerLaw(0.0))
    assert float(excess) == pytest.approx(1, rel=1e-5)
    assert float(active) == pytest.approx(1 - (1 - 8 / 256) ** 100, rel=1e-4)
    excess, active, travel = answers(PowerLaw(0.8))
    assert float(excess) > 1.5
    assert float(active) < 0.9
    assert float(travel.wire) == float(travel.pair) == float(excess)
    assert travel.far is travel.near is travel.remote is None


def test_kinds_of_layers_have_a_routing_each():
    routing = traced(rows=[1.8, 1.0], far=0.7, note="a trace")
    assert isinstance(routing, PerKind)
    assert routing.kinds_told == 2
    first, second = routing.of_kind(0), routing.of_kind(-1)
    assert (float(first.rows), float(first.far)) == pytest.approx((1.8, 0.7))
    assert second.rows is None
    assert float(second.far) == pytest.approx(0.7)
    assert first.note == second.note == "a trace"
    assert traced(rows=1.8).of_kind(1).rows == np.float32(1.8)


def test_layers_of_a_kind_are_averaged():
    routing = traced(rows=[1.2, 1.4, 3.0], far=0.5, kinds=[0, 0, 1])
    assert [float(kind.rows) for kind in routing.kinds] == pytest.approx([1.3, 3.0])
    assert [float(kind.far) for kind in routing.kinds] == [0.5, 0.5]
    alike = traced(rows=np.array([1.2, 1.4]), kinds=[0, 0])
    assert float(alike.rows) == pytest.approx(1.3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Traced(rows=0.5), "rows: 0.5 is not allowed; it must be finite, at least 1"),
        (lambda: Traced(far=-0.1), "far: -0.1 is not allowed"),
        (lambda: Traced(wire=np.nan), "wire: nan is not allowed"),
        (lambda: Traced(variation=np.inf), "variation: inf is not allowed"),
        (lambda: PowerLaw(-1.0), "spread: -1 is not allowed"),
        (lambda: PowerLaw(4.0), "spread: 4 is not allowed"),
        (lambda: PerKind(()), "kinds: give one Uniform, PowerLaw or Traced for each"),
        (lambda: traced(row=1.8), "routing: 'row' is not known; did you mean rows"),
        (lambda: traced(rows=[1.8, 1.2], far=[0.7]), r"do not fit 2 layers or kinds of layers"),
        (lambda: traced(rows=[[1.8]]), r"routing: rows \(1, 1\) do not fit"),
        (lambda: traced(rows=[]), r"routing: rows \(0,\) do not fit 0 layers"),
        (lambda: traced(rows="many"), "routing: rows: 'many' is neither a number nor an array"),
        (lambda: traced(rows=[[1.2], [1.3, 1.4]]), "is neither a number nor an array"),
        (lambda: traced(rows=[1.8, 1.2], kinds=[0]), "do not fit 1 layers"),
        (lambda: traced(rows=[1.8, 1.2], kinds=[0, 2]), r"kinds: \[0, 2\] leave one out"),
        (lambda: traced(rows=[1.8, 0.2]), "rows: 0.2 is not allowed"),
    ],
)
def test_other_numbers_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
