"""Tables of tokens in CSV, and damaged twins of them."""

import numpy as np
import pytest
from routing_cases import IDS, csv_of, refused

from diffgenz.routing.source import load_trace

PAIRS = [(layer, t) for t in range(5) for layer in range(3)]


@pytest.mark.parametrize("by_layer", [False, True])
@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("layer,token,experts", lambda n, t: [(n, t, " ".join(map(str, IDS[t, n])))]),
        ("layer,token,experts", lambda n, t: [(n, t, f'"[{IDS[t, n, 0]}, {IDS[t, n, 1]}]"')]),
        ("layer_id,token_id,topk_ids", lambda n, t: [(n, t, ";".join(map(str, IDS[t, n])))]),
        ("token,layer,expert_0,expert_1", lambda n, t: [(t, n, *IDS[t, n])]),
        ("layer,token,expert", lambda n, t: [(n, t, e) for e in IDS[t, n]]),
    ],
)
def test_tables_of_tokens(tmp_path, header, row, by_layer):
    pairs = sorted(PAIRS) if by_layer else PAIRS
    rows = [each for layer, t in pairs for each in row(layer, t)]
    (tmp_path / "t.csv").write_text(csv_of(header, rows))
    trace = load_trace(tmp_path / "t.csv", experts=8)
    np.testing.assert_array_equal(trace.chosen, IDS)


def test_a_table_with_all_columns(tmp_path):
    header = "request,domain,phase,step,layer,token,experts,weights"
    rows = [
        (f"r{t // 3}", "code" if t < 3 else "chat", "prefill", t, layer, t, "3 4", "0.5 0.5")
        for layer, t in PAIRS
    ]
    (tmp_path / "t.csv").write_text(csv_of(header, rows))
    trace = load_trace(tmp_path / "t.csv")
    assert list(trace.request) == [0, 0, 0, 1, 1]
    assert trace.domains == ("code", "chat")
    assert not trace.phase.any()
    assert trace.step is not None
    assert trace.weights is not None
    assert list(trace.step) == [*range(5)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layer,token,experts\n0,0,1 2\n0,1,1\n", "line 3: experts: token 1 has 1 in layer 0"),
        ("layer,token,experts\n0,0,1 2\n1,0,1 2\n0,1,3 4\n", "token 1 .* no row in layer 1"),
        ("layer,token,experts\n0,0,1 1\n", "has expert 1 twice"),
        ("layer,token,experts\n0,0,1 -2\n", "expert -2 is out of range"),
        ("layer,token,experts\n0,0,1 x\n", "line 2: .*may end too early"),
        ("layer,token,experts\n0,0\n", "line 2: .*may end too early"),
        ("layer,token,experts\n", "has no rows"),
        ("layer,experts\n0,1 2\n", "has columns layer, experts; give layer, token, experts"),
        ("layer,token,mood\n0,1,good\n", "has columns layer, token, mood; give experts"),
        ("1,2,3\n1,2\n", "rows have 2 to 3 cells"),
        ("1,2,3\n1,2,x\n", "a matrix of counts has numbers only"),
        ("0,0,0\n0,0,0\n", "are all zero"),
        ("1,2,-3\n", "one is negative"),
        ("layer,token,experts\n0,0,1000000000000\n", "are more than any model has"),
        ("layer,expert,count\n0,1000000000000,3\n", "are more than any model has"),
        ("layer,expert,count\n0,1\n", "each row has layer, expert and count"),
        ("", "is empty"),
    ],
)
def test_damaged_tables(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    refused(tmp_path / "t.csv", message)
