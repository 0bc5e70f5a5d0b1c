"""Mixture of experts: counts by hand, and the published active parameters."""

import jax.numpy as jnp
import numpy as np
import pytest
from support import assert_close, explained, visits

from diffgenz import InputError, Parallelism, Precision, Scenario, Workload, estimate, load_model
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.blocks.moe import MoE
from diffgenz.models.files import list_models, read_config
from diffgenz.operators.routing import Traced
from diffgenz.operators.step import Alone, Shared, Step

CONFIGS = {name: read_config(name)[1] for name in list_models()}
SPARSE = [name for name, config in CONFIGS.items() if "published_active_parameters" in config]
HIDDEN = jnp.asarray(512.0)


def step(tokens=1.0, ranks=1.0, experts=1.0, context=0.0, queries=1.0, decoding=False):
    return Step(tokens, queries, context, 1 / ranks, Precision(), 1 / experts, decoding=decoding)


def named(block, at):
    return {op.name: op for op in block.operators(HIDDEN, at)}


@pytest.mark.parametrize("name", SPARSE)
def test_active_parameters_equal_the_published_ones(name):
    """Publishers differ in whether the embedding and the LM head count; the file says which."""
    config, model = CONFIGS[name], load_model(name)
    table = float(model.vocabulary * model.hidden)
    tables = {
        "with_embedding_and_head": 0,
        "without_embedding": 0 if model.tied else 1,
        "without_embedding_and_head": 1 if model.tied else 2,
    }
    counted = (
        float(model.active_parameters) - table * tables[config["active_parameters_convention"]]
    )
    assert counted == pytest.approx(config["published_active_parameters"], rel=0.01)
    assert counted < float(model.parameters) / 2


def test_all_experts_used_is_a_dense_mlp_of_their_width():
    at = step(100)
    moe, dense = (
        named(MoE(routed=4, used=4, intermediate=256, tile=1), at),
        named(MLP(intermediate=1024), at),
    )
    for routed, plain in (("expert_gate_up", "gate_up"), ("expert_down", "down")):
        assert_close(moe[routed].flops, dense[plain].flops, rtol=1e-6)
        assert_close(moe[routed].weights, dense[plain].weights, rtol=1e-6)
        assert_close(moe[routed].parameters, dense[plain].parameters, rtol=1e-6)


def test_one_token_reads_k_experts_and_many_read_all():
    moe = MoE(routed=64, used=6, intermediate=128)
    tokens = np.array([1.0, 2.0, 10.0, 1e4])
    each = 2 * 128 * 512 * 2
    weights = [float(named(moe, step(count))["expert_gate_up"].weights) for count in tokens]
    found = np.array(weights)
    assert_close(found, each * 64 * (1 - (1 - 6 / 64) ** tokens), rtol=1e-5)
    assert_close(found[[0, 3]], np.array([6 * each, 64 * each]), rtol=1e-5)


@pytest.mark.parametrize("experts", [1, 2, 8])
def test_expert_parallel_ranks_share_experts_and_rows(experts):
    moe = MoE(routed=64, used=6, intermediate=1024, tile=1)
    alone, shared = named(moe, step(100)), named(moe, step(100, ranks=8, experts=experts))
    for name in ("expert_gate_up", "expert_down"):
        for quantity in ("flops", "weights", "parameters"):
            assert_close(
                8 * getattr(shared[name], quantity), getattr(alone[name], quantity), rtol=1e-5
            )


def test_rows_of_the_fullest_rank_count_up_to_all_rows():
    def rows(excess, experts):
        block = MoE(routed=64, used=6, intermediate=1024, tile=1)
        at = step(100, ranks=8, experts=experts).replace(routing=Traced(rows=excess))
        return float(named(block, at)["expert_down"].flops)

    assert rows(3, 8) == pytest.approx(3 * rows(1, 8))
    assert rows(100, 8) == pytest.approx(8 * rows(1, 8))
    assert rows(3, 1) == pytest.approx(rows(1, 1))


def test_chunks_sinks_and_patterns_of_families():
    oss, scout = load_model("openai/gpt-oss-20b"), load_model("meta-llama/Llama-4-Scout-17B-16E")
    assert [
        (float(r.count), r.block.window is None) for r in oss.blocks if r.block.mixes_tokens
    ] == [(12, False), (12, True)]
    assert [
        (float(r.count), r.block.window is None) for r in scout.blocks if r.block.mixes_tokens
    ] == [(36, False), (12, True)]
    assert [float(r.count) for r in load_model("deepseek-ai/DeepSeek-V3").blocks] == [61, 3, 58]


