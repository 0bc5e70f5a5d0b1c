"""What times a scenario: the families of its operators, and the collectives of its ranks."""

import pytest

from diffgenz.inference.timed_by import timed_by
from diffgenz.scenario.from_words import from_words


def timed(model="meta-llama/Llama-3.1-8B", system="h100_sxm", **words):
    return timed_by(from_words({"model": model, "system": system, **words}).scenario)


def test_operators_by_family_and_format():
    found = timed(weights="fp8", activations="fp8")
    assert "gemm bf16" in found  # the LM head
    assert any(name.startswith("gemm fp8") for name in found)
    assert {name.split()[0] for name in found} == {"gemm", "prefill", "decode", "elementwise"}
    assert all(source.startswith(("vllm", "trtllm", "sglang")) for source in found.values())


@pytest.mark.parametrize(
    ("words", "collectives"),
    [
        ({}, set()),
        ({"tp": 2}, {"all_reduce", "all_gather"}),
        ({"pp": 2}, set()),
        ({"dp": 2}, set()),
        ({"cp": 2}, {"all_reduce", "all_gather"}),
    ],
)
def test_collectives_where_more_than_one_rank_takes_part(words, collectives):
    found = {name.split()[0] for name in timed(fit="none", **words)}
    assert {name for name in found if name.startswith("all_")} == collectives


def test_messages_have_a_format_of_their_own():
    found = timed(tp=2, messages="fp8", fit="none")
    assert found["all_reduce fp8"] == found["all_gather bf16"] == "roofline"


def test_tokens_that_travel_to_experts():
    words = {"model": "Qwen/Qwen3-30B-A3B", "system": "h200_sxm"}
    alone, apart = timed(**words, tp=2), timed(**words, ep=2, **{"attention-dp": 2})
    assert not any(name.startswith("dispatch") for name in alone)
    assert {name.split()[0] for name in apart} >= {"dispatch_low_latency", "combine_low_latency"}
    assert not any(name.startswith("dispatch") for name in timed(**words, ep=2, cp=1, tp=2))


def test_the_roofline_times_what_has_no_fit():
    assert set(timed(fit="none").values()) == {"roofline"}


def test_the_tower_counts_and_a_draft_does_not():
    tower = timed("Qwen/Qwen3-VL-8B-Instruct", weights="fp8", activations="fp8", fit="none")
    assert "gemm bf16" in tower
    words = {"drafts": 3, "acceptance": 0.5, "fit": "none"}
    draft = {"draft-model": "deepseek-ai/DeepSeek-V2-Lite"}
    assert timed(**words, **draft) == timed(**words)
