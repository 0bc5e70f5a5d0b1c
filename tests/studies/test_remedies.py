"""What is proposed where a scenario does not fit: it fits, on the same accelerators."""

import pytest

from diffgenz import (
    Parallelism,
    Precision,
    Scenario,
    Serving,
    Workload,
    estimate,
    load_model,
    load_platform,
)
from diffgenz.scenario.from_words import from_words
from diffgenz.studies.search.remedies import remedy

QWEN = {
    "model": "Qwen/Qwen3-235B-A22B",
    "system": "h200_sxm",
    "gpus": 16,
    "isl": 32768,
    "osl": 1024,
    "batch": 64,
    "weights": "fp8",
    "activations": "fp8",
}
CASES = {
    "whole prompts": (QWEN | {"chunk": "whole"}, "--chunk 8192"),
    "replicated KV heads": (QWEN | {"batch": 100, "tp": 16}, "--tp 1 --attention-dp 16 --ep 16"),
    "replicas": (
        {"model": "meta-llama/Llama-3.1-70B", "system": "h100_sxm", "gpus": 8, "dp": 8},
        "--tp 8 --dp 1",
    ),
    "a long cache": (
        {"model": "Qwen/Qwen3-8B", "system": "l40s", "isl": 100_000, "batch": 2},
        "--kv-cache fp8",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_proposed_fits(name):
    words, options = CASES[name]
    case = from_words(words).scenario
    assert not bool(estimate(case).memory.fits)
    found = remedy(case)
    assert found is not None
    assert found.options == options
    assert bool(found.result.memory.fits)
    flags = found.options.replace("--", "").split()
    again = from_words(words | dict(zip(flags[::2], flags[1::2], strict=True))).scenario
    assert bool(estimate(again).memory.fits)


def test_layouts_that_no_engine_accepts_are_not_proposed():
    """8 ranks would hold 56 heads on 6 accelerators' worth of memory, 6 do not divide them."""
    words = {"model": "01-ai/Yi-34B", "system": "l40s", "gpus": 6, "dp": 6, "isl": 4000}
    case = from_words(words).scenario
    whole = case.replace(plan=case.plan.replace(tensor=6, data=1))
    assert bool(estimate(whole).memory.fits)
    assert remedy(case) is None


def test_nothing_is_proposed_where_nothing_fits():
    model, platform = load_model("deepseek-ai/DeepSeek-V3"), load_platform("h100_sxm")
    assert remedy(Scenario(model, platform, Workload(1, 100, 10))) is None


def test_pairs_are_tried_after_single_options():
    """61 GB of cache on a chip with room for 26 GB beside weights and whole prompts."""
    case = Scenario(
        load_model("Qwen/Qwen3-8B"),
        load_platform("l40s"),
        Workload(2, 100_000, 100),
        Parallelism(),
        Precision(),
        Serving(chunk=None),
    )
    found = remedy(case)
    assert found is not None
    assert found.options == "--chunk 8192 --kv-cache fp8"
