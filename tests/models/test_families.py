"""Shipped models: parameters as published, layers and KV cache by hand."""

from functools import cache

import jax
import pytest

from diffgenz import load_model, model_from_config
from diffgenz.models.files import kind_of, list_models, read_config
from diffgenz.models.huggingface import FAMILIES
from diffgenz.operators.message import AllReduce
from diffgenz.operators.precision import Precision
from diffgenz.operators.step import Step

MODELS = list_models()


@cache
def counted(name):
    """Parameters that the operators keep, and those that were published."""
    with jax.enable_x64(True):
        return float(load_model(name).parameters), read_config(name)[1]["published_parameters"]


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_the_published_ones(name):
    actual, published = counted(name)
    assert actual == pytest.approx(published, rel=0.01)


def test_most_are_exact():
    exact = [name for name in MODELS if counted(name)[0] == counted(name)[1]]
    assert len(exact) >= 40
    assert len(exact) > 0.9 * len(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_every_file_says_where_it_comes_from(name):
    config = read_config(name)[1]
    assert len(config["source"]) > 10
    assert len(config["parameters_source"]) > 10


@cache
def shipped_types():
    configs = [read_config(name)[1] for name in MODELS]
    types = {config.get("text_config", config).get("model_type") for config in configs}
    return types | {kind_of(config) for config in configs}


@pytest.mark.parametrize("read", sorted({read.__name__ for read in FAMILIES.values()}))
def test_every_family_has_a_shipped_model(read):
    """A family may have several names, as of a model and of its language model."""
    assert shipped_types() & {kind for kind, family in FAMILIES.items() if family.__name__ == read}


@pytest.mark.parametrize("name", MODELS)
def test_layers_are_those_of_the_file(name):
    config = read_config(name)[1]
    config = config.get("text_config", config.get("llm_config", config))
    keys = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_transformer_layers")
    expected = next((config[key] for key in keys if config.get(key) is not None), 0)
    if (
        config.get("model_type") == "nemotron_h"
    ):  # a layer of it is one block; those that mix tokens count
        kinds = config.get("hybrid_override_pattern", config.get("layers_block_type"))
        expected = sum(kind in ("M", "*", "mamba", "attention") for kind in kinds)
    if config.get("model_type") == "nemotron-nas":  # layers without attention do not mix tokens
        expected -= sum(each["attention"].get("no_op", False) for each in config["block_configs"])
    if config.get("model_type") == "zamba2":  # shared attention comes on top
        expected += len(config["hybrid_layer_ids"])
    assert float(load_model(name).layers) == expected


@pytest.mark.parametrize(
    ("name", "context", "expected"),
    [
        ("meta-llama/Llama-2-7b-hf", 4096, 32 * 2 * 32 * 128 * 2 * 4096),  # multi-head
        ("meta-llama/Llama-3.1-70B", 8192, 80 * 2 * 8 * 128 * 2 * 8192),  # grouped-query
        ("tiiuae/falcon-7b", 2048, 32 * 2 * 1 * 64 * 2 * 2048),  # multi-query
        (
            "google/gemma-3-27b-pt",
            8192,
            2 * 16 * 128 * 2 * (52 * 1024 + 10 * 8192),
        ),  # 5 of 6 layers slide a window
        (
            "google/gemma-2-9b",
            8192,
            2 * 8 * 256 * 2 * (21 * 4096 + 21 * 8192),
        ),  # every other layer does
        ("mistralai/Mistral-7B-v0.1", 8192, 2 * 8 * 128 * 2 * 32 * 4096),  # every layer does
        ("mistralai/Mistral-7B-v0.3", 8192, 2 * 8 * 128 * 2 * 32 * 8192),  # none does
    ],
)
def test_kv_cache_by_hand(name, context, expected):
    step = Step(1.0, 1.0, context - 1.0, 1.0, Precision())
    held = sum(op.repeats * op.cached for op in load_model(name).layer_operators(step))
    assert float(held) == pytest.approx(expected, rel=1e-7)


def test_parallel_blocks_share_one_all_reduce():
    falcon, llama = load_model("tiiuae/falcon-7b"), load_model("meta-llama/Llama-3.1-8B")
    step = Step(1.0, 1.0, 0.0, 1.0, Precision())

    def reductions(model):
        return sum(
            float(op.repeats)
            for op in model.layer_operators(step)
            for message in op.messages
            if isinstance(message, AllReduce)
        )

    assert (reductions(falcon), reductions(llama)) == (32, 64)


@pytest.mark.parametrize(
    ("name", "layers"),
    [("allenai/OLMoE-1B-7B-0125", 16), ("MiniMaxAI/MiniMax-M2", 62), ("Qwen/Qwen3-32B", 0)],
)
def test_norms_over_all_heads_need_the_sums_of_squares_of_all_ranks(name, layers):
    """Two float32 numbers for each of 3 x 7 tokens in each layer; norms of one head need none."""
    step = Step(3.0, 7.0, 0.0, 4.0, Precision())
    sent = [
        float(op.repeats * message.volume)
        for op in load_model(name).layer_operators(step)
        for message in op.messages
        if message.name == "norm_sums"
    ]
    assert sum(sent) == layers * 3 * 7 * 2 * 4


def test_published_gemma_files_leave_sizes_to_defaults():
    """The 27B file on the Hub has no vocab_size, the 12B no head_dim."""
    facts = {
        "model_type": "gemma3_text",
        "hidden_size": 3840,
        "intermediate_size": 15360,
        "num_hidden_layers": 48,
        "num_attention_heads": 16,
    }
    bare = model_from_config(facts | {"num_key_value_heads": 8, "sliding_window": 1024}, "bare")
    assert float(bare.parameters) == float(load_model("google/gemma-3-12b-pt").parameters)
