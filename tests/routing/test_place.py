"""EPLB, replicas, migration, and the choice of the fastest placement."""

import numpy as np
import pytest
from routing_cases import maverick

from diffgenz.core.errors import InputError
from diffgenz.routing import eplb
from diffgenz.routing.baselines import linear, random
from diffgenz.routing.copies import replicated_where_used
from diffgenz.routing.layer_time import Roofline, demand
from diffgenz.routing.locality import localised
from diffgenz.routing.migration import Migration, aligned, fetched
from diffgenz.routing.packing import packed_copies
from diffgenz.routing.place import place
from diffgenz.routing.trace import Counts, Trace
from diffgenz.routing.traffic import tally_of_counts

PUBLISHED = np.array(
    [
        [90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86],
        [20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27],
    ],
    float,
)
"""The example of the balancer's description: 12 experts in 4 groups, 16 slots, 2 nodes, 8 ranks."""


def ranks_of(placement, layer):
    per_rank = placement.slots[layer].reshape(placement.ranks, -1)
    return [sorted(each) for each in per_rank.tolist()]


def test_the_hierarchical_policy_gives_the_published_placement():
    placement = eplb.eplb(PUBLISHED, 2, 4, 16, groups=4)
    published = (
        [[5, 6], [5, 7], [8, 4], [3, 4], [10, 9], [10, 2], [0, 1], [11, 1]],
        [[7, 10], [6, 8], [6, 11], [8, 9], [2, 4], [5, 1], [5, 0], [3, 1]],
    )
    for layer, expected in enumerate(published):
        assert sorted(ranks_of(placement, layer)) == sorted(sorted(each) for each in expected)
        for node in range(2):  # whole groups of three
            held = placement.copies[layer, node].reshape(4, 3) > 0
            assert (held.all(1) == held.any(1)).all()


def test_replicas_go_where_the_load_per_copy_is_largest():
    np.testing.assert_array_equal(eplb.replicated(np.array([9.0, 4.0, 1.0]), 6), [3, 2, 1])


def test_global_policies_hold_the_same_copies():
    load = np.random.default_rng(0).gamma(0.5, size=(4, 24))
    blind, over = eplb.everywhere(load, 3, 2, 30), eplb.over_nodes(load, 3, 2, 30)
    np.testing.assert_array_equal(blind.copies.sum(1), over.copies.sum(1))


@pytest.mark.parametrize(("groups", "match"), [(5, "do not divide 12"), (3, "whole on 2 nodes")])
def test_groups_that_do_not_fit_are_refused(groups, match):
    with pytest.raises(InputError, match=match):
        eplb.hierarchical(PUBLISHED, 2, 4, 16, groups)


@pytest.mark.parametrize("experts", [12, 14])
def test_replicas_fill_every_slot(experts):
    counts = np.random.default_rng(1).gamma(0.3, size=(3, 4, experts))
    node_of = localised(counts)
    copies = replicated_where_used(counts, node_of, 2, 5, 0.3)
    np.testing.assert_array_equal(copies.sum(2), 5)
    assert copies.max() <= 2
    assert (np.take_along_axis(copies, node_of[:, None], 1) > 0).all()
    np.testing.assert_array_equal(packed_copies(copies, counts, 2).copies, copies)


def test_the_first_copy_goes_to_the_largest_gain():
    counts = np.random.default_rng(3).gamma(0.3, size=(1, 3, 9))
    node_of = np.tile(np.arange(9) % 3, (1, 1))
    copies = replicated_where_used(counts, node_of, 2, 4, 0.0)  # bytes alone
    extra = copies[0].copy()
    extra[node_of[0], np.arange(9)] -= 1
    away = np.where(np.arange(3)[:, None] == node_of, 0, counts[0])
    for node in range(3):  # every node keeps what it would send most of
        assert extra[node].argmax() == away[node].argmax()


def test_ranks_are_renamed_so_that_least_is_fetched():
    present = random(3, 12, 2, 3, 12, seed=0)
    ranks = present.slots.reshape(3, 2, 3, 2)
    shuffled = type(present)(ranks[:, :, [2, 0, 1]].reshape(3, 12), 12, 2, 3)
    assert fetched(present, present).sum() == 0
    assert fetched(shuffled, present).sum() == 36
    assert fetched(aligned(shuffled, present), present).sum() == 0
    other = random(3, 12, 2, 3, 12, seed=1)
    assert fetched(aligned(other, present), present).sum() <= fetched(other, present).sum()
    np.testing.assert_allclose(Migration(0.5, 10).seconds(shuffled, present), 2 * 0.5 / 10)


def recorded(seed=0, requests=60, layers=4, experts=32):
    decode = maverick(seed, requests=requests, layers=layers, experts=experts)[1]
    names = tuple(map(str, range(requests)))
    return Counts(decode, names, "request", tuple(range(layers)), k=1)


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("slots", [32, 40, 48])
def test_none_of_the_candidates_is_faster(slots, padded):
    source = recorded()
    node = np.arange(60) % 4
    present = random(4, 32, 4, 2, slots, seed=9)
    model = Roofline(padded=padded)
    found = place(source, 4, 2, slots, node=node, present=present, layer_time=model)
    assert set(found.candidates) == {"present", "linear", "eplb", "balanced", "ours"}
    for candidate in found.candidates.values():
        assert (found.seconds <= candidate.seconds).all()
    counts, at = source.counts, node
    if not found.grouped:  # tokens of all requests on all nodes alike
        counts, at = np.repeat(counts.sum(0, keepdims=True) / 4, 4, axis=0), np.arange(4)
    again = tally_of_counts(counts, at, found.placement).traffic
    np.testing.assert_allclose(model(demand(again, 128.0)), found.seconds)
    for layer, method in enumerate(found.methods):
        assert found.seconds[layer] == found.candidates[method].seconds[layer]


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("slots", [32, 36, 64])
def test_groups_are_kept_only_where_they_are_faster(slots, padded):
    """With groups or without, no slower than linear and the balancer with requests spread."""
    source, model = recorded(), Roofline(padded=padded)
    node = np.arange(60) * 4 // 60
    found = place(source, 4, 2, slots, node=node, layer_time=model)
    spread = place(source, 4, 2, slots, layer_time=model)
    assert found.seconds.sum() <= spread.seconds.sum()
    for name in ("linear", "eplb", "balanced"):
        assert found.seconds.sum() <= spread.candidates[name].seconds.sum()
    if not found.grouped:
        np.testing.assert_array_equal(found.placement.slots, spread.placement.slots)


