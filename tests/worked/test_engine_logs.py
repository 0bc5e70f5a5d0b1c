"""Memory as an engine counts it: start-up logs of vLLM 0.19 on H100.

It logs the GiB that the weights of a rank take, and the KV cache that requests of 8,192 tokens
take, in B per token. Windows are whole there, since a chunk is as long as a request, and Gemma 3
has layers of padding. Experts in mxfp4 are padded.
"""

from math import ceil

import pytest
from support import assert_close

from diffgenz import (
    Parallelism,
    Precision,
    Scenario,
    Workload,
    estimate,
    load_model,
    load_platform,
    load_precision,
)

LOGS = {
    "google/gemma-2-27b": (1, 50.72, 376_832),
    "google/gemma-3-27b-pt": (1, 51.45, 573_583),
    "meta-llama/Llama-3.1-8B": (1, 14.99, 131_072),
    "Qwen/Qwen3-30B-A3B": (1, 56.88, 98_323),
    "deepseek-ai/DeepSeek-V2-Lite": (1, 29.43, 31_102),
    "mistralai/Mixtral-8x7B-v0.1": (2, 43.51, 65_540),
    "openai/gpt-oss-20b": (1, 13.64, 49_156),
    "openai/gpt-oss-120b": (1, 65.97, None),  # vLLM issue 23278
}


@pytest.mark.parametrize("name", LOGS)
def test_weights_and_cache_are_what_vllm_logs(name):
    ranks, weights, per_token = LOGS[name]
    platform = load_platform("h100_sxm", accelerators=ranks)
    formats = load_precision(name, platform.accelerator) if "gpt-oss" in name else Precision()
    case = Scenario(load_model(name), platform, Workload(2, 8192, 1), Parallelism(ranks), formats)
    memory = estimate(case).memory
    if per_token is not None:
        assert_close(memory.kv_cache / (2 * 8192), per_token / 1.0, rtol=1e-3)
    assert_close(memory.weights / 2**30, weights, rtol=1e-2 if "gpt-oss" in name else 3e-2)


def rounded(features, multiple):
    return ceil(features / multiple) * multiple


@pytest.mark.parametrize(
    ("system", "multiple"),
    [
        ("a100_sxm", 128),  # Marlin
        ("h100_sxm", 128),
        ("rtx_5090", 128),  # also where mxfp4 is multiplied
        ("jetson_thor", 128),
        ("b200_sxm", 256),  # TensorRT-LLM
        ("vr200", 256),
        ("mi300x", 256),  # ROCm, also where mxfp4 is not multiplied
        ("mi355x", 256),
    ],
)
@pytest.mark.parametrize("layout", [(1, 1), (8, 1), (8, 8)])
def test_padding_of_experts_in_mxfp4_by_hand(system, multiple, layout):
    """What padding adds: gpt-oss-20b has 24 layers, and 32 experts from 2880 to 2880 to 2880."""
    tensor, expert = layout
    platform = load_platform(system, accelerators=tensor, fit="none")
    plan = Parallelism(tensor, expert=expert)

    def weights(experts):
        formats = Precision(modules={"experts": f"{experts}/bf16"})
        model = load_model("openai/gpt-oss-20b")
        return estimate(Scenario(model, platform, Workload(), plan, formats)).memory.weights

    width, held = 2880 * expert // tensor, 24 * 32 // expert
    padded = 3 * rounded(2880, 256) * rounded(width, multiple)
    size = 0.5 + 1 / 32
    biases = (2 * width + 2880) * padded / (3 * 2880 * width)
    expected = held * (padded + biases) * size
    own = held * (3 * 2880 * width + 2 * width + 2880)
    assert_close(weights("mxfp4") - weights("bf16"), expected - 2 * own, rtol=2e-3)
    assert_close(weights("bf16") - weights("fp8"), 1.0 * own, rtol=1e-5)  # nothing padded
