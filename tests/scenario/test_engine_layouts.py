"""Layouts that engines refuse: published refusals, and the rules worked by hand."""

import re

import pytest

import diffgenz as dgz
from diffgenz.models.files import list_models
from diffgenz.operators.layer_format import LayerFormat
from diffgenz.scenario.engines.engine import SGLANG, TITLES, VLLM, Ranks
from diffgenz.scenario.engines.layouts import Layouts
from diffgenz.scenario.engines.refusals import engine_notes

BF16 = dgz.Precision()
FP8_BLOCK = dgz.Precision("bf16", "fp8_block", "fp8")


def ranks(tensor=1, context=1, attention_data=1, pipeline=1, data=1, expert=1):
    return Ranks(tensor, context, attention_data, pipeline, data, expert)


def refused(model, plan, precision=BF16, engine=VLLM):
    return list(Layouts(dgz.load_model(model)).refusals(plan, precision, engine))


@pytest.mark.parametrize(
    ("model", "plan", "precision", "said"),
    [
        # vLLM issues 11147, 2652: 64 heads
        ("Qwen/Qwen3-32B", ranks(3), BF16, "tp 3: it does not divide the 64 attention heads"),
        ("Qwen/Qwen3-32B", ranks(6), BF16, "tp 6: .*; use tp 4"),
        # vLLM issue 414: 52 heads
        ("HuggingFaceTB/SmolLM2-1.7B", ranks(5), BF16, "the 32 attention heads"),
        ("01-ai/Yi-34B", ranks(16), BF16, "tp 16: it does not divide the 56 attention heads"),
        # vLLM issue 5951: 10 KV heads
        (
            "microsoft/Phi-3-medium-4k-instruct",
            ranks(4),
            BF16,
            "tp 4: it does not divide the 10 KV heads of .*; use tp 2",
        ),
        # vLLM issues 17569, 25292: blocks of 128 in 1536 / 8 = 192
        (
            "Qwen/Qwen3-235B-A22B",
            ranks(8),
            FP8_BLOCK,
            "tp 8: each rank gets 192 features of expert_gate_up, no multiple of the 128 that "
            "share a scale in fp8_block; use ep 8, which keeps experts whole",
        ),
        ("MiniMaxAI/MiniMax-M2", ranks(8), FP8_BLOCK, "each rank gets 192 features"),
        ("Qwen/Qwen3-30B-A3B", ranks(4), FP8_BLOCK, "each rank gets 192 features"),
        # MambaMixer2: 8 groups
        (
            "nvidia/Nemotron-H-56B-Base-8K",
            ranks(16),
            BF16,
            "tp 16: it does not divide the 8 state-space groups .*; use tp 8",
        ),
    ],
)
def test_known_refusals(model, plan, precision, said):
    for engine in TITLES:
        assert any(re.search(said, each) for each in refused(model, plan, precision, engine))


@pytest.mark.parametrize(
    ("model", "plan", "precision"),
    [
        ("Qwen/Qwen3-32B", ranks(8), FP8_BLOCK),  # 25600 / 8 = 25 x 128
        ("Qwen/Qwen3-235B-A22B", ranks(8, expert=8), FP8_BLOCK),
        ("Qwen/Qwen3-235B-A22B", ranks(4), FP8_BLOCK),  # 384
        ("Qwen/Qwen3-235B-A22B", ranks(8), BF16),  # 4 KV heads, each on 2 ranks
        ("deepseek-ai/DeepSeek-V3", ranks(attention_data=16, expert=16), FP8_BLOCK),
        ("openai/gpt-oss-120b", ranks(8), dgz.Precision("bf16", "mxfp4", "bf16")),  # 2880 / 8
        ("nvidia/Nemotron-H-56B-Base-8K", ranks(8), BF16),
        ("ibm-granite/granite-4.0-h-small", ranks(8), BF16),  # one group, copied to all ranks
    ],
)
def test_accepted(model, plan, precision):
    for engine in TITLES:
        assert refused(model, plan, precision, engine) == []