def test_groups_that_crowd_a_node_are_not_kept():
    """All requests on one node use its experts alone: spreading them is faster."""
    counts = np.zeros((8, 1, 8))
    counts[:, 0, :] = 10.0
    source = Counts(counts, tuple("abcdefgh"), "request", (0,), k=1)
    crowded = place(source, 2, 2, 8, node=np.zeros(8, int), layer_time=Roofline(padded=True))
    assert not crowded.grouped
    counts = np.zeros((8, 1, 8))
    counts[:4, 0, :4] = counts[4:, 0, 4:] = 1000.0
    source = Counts(counts, tuple("abcdefgh"), "request", (0,), k=1)
    suited = place(
        source, 2, 2, 8, node=np.arange(8) // 4, layer_time=Roofline(), tokens_per_rank=4096
    )
    assert suited.grouped


def test_dear_moves_keep_the_present_placement():
    source, present = recorded(), random(4, 32, 4, 2, 32, seed=9)
    free = place(source, 4, 2, present=present, migration=Migration(1e-3, 1e9))
    assert "present" not in free.methods
    dear = place(source, 4, 2, [32, 40], present=present, migration=Migration(1.0, 1.0))
    assert dear.methods == ("present",) * 4
    np.testing.assert_array_equal(dear.placement.slots, present.slots)


def test_the_number_of_slots_is_chosen_by_time():
    source = recorded()
    several = place(source, 4, 2, [48, 32, 40])
    assert sorted(several.by_slots) == [32, 40, 48]
    assert several.seconds.sum() == pytest.approx(min(several.by_slots.values()))
    fastest = min(several.by_slots, key=lambda number: several.by_slots[number])
    assert several.placement.slots.shape[1] == fastest

    def by_bytes(asked):
        return asked.active.sum(-1)

    assert place(source, 4, 2, [32, 48], layer_time=by_bytes).placement.slots.shape[1] == 32


def test_whole_groups_stay_together():
    generator = np.random.default_rng(0)
    scores = generator.gumbel(size=(2000, 2, 8, 4))
    best = np.sort(scores, -1)[..., -2:].sum(-1).argsort(-1)[..., :4]  # 4 of 8 groups
    np.put_along_axis(
        scores, best[..., None], np.take_along_axis(scores, best[..., None], 2) + 50, 2
    )
    chosen = scores.reshape(2000, 2, 32).argsort(-1)[..., -6:]
    trace = Trace(32, (0, 1), chosen, np.arange(2000) // 20)
    found = place(trace, 4, 2, deduplicated=True, groups=8)
    whole = found.candidates["ours"].placement.copies.reshape(2, 4, 8, 4)
    assert (whole.all(-1) == whole.any(-1)).all()
    scattered = place(trace, 4, 2, deduplicated=True).candidates["balanced"].seconds
    assert (found.seconds <= scattered).all()


def test_a_trace_is_placed_by_what_is_chosen_together():
    generator = np.random.default_rng(0)
    block = generator.permutation(np.arange(32) % 4)
    experts = np.stack([np.flatnonzero(block == each) for each in range(4)])
    chosen = np.stack(
        [generator.permutation(experts[each])[:3] for each in generator.integers(4, size=2000)]
    )[:, None]
    trace = Trace(32, (0,), chosen, np.arange(2000) // 10)
    found = place(trace, 4, 2, deduplicated=True)
    assert found.methods == ("ours",)
    copies = found.placement.copies[0]
    assert all(len(set(block[held > 0])) == 1 for held in copies)  # every block on one node


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"slots": 24}, "24 cannot hold 32 experts"),
        ({"slots": 33}, "do not divide by the 4 nodes"),
        ({"slots": []}, "slots: none are given"),
        ({"ranks_per_node": 16}, "leave some of the 64 ranks empty"),
        ({"node": np.arange(60)}, "a node from 0 to 3"),
        ({"deduplicated": True}, "give a trace of tokens"),
        ({"tokens_per_rank": 0.0}, "tokens_per_rank"),
        ({"migration": Migration(1.0, 1.0)}, "no present placement"),
        ({"present": linear(4, 32, 2, 4, 32)}, "has 2 nodes, not 4"),
        ({"groups": 5}, "do not divide 32"),
    ],
)
def test_what_cannot_be_placed_is_said(change, match):
    given = {"nodes": 4, "ranks_per_node": 2} | change
    with pytest.raises(InputError, match=match):
        place(recorded(), **given)


@pytest.mark.parametrize(("experts", "nodes"), [(30, 4), (10, 1), (7, 2)])
def test_any_number_of_experts_is_placed(experts, nodes):
    source = recorded(experts=experts)
    found = place(source, nodes, 2, node=np.arange(60) % nodes)
    assert found.placement.slots.shape[1] == -(-experts // (2 * nodes)) * 2 * nodes
    assert found.placement.even