def test_more_tokens_at_once_amortise_the_experts(cluster):
    model = load_model("mistralai/Mixtral-8x7B-v0.1")
    one, many = (
        estimate(Scenario(model, cluster, Workload(batch, 500, 50), Parallelism(8))).tpot
        for batch in (1, 64)
    )
    assert one < many < 8 * one


@pytest.mark.parametrize(
    ("plan", "exchanges"),
    [(Parallelism(8, expert=8), False), (Parallelism(2, expert=8, attention_data=4), True)],
)
def test_only_attention_groups_of_their_own_exchange_tokens(plan, exchanges, cluster):
    result, rows = explained(
        Scenario(load_model("mistralai/Mixtral-8x7B-v0.1"), cluster, Workload(64, 500, 50), plan)
    )
    for phase in ("ttft", "tpot"):
        assert (sum(rows.rows(phase)["exchange"].values()) > 0) == exchanges
        assert_close(getattr(rows, phase).sum(), getattr(result, phase), rtol=1e-6)


def test_layouts_of_the_same_ranks_hold_the_same_experts_and_do_the_same_work():
    """8 ranks: one attention group of 8, or 4 of 2, with 8, 4 or 1 expert groups.

    Expert FLOP and weights are an eighth each.
    """
    moe = MoE(routed=64, used=6, intermediate=1024, tile=1)
    whole = named(moe, step(800))["expert_gate_up"]
    for tensor, groups, experts in ((8, 1, 8), (2, 4, 8), (2, 4, 4), (8, 1, 1), (1, 8, 8)):
        at = Step(800 / groups, 1.0, 0.0, 1 / tensor, Precision(), 1 / experts, groups)
        # 2 context-parallel ranks: 8 more, which halve what each has to do
        for share in (Alone(), Shared(1.0), Shared(2.0), Shared(2.0, 1.0)):
            sequences = at.sequences / float(share.parts)
            mine = named(moe, at.replace(shared=share, sequences=sequences))["expert_gate_up"]
            more = float(share.ranks)
            assert_close(mine.flops, whole.flops / 8 / more, rtol=1e-5)
            assert_close(mine.parameters, whole.parameters / 8 / more, rtol=1e-6)


def test_bad_layouts_and_numbers_are_refused(cluster):
    model = load_model("mistralai/Mixtral-8x7B-v0.1")
    with pytest.raises(
        InputError, match="expert: 3 does not divide the 8 tensor x context x attention_data ranks"
    ):
        Parallelism(8, expert=3)
    with pytest.raises(
        InputError,
        match=r"expert: 16 does not divide the 8 experts of mistralai/Mixtral-8x7B-v0\.1",
    ):
        estimate(Scenario(model, cluster, Workload(), Parallelism(16, expert=16)))
    with pytest.raises(
        InputError,
        match="attention_data: 2 exceeds 1, since meta-llama/Llama-3.1-8B has no experts; use data",
    ):
        estimate(
            Scenario(
                load_model("meta-llama/Llama-3.1-8B"),
                cluster,
                Workload(),
                Parallelism(attention_data=2),
            )
        )
    with pytest.raises(InputError, match="used: 9 exceeds 8, the routed experts"):
        MoE(routed=8, used=9, intermediate=64)


def experts_shape(plan_ranks, groups, tokens=64.0):
    block = MoE(256, 8, 2048)
    step = Step(tokens, 1.0, 100.0, 1.0, Precision(), 1 / plan_ranks, groups)
    (shape,) = (
        op.shape
        for op in block.operators(jnp.asarray(7168.0), step)
        if op.kernel == "experts" and op.shape is not None
    )
    return shape


def test_experts_see_the_tokens_that_arrive_and_all_of_those_that_are_not_sent():
    """Of 64 ranks' tokens, those that have an expert on this one: 8 / 64 of their copies."""
    sent, seen = experts_shape(64, 64.0), experts_shape(64, 1.0, 64 * 64.0)
    arriving = 64 * visits(64, 256, 8)
    assert_close(sent.tokens, arriving, rtol=2e-4)
    assert (float(sent.experts), float(sent.groups)) == (4, 1)
    assert (float(seen.tokens), float(seen.used), float(seen.experts), float(seen.groups)) == (
        4096,
        8,
        256,
        64,
    )
    for shape in (sent, seen):
        assert_close(shape.tokens * shape.used / shape.groups, 64 * 8, rtol=1e-5)  # rows
    assert_close(sent.variation, seen.variation, rtol=1e-6)
