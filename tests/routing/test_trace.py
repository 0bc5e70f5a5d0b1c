"""The record of a trace, by hand."""

import numpy as np
import pytest

from diffgenz.core.errors import InputError
from diffgenz.routing.trace import DECODE, PREFILL, Counts, Trace

CHOSEN = [[[0, 1], [2, 3]], [[1, 0], [3, 2]], [[3, 2], [0, 1]]]


def trace(**changed):
    given = {
        "experts": 4,
        "layers": (1, 5),
        "chosen": CHOSEN,
        "request": [7, 7, 2],
        "phase": [PREFILL, DECODE, DECODE],
        "domain": [1, 1, 0],
        "domains": ("code", "chat"),
        "rank": [3, 3, 0],
    }
    return Trace(**(given | changed))


def test_counts_by_hand():
    counts = trace().counts("request")
    assert counts.shape == (2, 2, 4)
    np.testing.assert_array_equal(counts[0], [[0, 0, 1, 1], [1, 1, 0, 0]])  # request 2
    np.testing.assert_array_equal(counts[1], [[2, 2, 0, 0], [0, 0, 2, 2]])  # request 7
    np.testing.assert_array_equal(trace().counts("domain")[1], counts[1])
    np.testing.assert_array_equal(trace().counts("all")[0], counts.sum(0))
    np.testing.assert_array_equal(trace().counts("request", phase=PREFILL).sum((0, 2)), [2, 2])
    assert trace().groups("rank")[0] == ("0", "3")


def test_parts_keep_the_order_and_split_is_whole():
    inside, others = trace().split([7])
    assert inside.tokens == 2
    assert others.tokens == 1
    assert list(others.request) == [2]
    assert trace().select(phase=DECODE, domain="chat").chosen.tolist() == [CHOSEN[1]]
    assert trace().select([2, 0]).request.tolist() == [2, 7]
    assert trace().select([2, 0], requests=[7]).request.tolist() == [7]
    part = trace().select(layers=[5])
    assert part.layers == (5,)
    assert part.chosen[0].tolist() == [[2, 3]]
    one, other = trace().halves(3)
    assert {*one.requests} | {*other.requests} == {2, 7}
    assert one.tokens + other.tokens == 3


def test_it_reduces_to_counts():
    reduced = trace().reduced("domain", PREFILL)
    assert isinstance(reduced, Counts)
    assert reduced.groups == ("code", "chat")
    assert reduced.k == 2
    assert reduced.counts.sum() == 4
    assert reduced.experts == 4
    assert reduced.layers == (1, 5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"experts": 3}, "chosen: expert 3 is out of range; 3 experts have ids 0 to 2"),
        ({"experts": 0}, "experts: 0 is not"),
        ({"experts": 1}, "chosen: has 2 experts per token and layer, of 1"),
        ({"layers": (5, 1)}, "layers: .* ascending"),
        ({"layers": (1,)}, r"chosen: has shape \[3, 2, 2\]; give \[tokens, 1 layers"),
        ({"chosen": [[[0, 1], [2]]] * 3}, "chosen: rows have different lengths"),
        ({"chosen": [[[0, 0], [2, 3]]] * 3}, "chosen: token 0 has expert 0 twice"),
        ({"chosen": [[[0, -1], [2, 3]]] * 3}, "chosen: expert -1 is out of range"),
        ({"chosen": [[[0, 0.5], [2, 3]]] * 3}, "chosen: holds float64"),
        ({"request": [1, 2]}, "request: has shape"),
        ({"request": [-1, 2, 3]}, "request: -1 is out of range"),
        ({"phase": [0, 1, 2]}, "phase: 2 is out of range"),
        ({"domain": [0, 0, 2]}, "domain: 2 is out of range; give 0 to 1"),
        ({"domains": ("code", "code")}, "domains: .* not different"),
        ({"weights": [[[1.0, 2.0]]]}, "weights: have shape"),
        ({"weights": np.full((3, 2, 2), np.nan)}, "weights: one is negative or not finite"),
    ],
)
def test_a_damaged_trace_is_refused(changed, message):
    with pytest.raises(InputError, match=message):
        trace(**changed)


def test_what_it_has_not_is_said():
    with pytest.raises(InputError, match="domain: 'chatt' is not known; did you mean chat"):
        trace().select(domain="chatt")
    with pytest.raises(InputError, match="by: the trace has no ranks"):
        trace(rank=None).counts("rank")
    with pytest.raises(InputError, match="layers: '2' is not known"):
        trace().select(layers=[2])
    with pytest.raises(InputError, match="by: 'expert' is not known"):
        trace().counts("expert")


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (np.ones((2, 4)), r"counts: have shape \[2, 4\]"),
        (np.ones((3, 1, 4)), "counts: have 3 groups of 1 layers, but 2 and 1 are named"),
        (-np.ones((2, 1, 4)), "counts: one is negative"),
    ],
)
def test_damaged_counts_are_refused(counts, message):
    with pytest.raises(InputError, match=message):
        Counts(counts, ("a", "b"), "domain", (0,))
