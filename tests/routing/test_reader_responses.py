"""Responses of vLLM and SGLang with routed experts, and damaged twins of them."""

import base64
import io

import numpy as np
import pytest
from routing_cases import IDS, lines, refused

from diffgenz.routing.source import load_trace


def base64_npy(ids):
    stream = io.BytesIO()
    np.save(stream, ids)
    return base64.b64encode(stream.getvalue()).decode()


USAGE = {"prompt_tokens": 3, "completion_tokens": 3}


def test_responses_of_vllm_0_21(tmp_path):
    response = {
        "model": "Qwen/Qwen3-30B-A3B",
        "usage": USAGE,
        "prompt_routed_experts": IDS[:3].tolist(),
        "choices": [{"routed_experts": IDS[3:].tolist()}],
    }
    wrapped = {"domain": "math", "response": response}
    trace = load_trace(lines(tmp_path / "t.jsonl", response, wrapped), experts=8)
    np.testing.assert_array_equal(trace.chosen, [*IDS, *IDS])
    assert list(trace.phase) == [0, 0, 0, 1, 1] * 2
    assert trace.domains == ("all", "math")
    assert trace.model == "Qwen/Qwen3-30B-A3B"


@pytest.mark.parametrize(
    "encoded",
    [
        base64_npy(IDS.astype(np.int16)),
        {
            "encoding": "base64",
            "dtype": "int16",
            "shape": [5, 3, 2],
            "data": base64.b64encode(IDS.astype("<i2").tobytes()).decode(),
        },
    ],
)
def test_later_responses_of_vllm(tmp_path, encoded):
    response = {"usage": USAGE, "choices": [{"routed_experts": encoded}]}
    trace = load_trace(lines(tmp_path / "t.jsonl", response))
    np.testing.assert_array_equal(trace.chosen, IDS)
    assert list(trace.phase) == [0, 0, 0, 1, 1]


def test_what_a_prefix_cache_held_is_missing_in_front(tmp_path):
    response = {"usage": USAGE, "choices": [{"routed_experts": base64_npy(IDS[1:])}]}
    trace = load_trace(lines(tmp_path / "t.jsonl", response))
    assert list(trace.phase) == [0, 0, 1, 1]


def test_responses_of_sglang(tmp_path):
    dense = np.zeros((5, 1, 2), int)  # a first layer without experts
    flat = np.concatenate([dense, IDS], axis=1).astype("<i4")
    meta = USAGE | {"routed_experts": base64.b64encode(flat.tobytes()).decode()}
    path = lines(tmp_path / "t.jsonl", {"text": "...", "meta_info": meta})
    trace = load_trace(path, k=2)
    np.testing.assert_array_equal(trace.chosen, IDS)
    assert trace.layers == (1, 2, 3)
    refused(path, "40 numbers without a shape; say how many experts")
    refused(path, "40 numbers are not 5 tokens of whole layers with 3 experts", k=3)


@pytest.mark.parametrize(
    ("response", "message"),
    [
        ({"choices": [{"routed_experts": base64_npy(IDS)}]}, "usage.prompt_tokens: is not there"),
        ({"usage": USAGE, "choices": [{"routed_experts": None}]}, "serve with --enable-return"),
        ({"usage": USAGE, "choices": [{"routed_experts": "%%"}]}, "cannot be decoded"),
        ({"usage": USAGE, "choices": [{"routed_experts": [[[1, 2]], [[1]]]}]}, "cannot be decoded"),
        (
            {"usage": USAGE, "choices": [{"routed_experts": base64_npy(IDS)[:-24]}]},
            "cannot be decoded",
        ),
        (
            {"usage": USAGE, "choices": [{"routed_experts": base64_npy(IDS / 2)}]},
            "cannot be decoded .shape .5, 3, 2. of float64",
        ),
        (
            {
                "usage": USAGE,
                "choices": [
                    {
                        "routed_experts": {
                            "dtype": "object",
                            "shape": [1],
                            "data": base64.b64encode(b"\0" * 8).decode(),
                        }
                    }
                ],
            },
            "no type of whole numbers",
        ),
    ],
)
def test_damaged_responses(tmp_path, response, message):
    good = {"usage": USAGE, "choices": [{"routed_experts": base64_npy(IDS)}]}
    refused(lines(tmp_path / "t.jsonl", good, response), f"line 2: .*{message}")
