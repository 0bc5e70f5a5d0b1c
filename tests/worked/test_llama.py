"""Llama and Gemma on one accelerator, by hand."""

import equinox as eqx
import pytest
from support import (
    CHIP,
    assert_close,
)

from diffgenz import (
    HARD,
    Accelerator,
    Parallelism,
    Platform,
    Precision,
    Scenario,
    Serving,
    Workload,
    estimate,
    load_model,
)

CHAT = Workload(batch=12, input_tokens=700, output_tokens=90)
TIMES = ("ttft", "tpot", "end_to_end")


def times(result):
    return {name: getattr(result, name) for name in TIMES}


def test_one_token_of_llama_by_hand():
    """A batch of one on one accelerator, hard roofline: every kernel is bound by its bytes.

    Time is bytes over bandwidth, plus launches.
    """
    model = load_model("meta-llama/Llama-3.1-8B")
    chip = Platform(Accelerator(**CHIP | {"launch_latency": 1e-6}))
    context = 1000 + 100 / 2  # the mean over the generation, exact where time is linear in it
    hidden, kv, width, vocabulary, layers = 4096, 1024, 14336, 128256, 32
    linears = hidden * (hidden + 2 * kv) + hidden * hidden + 3 * hidden * width
    activations = hidden + (hidden + 2 * kv) + 2 * hidden + hidden + 2 * width + width + hidden
    others = 2 * 4 * hidden + (2 * (hidden + kv) + kv + 2 * kv) + 2 * hidden + 3 * width
    layer = 2 * (linears + activations + others + 2 * kv * (context + 1))
    ends = (
        2 * (2 * hidden + 4 * hidden + vocabulary * hidden + hidden + vocabulary + vocabulary) + 4
    )
    expected = (layers * layer + ends) / 4e12 + (layers * 9 + 4) * 1e-6
    now = estimate(Scenario(model, chip, Workload(1, 1000, 100), Parallelism(), sharpness=HARD))
    assert_close(now.tpot, expected, rtol=1e-6)


def test_memory_of_llama_by_hand(llama_8b, cluster):
    hidden, width, vocabulary, layers = 4096, 14336, 128256, 32
    linears = layers * (hidden * (4096 + 2 * 1024) + hidden * hidden + 3 * hidden * width)
    rest = 2 * vocabulary * hidden + (2 * layers + 1) * hidden
    chat = Workload(4, 100, 20)
    wide = estimate(Scenario(llama_8b, cluster, chat, Parallelism())).memory
    fp8 = Precision(weights="fp8", kv_cache="fp8")
    narrow = estimate(Scenario(llama_8b, cluster, chat, Parallelism(), fp8)).memory
    assert_close(wide.weights, 2 * (linears + rest), rtol=1e-6)
    assert_close(narrow.weights, linears + 2 * rest, rtol=1e-6)
    assert_close(wide.kv_cache, 4 * 120 * layers * 2 * 1024 * 2, rtol=1e-6)
    assert_close(narrow.kv_cache, 4 * 120 * layers * 2 * 1024, rtol=1e-6)
    # the activation reads gate and up, and writes their product
    largest = max(400 * (2 * width + width) * 2, 400 * (hidden + 2 * width) * 2)
    assert_close(wide.activations, 400 * hidden * 2 + largest, rtol=1e-6)
    assert_close(wide.total, wide.weights + wide.kv_cache + wide.activations + 2e9, rtol=1e-6)
    assert bool(wide.fits)
    many = Scenario(llama_8b, cluster, Workload(4000, 10000, 20), Parallelism())
    assert not bool(estimate(many).memory.fits)


@pytest.mark.parametrize("chunk", [None, 8192, 2048, 512])
def test_windowed_layers_keep_their_window_and_a_chunk(chunk, gemma_27b, cluster):
    """10 full and 52 windowed layers of vLLM, in groups of 10: 1 and 6, the last padded."""
    case = Scenario(gemma_27b, cluster, Workload(1, 10_000, 1), Parallelism())
    per_token = 2 * 16 * 128 * 2
    held = 10_001 if chunk is None else 1024 - 1 + chunk
    found = estimate(case.replace(serving=Serving(chunk=chunk))).memory.kv_cache
    assert_close(found, (10 * 10_001 + 60 * held) * per_token, rtol=1e-6)


def test_tied_weights_are_stored_once_and_read_twice(cluster):
    tied = load_model("google/gemma-2-2b")
    apart = eqx.tree_at(lambda m: m.hidden, tied, tied.hidden).replace(tied=False)
    one, two = (estimate(Scenario(model, cluster, CHAT, Parallelism())) for model in (tied, apart))
    assert_close(two.memory.weights - one.memory.weights, 256000 * 2304 * 2, rtol=1e-3)
    assert_close(times(one), times(two), rtol=0)
