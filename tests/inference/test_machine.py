"""What messages take, by hand: hops between stages, tokens on their way to experts."""

import dataclasses

import jax.numpy as jnp
import pytest
from support import FABRIC, NODE, assert_close, make_cluster, make_machine, visits

from diffgenz import HARD, Parallelism, Precision, load_model
from diffgenz.inference.timing.collectives import Group, Link
from diffgenz.models.blocks.moe import MoE
from diffgenz.operators.message import AllGather, AllReduce, Axis, Exchange, Handover
from diffgenz.operators.step import Step
from diffgenz.operators.visits import GroupLimit

LAUNCH = 2e-6


def machine_of(plan, precision=None):
    return make_machine(make_cluster(), plan, precision)


def links_of(cluster):
    return tuple(Link.of(level) for level in cluster.network)


# ---- stages


@pytest.mark.parametrize(
    ("tensor", "stages", "inner", "outer"),
    [
        (1, 1, 0, 0),
        (1, 8, 7, 0),  # one node
        (2, 4, 3, 0),
        (8, 4, 0, 3),  # a node each
        (4, 4, 2, 1),  # two to a node
        (2, 8, 6, 1),
        (16, 4, 0, 3),  # two nodes each
        (1, 64, 56, 7),
    ],
)
def test_stages_hand_over_on_the_innermost_level_that_spans_them(tensor, stages, inner, outer):
    machine = machine_of(Parallelism(tensor, stages))
    message = Handover("send", Axis.PIPELINE, jnp.asarray(1e6))
    expected = inner * (1e-6 + 1e6 / 4e11) + outer * (5e-6 + 1e6 / 5e10)
    found = machine.seconds(message, HARD)
    assert_close(found.total, expected, 1e-6)
    assert found.launch == 0
    assert_close(machine.sent(message), (inner * 1e6, outer * 1e6), 1e-6)


# ---- tensor and context ranks


def test_an_all_reduce_by_hand():
    """16 ranks on nodes of 8: all of the volume inside, an eighth of it between two nodes."""
    machine = machine_of(Parallelism(16))
    message = AllReduce("all_reduce", Axis.TENSOR, jnp.asarray(1e6))
    inside = min(2e-6 + 2 * 7 / 8 * 1e6 / 4e11, 1e-6 + 7e6 / 4e11)
    outside = 2 * 5e-6 + 2 * 1 / 2 * 1e6 / 8 / 5e10
    found = machine.seconds(message, HARD)
    assert_close((found.total, found.launch), (LAUNCH + inside + outside, LAUNCH), 1e-6)
    assert_close(machine.sent(message), (2 * 7 / 8 * 1e6, 2 * 1 / 2 * 1e6 / 8), 1e-6)
    twice = machine.seconds(AllReduce("all_reduce", Axis.TENSOR, jnp.asarray(1e6), 2.0), HARD)
    assert_close(twice.total - found.total, LAUNCH, 1e-4)


def test_context_ranks_gather_over_the_accelerators_between_them():
    """4 context ranks at a distance of 4 accelerators: two in each of two nodes."""
    machine = machine_of(Parallelism(4, context=4))
    message = AllGather("context_all_gather", Axis.CONTEXT, jnp.asarray(1e6))
    inside, outside = 1e-6 + 1 / 2 * 1e6 / 4e11, 5e-6 + 1 / 2 * 1e6 / 2 / 5e10
    assert_close(machine.seconds(message, HARD).total, LAUNCH + inside + outside, 1e-6)
    assert_close(machine.sent(message), (1e6 / 2, 1e6 / 4), 1e-6)


# ---- experts


def exchange(picks, dispatch=2e6, combine=4e6, groups=8.0, **routing):
    numbers = (picks, 64.0, 100.0, dispatch, combine, groups)
    return Exchange("exchange", Axis.EXPERT, *(jnp.asarray(x) for x in numbers), **routing)


def exchange_seconds(plan, picks, sharpness=HARD, **options):
    """Seconds of an exchange, and of its all-to-all alone."""
    message, machine = exchange(picks, **options), machine_of(plan)
    scattered = machine.stage.there_and_back(message, plan.expert, sharpness, padded=True)
    return float(machine.seconds(message, sharpness).total), float(scattered) + 2 * LAUNCH


def test_a_token_crosses_to_a_node_once_however_many_experts_it_has_there(cluster):
    """64 ranks in nodes of 8, 8 of 64 experts per token.

    Each is on a rank of its own; levels work at the same time.
    """
    links = links_of(cluster)
    message = exchange(8.0, dispatch=4e5, combine=6e5)
    inside = 8 * (7 / 8) * 1e6 / 4e11
    outside = visits(8, 64, 8) * (7 / 8) * 1e6 / 5e10

    def seconds(ranks, sharpness=HARD):
        group = Group.of(jnp.asarray(ranks), links)
        return group.there_and_back(message, jnp.asarray(ranks), sharpness, padded=False)

    latencies = 2 * (1e-6 + 5e-6)
    assert_close(seconds(64.0), max(inside, outside) + latencies, rtol=1e-3)
    assert_close(seconds(64.0, 8), (inside**8 + outside**8) ** (1 / 8) + latencies, rtol=1e-3)
    assert_close(seconds(8.0), visits(8, 64, 8) * (7 / 8) * 2.5e-6 + 2e-6, rtol=1e-3)
    assert float(seconds(1.0)) == 0


def test_with_one_owner_everything_goes_everywhere(cluster):
    group = Group.of(jnp.asarray(8.0), links_of(cluster))
    whole = 2 * group.all_gather(jnp.asarray(8e6), HARD)
    message = exchange(3.0, dispatch=1e6, combine=1e6)
    back = group.there_and_back(message, jnp.asarray(1.0), HARD, padded=True)
    assert_close(back, whole, rtol=1e-5)


