"""Memory as an engine counts it: start-up logs of vLLM 0.19 on H100.

It logs the GiB that the weights of a rank take, and the KV cache that requests of 8,192 tokens
take, in B per token. Windows are whole there, since a chunk is as long as a request, and Gemma 3
has layers of padding.
"""

import pytest
from support import assert_close

from diffgenz import Parallelism, Scenario, Workload, estimate, load_model, load_platform

LOGS = {
    "google/gemma-2-27b": (1, 50.72, 376_832),
    "google/gemma-3-27b-pt": (1, 51.45, 573_583),
    "meta-llama/Llama-3.1-8B": (1, 14.99, 131_072),
    "Qwen/Qwen3-30B-A3B": (1, 56.88, 98_323),
    "deepseek-ai/DeepSeek-V2-Lite": (1, 29.43, 31_102),
    "mistralai/Mixtral-8x7B-v0.1": (2, 43.51, 65_540),
    "openai/gpt-oss-20b": (1, None, 49_156),  # its kernels keep padded experts in mxfp4
}


@pytest.mark.parametrize("name", LOGS)
def test_weights_and_cache_are_what_vllm_logs(name):
    ranks, weights, per_token = LOGS[name]
    platform = load_platform("h100_sxm", accelerators=ranks)
    case = Scenario(load_model(name), platform, Workload(2, 8192, 1), Parallelism(ranks))
    memory = estimate(case).memory
    assert_close(memory.kv_cache / (2 * 8192), per_token / 1.0, rtol=1e-3)
    if weights is not None:
        assert_close(memory.weights / 2**30, weights, rtol=3e-2)
