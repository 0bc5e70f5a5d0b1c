"""Families with recurrent blocks: caches by hand, whole models, and what is refused."""

import numpy as np
import pytest
from support import assert_close, assert_finite

from diffgenz import (
    InputError,
    Parallelism,
    Precision,
    Scenario,
    Workload,
    breakdown,
    estimate,
    load_model,
    model_from_config,
)
from diffgenz.inference.breakdown import RESOURCES
from diffgenz.models.blocks.attention import Attention
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.families.hybrid import HYBRID
from diffgenz.models.files import list_models, read_config
from diffgenz.operators.step import Step
from diffgenz.studies.search.smallest_layout import smallest_layout

SHIPPED = [name for name in list_models() if read_config(name)[1].get("model_type") in HYBRID]


def step(sequences=1.0, queries=1.0, context=0.0, ranks=1.0, decoding=False):
    return Step(sequences, queries, context, 1 / ranks, Precision(), decoding=decoding)


def test_a_model_of_states_keeps_no_more_for_longer_contexts(cluster):
    model = load_model("tiiuae/falcon-mamba-7b")
    short, long = (
        estimate(Scenario(model, cluster, Workload(4, tokens, 16), Parallelism()))
        for tokens in (100, 100_000)
    )
    per_sequence = 64 * (8192 * 16 * 4 + 8192 * 3 * 2)
    assert_close([short.memory.kv_cache, long.memory.kv_cache], [4 * per_sequence] * 2, rtol=1e-6)
    assert float(short.tpot) == float(long.tpot)
    assert float(long.ttft) > 500 * float(short.ttft) / 2


def test_cache_of_a_hybrid_by_hand():
    """Jamba 1.5 Mini: 4 layers of grouped-query attention, 28 of Mamba."""
    model = load_model("ai21labs/AI21-Jamba-1.5-Mini")
    for tokens in (1, 10_000):
        held = sum(
            float(op.repeats * op.cached) for op in model.layer_operators(step(2, 1, tokens - 1))
        )
        assert held == pytest.approx(
            2 * (4 * 2 * 8 * 128 * 2 * tokens + 28 * (8192 * 16 * 4 + 8192 * 3 * 2)), rel=1e-6
        )


def test_cache_of_kimi_linear_by_hand():
    """7 layers of latent attention, 20 of delta attention."""
    model = load_model("moonshotai/Kimi-Linear-48B-A3B-Instruct")
    held = sum(
        float(op.repeats * op.cached)
        for op in model.layer_operators(step(1, 1, 9999, decoding=True))
    )
    assert held == pytest.approx(
        7 * 10_000 * 576 * 2 + 20 * (32 * 128 * 128 * 4 + 3 * 4096 * 3 * 2), rel=1e-6
    )


SIZES = {
    "hidden_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 2048,
    "vocab_size": 1000,
}

GRANITE = {
    "model_type": "granitemoehybrid",
    "layer_types": ["attention"] * 4,
    "shared_intermediate_size": 2048,
    "position_embedding_type": "rope",
}

JAMBA = {"model_type": "jamba", "attn_layer_period": 1, "attn_layer_offset": 0, "num_experts": 1}
WORKLOAD, PLAN = Workload(3, 700, 50), Parallelism(2)


def test_a_hybrid_without_states_is_the_transformer(cluster):
    """Jamba's attention has no positions."""
    llama, granite, jamba = (
        model_from_config(SIZES | facts, "small")
        for facts in ({"model_type": "llama"}, GRANITE, JAMBA)
    )
    bare = llama.replace(
        blocks=(
            llama.blocks[0].replace(block=llama.blocks[0].block.replace(rotary=False)),
            *llama.blocks[1:],
        )
    )
    for hybrid, transformer in ((granite, llama), (jamba, bare)):
        assert_close(
            estimate(Scenario(hybrid, cluster, WORKLOAD, PLAN)),
            estimate(Scenario(transformer, cluster, WORKLOAD, PLAN)),
            rtol=1e-6,
        )
    assert [type(repeated.block) for repeated in jamba.blocks] == [Attention, MLP]


@pytest.mark.parametrize("name", SHIPPED)
def test_estimates_are_finite_add_up_and_grow_with_the_prompt(name, cluster):
    model = load_model(name)

    results = []
    for tokens in (1000.0, 2000.0):
        case = Scenario(model, cluster, Workload(2, tokens, 20), Parallelism(8))
        result, rows = estimate(case), breakdown(case)
        assert_finite((result, rows))
        for phase in ("ttft", "tpot"):
            seconds = np.asarray(getattr(rows, phase))
            assert_close(seconds.sum(), getattr(result, phase), rtol=2e-6)
            assert seconds[rows.operators.index("scan"), RESOURCES.index("memory")] > 0
        results.append(result)
    one, two = results
    assert one.ttft < two.ttft < 2.5 * one.ttft
    assert one.memory.kv_cache <= two.memory.kv_cache


def test_the_smallest_layout_of_a_model_without_heads(cluster):
    """Channels set no limit: the node does."""
    model = load_model("tiiuae/falcon-mamba-7b")
    layout = smallest_layout(Scenario(model, cluster, Workload(16_000, 10, 10)), 1)
    assert layout is not None
    assert (layout.plan.tensor, layout.plan.pipeline) == (8, 1)


MISSING = [
    ("tiiuae/falcon-mamba-7b", "hidden_size"),
    ("mistralai/Mamba-Codestral-7B-v0.1", "num_heads"),
    ("ai21labs/AI21-Jamba-1.5-Mini", "intermediate_size"),
    ("nvidia/Nemotron-H-8B-Base-8K", "hybrid_override_pattern"),
    ("nvidia/Nemotron-H-8B-Base-8K", "ssm_state_size"),
    ("ibm-granite/granite-4.0-h-tiny", "layer_types"),
    ("ibm-granite/granite-4.0-h-tiny", "mamba_n_heads"),
    ("Zyphra/Zamba2-7B", "adapter_rank"),
    ("Qwen/Qwen3-Next-80B-A3B-Instruct", "linear_num_key_heads"),
    ("moonshotai/Kimi-Linear-48B-A3B-Instruct", "linear_attn_config"),
]


@pytest.mark.parametrize(("name", "field"), MISSING)
def test_a_missing_field_is_named(name, field):
    config = {key: value for key, value in read_config(name)[1].items() if key != field}
    with pytest.raises(InputError, match=f"small: config.json lacks {field}"):
        model_from_config(config, "small")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("nvidia/Nemotron-H-8B-Base-8K", {"hybrid_override_pattern": "MMX"}),
        ("nvidia/Nemotron-H-8B-Base-8K", {"hybrid_override_pattern": "M*"}),
        ("tiiuae/falcon-mamba-7b", {"state_size": -1}),
        ("Zyphra/Zamba2-7B", {"use_shared_attention_adapter": True}),
        ("tiiuae/falcon-mamba-7b", {"time_step_rank": "many"}),
    ],
    ids=str,
)
def test_a_bad_field_is_named(name, change):
    with pytest.raises(InputError, match=f"small: {next(iter(change))}: "):
        model_from_config(read_config(name)[1] | change, "small")


def test_sizes_that_published_files_leave_out():
    """Automatic rank is a sixteenth of the width; the inner width is `expand` times the model's."""
    config = {
        key: value
        for key, value in read_config("state-spaces/mamba-2.8b-hf")[1].items()
        if key != "intermediate_size"
    }
    bare = model_from_config(config | {"time_step_rank": "auto"}, "bare")
    assert float(bare.parameters) == float(load_model("state-spaces/mamba-2.8b-hf").parameters)