@pytest.mark.parametrize("model", list_models()[::4])
def test_one_rank_and_as_many_as_a_prime_larger_than_any_width(model):
    """Each model runs whole; none is shared by 7,919 ranks, which divide no width."""
    for engine in TITLES:
        assert refused(model, ranks(), BF16, engine) == []
        many = refused(model, ranks(7919), BF16, engine)
        assert all(each.startswith("tp 7919: it does not divide ") for each in many)
        assert any("of the vocabulary" in each for each in many)
        assert len(many) > 1


def test_experts_on_some_ranks_are_for_sglang_alone():
    plan = ranks(8, expert=2)
    (reason,) = refused("mistralai/Mixtral-8x7B-v0.1", plan)
    assert reason.startswith("ep 2: it spreads experts over all 8 ranks of a stage or over none")
    assert refused("mistralai/Mixtral-8x7B-v0.1", plan, engine=SGLANG) == []


def test_context_ranks_are_for_latent_attention_in_vllm_alone():
    (reason,) = refused("meta-llama/Llama-3.1-8B", ranks(2, context=2))
    assert reason == "cp 2: it shares no sequences of attention with KV heads; use cp 1"
    assert refused("deepseek-ai/DeepSeek-V3", ranks(2, context=2), FP8_BLOCK) == []
    for other in ({"pipeline": 2}, {"attention_data": 2}):
        (reason,) = refused("deepseek-ai/DeepSeek-V3", ranks(2, context=2, **other), FP8_BLOCK)
        assert "cp 2: it does not go with" in reason
    (reason,) = refused("deepseek-ai/DeepSeek-V3", ranks(2, context=2), FP8_BLOCK, SGLANG)
    assert reason.startswith("cp 2: its context ranks share prompts, not the KV cache")


def test_where_engines_share_layers_with_other_ranks():
    """32 attention groups of one rank: SGLang cuts the 2,048 features of the shared expert."""
    plan = ranks(attention_data=32, expert=32)
    assert refused("deepseek-ai/DeepSeek-V3", plan, FP8_BLOCK) == []
    reasons = refused("deepseek-ai/DeepSeek-V3", plan, FP8_BLOCK, SGLANG)
    assert any("each rank gets 64 features of gate_up" in each for each in reasons)


def test_only_layers_in_blocks_are_cut_by_them():
    """Experts in fp8 blocks, attention in bf16: what is wide may be shared in any way."""
    wide = dgz.Precision("bf16", "fp8_block", "fp8", modules={"experts": "bf16"})
    assert refused("Qwen/Qwen3-235B-A22B", ranks(8), wide) == []


@pytest.mark.parametrize(("group", "accepted"), [(32, True), (64, True), (128, False)])
def test_groups_of_int4_are_those_that_the_size_of_a_weight_says(group, accepted):
    """Of Qwen1.5-MoE's 5,632 shared features, an eighth is 704: 5.5 x 128, and 11 x 64."""
    size = 0.5 + 2 / group
    narrow = {key: LayerFormat("int4", "bf16", size) for key in ("attention", "mlp", "experts")}
    precision = dgz.Precision("bf16", modules=narrow)
    reasons = refused("Qwen/Qwen1.5-MoE-A2.7B", ranks(8, expert=1), precision)
    cut = [each for each in reasons if "704 features of down" in each]
    assert (cut == []) == accepted


def test_the_vocabulary_is_padded_to_64():
    """Qwen2.5-14B's 152,064 tokens are 64 x 2,376, of which 5 ranks get no whole number."""
    reasons = refused("Qwen/Qwen2.5-14B", ranks(5))
    assert any("does not divide the 152,064 tokens of the vocabulary" in each for each in reasons)


def test_notes_name_the_engines_that_agree():
    model = dgz.load_model("Qwen/Qwen3-32B")
    platform = dgz.load_platform("h200_sxm", 8, fit="none")
    case = dgz.Scenario(model, platform, dgz.Workload(1, 100, 10), dgz.Parallelism(6))
    (note,) = engine_notes(case)
    assert note.startswith("vLLM and SGLang would refuse tp 6: it does not divide the 64 attention")
    case = case.replace(plan=dgz.Parallelism(8), workload=dgz.Workload(1, 40000, 961))
    (note,) = engine_notes(case)
    assert "40,961 tokens, input and output, exceed the 40,960 positions" in note
    assert engine_notes(case.replace(workload=dgz.Workload(1, 40000, 960))) == []
