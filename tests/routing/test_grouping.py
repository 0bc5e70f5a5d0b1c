"""Grouping of requests: equal sizes, exactness, the gain on held-out requests, and its null."""

from itertools import permutations

import numpy as np
import pytest
from routing_cases import maverick

from diffgenz.core.errors import InputError
from diffgenz.routing import eplb
from diffgenz.routing.baselines import linear, on_nodes
from diffgenz.routing.grouping import (
    balanced_kmeans,
    drift,
    equal_groups,
    fit_router,
    kept,
    oracle,
    signatures,
)
from diffgenz.routing.locality import localised
from diffgenz.routing.traffic import tally_of_counts


@pytest.mark.parametrize(("requests", "groups"), [(12, 3), (13, 3), (14, 3), (3, 3), (2500, 8)])
def test_groups_are_equal(requests, groups):
    score = np.random.default_rng(0).normal(size=(requests, groups))
    sizes = np.bincount(equal_groups(score), minlength=groups)
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize(("requests", "groups"), [(96, 3), (97, 4), (640, 8), (2500, 4)])
def test_groups_have_equally_many_tokens_where_lengths_follow_what_is_used(requests, groups):
    """The requests that suit a group best are its longest: without lengths it gets most tokens."""
    random = np.random.default_rng(requests)
    suits = np.arange(requests) % groups
    tokens = random.lognormal(0, 0.7, size=requests) * (1 + 2.0 * (suits == 0))
    score = np.eye(groups)[suits] + 0.1 * random.normal(size=(requests, groups))

    def load(group):
        sizes = np.bincount(group, minlength=groups)
        assert sizes.max() - sizes.min() <= 1
        totals = np.bincount(group, tokens)
        return totals.max() / totals.mean()

    assert load(equal_groups(score)) > 1.3
    group = equal_groups(score, tokens)
    # Two neighbours in length a group and block: a block's spread telescopes to the longest.
    assert load(group) <= max(1.05, 1 + 2 * groups * tokens.max() / tokens.sum())
    assert score[np.arange(requests), group].mean() > 1.5 / groups  # and still suit: 1/groups blind


def test_lengths_that_are_equal_change_nothing():
    score = np.random.default_rng(3).normal(size=(40, 4))
    np.testing.assert_array_equal(equal_groups(score), equal_groups(score, np.full(40, 7.0)))
    np.testing.assert_array_equal(equal_groups(score), equal_groups(score, np.zeros(40)))


def test_equal_groups_are_the_best_ones():
    score = np.random.default_rng(1).normal(size=(6, 3))
    best = max(
        score[np.arange(6), list(order)].sum() for order in set(permutations([0, 0, 1, 1, 2, 2]))
    )
    assert score[np.arange(6), equal_groups(score)].sum() == pytest.approx(best)


def test_clusters_are_found():
    generator = np.random.default_rng(0)
    label = np.arange(90) % 3
    counts = generator.poisson(5 + 40 * np.eye(3)[label][:, None, :].repeat(2, 1)).astype(float)
    group = balanced_kmeans(signatures(counts), 3)
    assert all(len(set(group[label == each])) == 1 for each in range(3))


def test_more_groups_than_requests_are_refused():
    with pytest.raises(InputError, match="groups: 4 of 3 requests"):
        balanced_kmeans(np.ones((3, 2)), 4)


def test_online_keeps_the_band():
    prefill, decode = maverick(2, requests=120, layers=4, experts=32)
    placement = linear(4, 32, 4, 2, 32)
    router = fit_router(prefill, decode, placement)
    for band in (0.0, 0.25):
        node = router.online(prefill, band)
        for seen in range(1, 121):
            load = np.bincount(node[:seen], minlength=4)
            assert load.max() <= (1 + band) * seen / 4 + 2
    silent = router.scores(np.zeros_like(prefill))
    assert (silent == 0).all()


class Halves:
    """A grouping learned on half of the requests, and the other half."""

    def __init__(self, seed, nodes, shuffled=False):
        prefill, decode = maverick(seed)
        generator = np.random.default_rng(seed + 100)
        if shuffled:  # every request draws its tokens from all requests
            prefill, decode = (
                generator.multinomial(
                    each.sum(2).astype(int), each.sum(0)[None] / each.sum((0, 2))[None, :, None]
                ).astype(float)
                for each in (prefill, decode)
            )
        order = generator.permutation(len(prefill))
        train, test = order[: len(order) // 2], order[len(order) // 2 :]
        group = balanced_kmeans(signatures(decode[train]), nodes)
        counts = np.stack([decode[train][group == node].sum(0) for node in range(nodes)], 1)
        load = counts.sum(1)
        self.decode = decode[test]
        self.placement = on_nodes(localised(counts), load, nodes, 8)
        router = fit_router(prefill[train], decode[train], self.placement)
        self.node = router.assigned(prefill[test])
        self.online = router.online(prefill[test])
        self.random = generator.permutation(np.arange(len(test)) % nodes)
        self.balanced = eplb.over_nodes(load, nodes, 8, 128)
        self.expected = kept(decode[test], self.node, self.placement)

    def measured(self, node, placement):
        traffic = tally_of_counts(self.decode, node, placement).traffic
        return np.array(
            [
                traffic.inter.mean() / (1 - 1 / placement.nodes),
                traffic.largest_pair.mean(),
                traffic.node_straggler.mean(),
            ]
        )


@pytest.mark.parametrize(
    ("nodes", "most", "pair"), [(2, 0.70, 0.7), (4, 0.74, 0.9), (8, 0.85, 1.05), (16, 0.91, 1.3)]
)
def test_structure_gains_on_held_out_requests(nodes, most, pair):
    found = []
    for seed in range(3):
        half = Halves(seed, nodes)
        plain = half.measured(half.random, linear(24, 128, nodes, 8, 128))
        even = half.measured(half.random, half.balanced)
        ours = half.measured(half.node, half.placement)
        known = half.measured(oracle(half.decode, half.placement), half.placement)
        assert known[0] <= ours[0]  # regret against the oracle is not negative
        assert ours[0] <= half.measured(half.online, half.placement)[0] + 0.01
        found.append([ours[0], ours[1] / plain[1], ours[2] / even[2]])
    bytes_left, largest, straggler = np.mean(found, axis=0)
    assert bytes_left <= most
    assert largest <= pair
    assert straggler <= 1.06


@pytest.mark.parametrize("nodes", [4, 8])
def test_the_gain_dies_when_tokens_are_shuffled_over_requests(nodes):
    half = Halves(0, nodes, shuffled=True)
    assert abs(half.measured(half.node, half.placement)[0] - 1) < 0.01


def test_drift_says_when_structure_is_lost():
    half = Halves(0, 4)
    other = Halves(1, 4).decode  # another model's domains: nothing of what was learned holds
    generator = np.random.default_rng(0)
    strangers = kept(other, generator.integers(4, size=len(other)), half.placement)
    assert drift(half.expected, strangers, half.placement).refit
    same = drift(half.expected, half.expected[::2], half.placement)
    assert not same.refit
    assert same.low < same.seen < same.high
    with pytest.raises(InputError, match="no requests"):
        drift(half.expected, strangers[:0], half.placement)
