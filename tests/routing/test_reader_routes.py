"""vLLM's route logs, and damaged twins of them."""

import numpy as np
import pytest
from routing_cases import IDS, lines, refused

from diffgenz.routing.source import load_trace

META = {"type": "meta", "model_id": "Qwen/Qwen1.5-MoE-A2.7B-Chat", "top_k": 2, "num_experts": 8}


def routes(ids=IDS, request="r1", tokens=None):
    return [
        {
            "type": "route",
            "req_id": request,
            "token_idx": int(t if tokens is None else tokens[t]),
            "layer": layer,
            "topk_ids": ids[t, layer].tolist(),
            "topk_weights": [0.75, 0.25],
        }
        for layer in range(ids.shape[1])  # a layer logs all its tokens, then comes the next
        for t in range(len(ids))
    ]


def test_route_logs(tmp_path):
    trace = load_trace(lines(tmp_path / "t.jsonl", META, *routes(), *routes(request="r2")))
    np.testing.assert_array_equal(trace.chosen, [*IDS, *IDS])
    assert trace.experts == 8
    assert trace.model == META["model_id"]
    assert list(trace.requests) == [0, 1]
    assert trace.weights is not None
    assert trace.weights[0, 0].tolist() == [0.75, 0.25]


def test_token_numbers_that_begin_again_are_later_passes(tmp_path):
    passes = [routes(IDS[:3]), routes(IDS[3:4]), routes(IDS[4:])]
    trace = load_trace(lines(tmp_path / "t.jsonl", META, *passes[0], *passes[1], *passes[2]))
    np.testing.assert_array_equal(trace.chosen, IDS)
    assert list(trace.phase) == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda r: r.pop(4), "token 4 of request 'r1' has no row in layer 0"),
        (lambda r: r[3]["topk_ids"].pop(), "has 1 in layer 0, the first row has 2"),
        (lambda r: r[3].pop("layer"), "line 5: has no layer, token_idx and topk_ids"),
        (lambda r: r[3]["topk_ids"].__setitem__(0, 8), "expert 8 is out of range; 8 experts"),
        (lambda r: r[3].update(phase="warm-up"), "phase: 'warm-up' is not known"),
        (lambda r: r[3].update(layer="first"), "line 5: has no layer"),
    ],
)
def test_damaged_route_logs(tmp_path, damage, message):
    records = routes()
    damage(records)
    refused(lines(tmp_path / "t.jsonl", META, *records), message)
