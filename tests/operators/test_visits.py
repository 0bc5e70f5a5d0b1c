"""How many ranks or nodes hold a token's experts, with and without a limit on their groups."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import visits

from diffgenz.operators.visits import GroupLimit, reached, visited

V3, V2 = (256, 8, 4, 8, 2), (160, 8, 3, 6, 1)
LIMITED = {
    "DeepSeek-V3": V3,
    "DeepSeek-V2": V2,
    "one group": (256, 8, 1, 8, 2),
    "two groups": (256, 8, 2, 8, 2),
    "nearly all groups": (256, 8, 7, 8, 2),
    "all groups": (256, 8, 8, 8, 2),
    "few experts": (256, 8, 4, 3, 2),
    "sixteen groups": (512, 16, 4, 10, 2),
}
"""Experts, groups, groups used, experts used, experts by whose scores a group is chosen."""


@functools.cache
def routed(experts, groups, used, picks, best, tokens=20_000):
    """Experts of tokens, as DeepSeek's routers choose them by scores: (tokens, picks)."""
    scores = np.random.default_rng(7).random((tokens, experts), dtype=np.float32)
    grouped = scores.reshape(tokens, groups, -1)
    of_group = np.sort(grouped, axis=-1)[..., -best:].sum(-1)
    dropped = np.argsort(-of_group, axis=-1)[:, used:]
    np.put_along_axis(grouped, dropped[..., None], -1.0, axis=1)
    return np.argsort(-scores, axis=-1)[:, :picks]


def drawn(limit, parts):
    """The mean number of parts that hold an expert of a token."""
    held = routed(*limit) // (limit[0] // parts)
    hit = np.zeros((len(held), parts), bool)
    np.put_along_axis(hit, held, True, axis=1)
    return hit.sum(axis=1).mean()


def formula(limit, parts, holders=None):
    experts, groups, used, picks, _ = limit
    numbers = (np.float32(x) for x in (parts, holders or parts, picks, experts))
    return float(visited(*numbers, GroupLimit(np.float32(groups), np.float32(used))))


@pytest.mark.parametrize("name", LIMITED)
@pytest.mark.parametrize("parts", [1, 2, 4, 8, 16, 32])
def test_tokens_visit_as_many_parts_as_routers_send_them_to(name, parts):
    """Draws that return, as in the formula for those of groups, visit a few percent fewer than
    experts drawn once."""
    assert formula(LIMITED[name], parts) == pytest.approx(drawn(LIMITED[name], parts), rel=0.045)


@pytest.mark.parametrize("limit", [V3, V2])
def test_nodes_that_hold_groups_by_hand(limit):
    """8 nodes hold a group each, and 4 nodes two.

    All the groups are visited. A node of two is not where all of them are among the other six.
    """
    used = limit[2]
    assert formula(limit, 8) == pytest.approx(used, rel=1e-5)
    for parts in (2, 4):
        missed = math.comb(8 - 8 // parts, used) / math.comb(8, used)
        assert formula(limit, parts) == pytest.approx(parts * (1 - missed), rel=1e-4)
    assert formula(limit, 1) == pytest.approx(1, rel=1e-5)


MODELS = {
    "DeepSeek-V2-Lite": (64, 6),
    "Qwen3": (128, 8),
    "Llama-4-Maverick": (128, 1),
    "Kimi-K2": (384, 8),
    "gpt-oss-20b": (32, 4),
}
"""Experts, and experts of a token."""


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("parts", [1, 2, 4, 8, 16, 32])
def test_without_a_limit_a_token_visits_the_parts_of_different_experts(name, parts):
    experts, picks = MODELS[name]
    numbers = (np.float32(x) for x in (parts, parts, picks, experts))
    assert float(visited(*numbers)) == pytest.approx(visits(parts, experts, picks), rel=2e-3)


def test_far_copies_of_deepseek_v2_lite():
    """8 nodes: 3.97, as counted in a trace; draws that return would say 3.86."""
    eight = np.float32(8)
    assert float(visited(eight, eight, np.float32(6), np.float32(64))) * 7 / 8 == pytest.approx(
        3.97, abs=0.005
    )
    assert float(reached(eight, 1 / eight, np.float32(6))) * 7 / 8 == pytest.approx(3.86, abs=0.005)


def test_a_token_of_half_of_few_experts_visits_nearly_as_many_parts():
    for experts, picks, parts, rel in ((8, 2, 8, 5e-3), (16, 4, 16, 6e-3), (8, 4, 8, 0.026)):
        numbers = (np.float32(x) for x in (parts, parts, picks, experts))
        assert float(visited(*numbers)) == pytest.approx(visits(parts, experts, picks), rel=rel)


def test_a_limit_to_many_groups_is_none():
    many = GroupLimit(np.float32(1e4), np.float32(1e4))
    for numbers in ((8.0, 8.0, 8.0, 256.0), (64.0, 8.0, 6.0, 64.0), (1.0, 1.0, 2.0, 8.0)):
        parts, holders, picks, experts = (np.float32(x) for x in numbers)
        free = visited(parts, holders, picks, experts)
        assert visited(parts, holders, picks, experts, many) == free


def test_ranks_with_the_same_experts_are_visited_together():
    assert formula(V3, 64, holders=8) == pytest.approx(8 * formula(V3, 8), rel=1e-6)


@pytest.mark.parametrize("parts", [1.0, 2.0, 3.0, 4.0, 6.5, 8.0, 12.0, 20.0, 64.0])
@pytest.mark.parametrize("used", [1.0, 1.5, 2.0, 3.0, 4.25, 5.0, 8.0])
def test_visits_grow_with_parts_and_groups_and_are_differentiable(parts, used):
    def of(parts, used, groups, picks):
        return visited(parts, parts, picks, jnp.asarray(256.0), GroupLimit(groups, used))

    with jax.enable_x64(True):
        here = [jnp.asarray(x) for x in (parts, used, 8.0, 8.0)]
        slopes = jax.grad(of, argnums=(0, 1, 2, 3))(*here)
        assert all(bool(jnp.isfinite(slope)) for slope in slopes)
        smooth = parts not in (1.0, 8.0) and used != 8.0  # where forms meet, sides differ
        for at, step in ((0, 1e-6), (1, 1e-6)):
            up, down = (float(of(*here[:at], here[at] + h, *here[at + 1 :])) for h in (step, -step))
            assert up >= down - 1e-7
            if smooth:
                assert float(slopes[at]) == pytest.approx((up - down) / 2e-6, rel=1e-3, abs=1e-6)