def test_experts_are_reached_by_the_faster_transport_by_hand():
    """A node: 4 attention groups of 2 ranks.

    All-gather: 3/4 of all tokens, 8 ranks' shares. All-to-all: 7/8 of a share's copies, one for
    each of the ranks that hold one of its k experts.
    """
    plan, latencies = Parallelism(2, expert=8, attention_data=4), 2 * 1e-6 + 2 * LAUNCH
    gathered = latencies + 3 / 4 * 8 * 6e6 / 4e11
    for picks in (1, 4, 13, 30):
        scattered = latencies + 7 / 8 * visits(8, 64, picks) * 6e6 / 4e11
        now, before = exchange_seconds(plan, float(picks))
        assert (now, before) == pytest.approx((min(gathered, scattered), scattered), rel=2e-3)
        assert (now < 0.99 * before) == (picks > 15)
        smooth = (gathered**-8 + scattered**-8) ** (-1 / 8)
        assert exchange_seconds(plan, float(picks), 8)[0] == pytest.approx(smooth, rel=2e-3)
    # a gather does not wait for the fullest
    full = exchange_seconds(plan, 4.0, excess=jnp.asarray(8.0))
    assert full[0] == pytest.approx(gathered, rel=1e-5)
    # all ranks need all tokens
    alone = plan.replace(expert=1)
    assert exchange_seconds(alone, 1.0)[0] == pytest.approx(gathered, rel=1e-5)


@pytest.mark.parametrize(
    "plan",
    [Parallelism(1, expert=8, attention_data=8), Parallelism(8, expert=64, attention_data=8)],
)
def test_the_second_transport_never_slows_experts_down(plan):
    for picks in (1.0, 8.0, 64.0):
        now, before = exchange_seconds(plan, float(picks))
        assert now <= before * (1 + 1e-6)


def test_an_exchange_is_launched_twice_and_needs_two_groups():
    """However the transports are weighed, what they launch is the same, and all of it is waited
    for."""
    plan = Parallelism(1, expert=8, attention_data=8)
    for sharpness in (8, HARD):
        found = machine_of(plan).seconds(exchange(4.0), sharpness)
        assert 0 < float(found.launch) <= 2 * LAUNCH * (1 + 1e-6)
        none = machine_of(plan).seconds(exchange(4.0, groups=1.0), sharpness)
        assert (none.total, none.launch) == (0, 0)


def test_bytes_of_an_exchange_are_those_of_the_copies_by_hand():
    """16 ranks, 2 nodes: 15/16 of the ranks are others.

    A copy for each rank inside that holds one of 4 experts, for each such node outside.
    """
    machine = machine_of(Parallelism(1, expert=16, attention_data=16))
    near, far = visits(16, 64, 4) * 7 / 8 * 6e6, visits(2, 64, 4) * 1 / 2 * 6e6
    assert_close(machine.sent(exchange(4.0)), (near, far), 1e-3)
    assert_close(machine.sent(exchange(4.0, groups=1.0)), (0.0, 0.0), 0)
    assert (NODE["size"], FABRIC["size"]) == (8, 1024)


def test_a_router_limited_to_groups_sends_fewer_copies():
    """DeepSeek-V3 on 8 nodes of 8: at most 4 of 8 groups, of which 1/8 is the own node: 3.5."""
    plan = Parallelism(1, expert=64, attention_data=64)
    message, limit = exchange(8.0, groups=64.0), GroupLimit(jnp.asarray(8.0), jnp.asarray(4.0))
    limited = dataclasses.replace(message, limit=limit)
    machine, volume = machine_of(plan), 6e6
    assert_close(machine.sent(limited)[1], 3.5 * volume, 1e-5)
    assert_close(machine.sent(message)[1], visits(8, 64, 8) * 7 / 8 * volume, 1e-3)
    within = 32 * (1 - 7 / 8 * (31 / 32) ** 4)  # ranks, 8 of each of 4 nodes
    assert_close(machine.sent(limited)[0], within * 7 / 8 * volume, 1e-5)

    faster, slower = (machine.seconds(each, HARD).total for each in (limited, message))
    wires = 3.5 * volume / 5e10 + 2 * (1e-6 + 5e-6) + 2 * LAUNCH
    assert_close(faster, wires, 1e-5)
    assert float(slower) > 1.3 * float(faster)


@pytest.mark.parametrize(
    ("name", "copies"),
    [
        ("deepseek-ai/DeepSeek-V3", 3.5),
        ("deepseek-ai/DeepSeek-R1", 3.5),
        ("deepseek-ai/DeepSeek-V2", 3 * 7 / 8),
        ("moonshotai/Kimi-K2-Instruct", visits(8, 384, 8) * 7 / 8),
        ("zai-org/GLM-4.5", visits(8, 160, 8) * 7 / 8),
    ],
)
def test_far_copies_of_a_token_of_shipped_models(name, copies):
    """Their own routers, over 8 nodes of 8."""
    model = load_model(name)
    (moe,) = [each.block for each in model.blocks if isinstance(each.block, MoE)]
    step = Step(1.0, 1.0, 128.0, 1.0, Precision(), 1 / 32, 32.0)
    messages = [each for op in moe.operators(model.hidden, step) for each in op.messages]
    (message,) = [each for each in messages if isinstance(each, Exchange)]
    machine = machine_of(Parallelism(1, expert=32, attention_data=64))
    sent = machine.sent(message)[1] / (message.dispatch + message.combine)
    assert_close(sent, copies, 2e-4)
