"""Traffic: laws of conservation, counts of tokens by brute force, measures by hand."""

import numpy as np
import pytest

from diffgenz.core.errors import InputError
from diffgenz.routing import measures
from diffgenz.routing.baselines import linear, random
from diffgenz.routing.layer_time import Roofline, demand
from diffgenz.routing.placement import Placement
from diffgenz.routing.replicas import Rule, routed, shares
from diffgenz.routing.trace import counted
from diffgenz.routing.traffic import tally_of_counts, tally_of_tokens

LAYERS, EXPERTS, NODES, RANKS, K, TOKENS, REQUESTS = 2, 12, 3, 2, 4, 300, 10
RULES = list(Rule)


def drawn(seed=0, k=K):
    generator = np.random.default_rng(seed)
    chosen = generator.random((TOKENS, LAYERS, EXPERTS)).argsort(-1)[..., :k]
    return chosen, generator.integers(REQUESTS, size=TOKENS), np.arange(REQUESTS) % NODES


def brute(chosen, node_of_token, placement, layer, rule):
    """(tokens to nodes, to ranks, rows of slots), token by token, one copy at a time."""
    nodes, ranks = placement.nodes, placement.ranks
    to_nodes, to_ranks = np.zeros((nodes, nodes)), np.zeros((nodes, ranks))
    rows = np.zeros(placement.slots.shape[1])
    for token, (experts, node) in enumerate(zip(chosen[:, layer], node_of_token, strict=True)):
        taken = set()
        for expert in experts:
            slots = np.flatnonzero(placement.slots[layer] == expert)
            own = slots[placement.node_of_slot[slots] == node]
            if rule is Rule.LOCAL_FIRST and len(own):
                slots = own
            slot = slots[token % len(slots)]
            rows[slot] += 1
            taken.add(placement.rank_of_slot[slot])
        for rank in taken:
            to_ranks[node, rank] += 1
        for other in {rank // placement.ranks_per_node for rank in taken}:
            to_nodes[node, other] += 1
    return to_nodes, to_ranks, rows


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("slots", [12, 15, 18])
def test_deduplicated_traffic_is_that_of_every_token(slots, rule):
    chosen, request, node = drawn()
    placement = random(LAYERS, EXPERTS, NODES, RANKS, slots, seed=slots)
    traffic = tally_of_tokens(chosen, request, node, placement, rule=rule).traffic
    for layer in range(LAYERS):
        to_nodes, to_ranks, rows = brute(chosen, node[request], placement, layer, rule)
        np.testing.assert_array_equal(traffic.to_nodes[layer], to_nodes)
        np.testing.assert_array_equal(traffic.to_ranks[layer], to_ranks)
        np.testing.assert_array_equal(traffic.slot_rows[layer], rows)
        far = (to_nodes.sum() - np.trace(to_nodes)) / TOKENS
        assert traffic.far[layer] == pytest.approx(far)
        assert traffic.near[layer] == pytest.approx(to_ranks.sum() / TOKENS)
        most = max(to_nodes[a, b] for a in range(NODES) for b in range(NODES) if a != b)
        assert traffic.padded[layer] == pytest.approx(NODES * (NODES - 1) * most / TOKENS)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("slots", [12, 18])
def test_no_row_is_lost(slots, rule):
    chosen, request, node = drawn(1)
    counts = counted(chosen, request, REQUESTS, EXPERTS)
    placement = random(LAYERS, EXPERTS, NODES, RANKS, slots, seed=3)
    for tally in (
        tally_of_counts(counts, node, placement, k=K, rule=rule),
        tally_of_tokens(chosen, request, node, placement, rule=rule),
    ):
        traffic = tally.traffic
        np.testing.assert_allclose(traffic.rows.sum(1), TOKENS * K)
        np.testing.assert_allclose(traffic.slot_rows.sum(1), TOKENS * K)
        assert traffic.tokens == TOKENS
        assert (traffic.to_nodes.sum(1) <= traffic.rows.reshape(LAYERS, NODES, -1).sum(2)).all()


def test_without_replicas_counts_and_tokens_agree_on_rows():
    chosen, request, node = drawn(2)
    placement = random(LAYERS, EXPERTS, NODES, RANKS, EXPERTS, seed=5)
    by_counts = tally_of_counts(counted(chosen, request, REQUESTS, EXPERTS), node, placement, k=K)
    by_tokens = tally_of_tokens(chosen, request, node, placement)
    np.testing.assert_allclose(by_counts.rows, by_tokens.rows)
    one = drawn(2, k=1)[0]
    by_counts = tally_of_counts(counted(one, request, REQUESTS, EXPERTS), node, placement)
    by_tokens = tally_of_tokens(one, request, node, placement)
    np.testing.assert_allclose(by_counts.traffic.to_nodes, by_tokens.traffic.to_nodes)


@pytest.mark.parametrize("rule", RULES)
def test_copies_get_their_shares(rule):
    placement = random(LAYERS, EXPERTS, NODES, RANKS, 24, seed=2)
    share = shares(placement, rule)
    for layer in range(LAYERS):
        for expert in range(EXPERTS):
            mine = placement.slots[layer] == expert
            np.testing.assert_allclose(share[layer][:, mine].sum(1), 1)
    token = np.arange(2400)
    chosen, node = (token // NODES % EXPERTS)[:, None], token % NODES
    slot = routed(chosen, node, placement, 0, rule)[:, 0]
    np.testing.assert_array_equal(placement.slots[0, slot], chosen[:, 0])
    own = placement.node_of_slot[slot] == node
    held = placement.copies[0][node, chosen[:, 0]] > 0
    if rule is Rule.LOCAL_FIRST:
        np.testing.assert_array_equal(own, held)


def test_shares_by_hand():
    placement = Placement([[0, 0, 1, 0, 2, 1]], 3, 2, 1)  # node 0: 0 0 1, node 1: 0 2 1
    np.testing.assert_allclose(
        shares(placement)[0], [[1 / 2, 1 / 2, 1, 0, 1, 0], [0, 0, 0, 1, 1, 1]]
    )
    np.testing.assert_allclose(
        shares(placement, Rule.EVEN)[0], [[1 / 3, 1 / 3, 1 / 2, 1 / 3, 1, 1 / 2]] * 2
    )


def test_measures_by_hand():
    pairs = np.array([[[6.0, 1, 1], [2, 4, 0], [0, 4, 2]]])
    assert measures.inter(pairs) == pytest.approx(8 / 20)
    assert measures.largest_pair(pairs) == pytest.approx(4 * 9 / 20)
    assert measures.wire(pairs) == pytest.approx(5 * 3 / 20)  # node 1 receives 5
    assert measures.straggler(pairs.sum(1)) == pytest.approx(9 * 3 / 20)
    assert measures.largest_pair(np.array([[[7.0]]])) == 0
    assert measures.wire(np.array([[[7.0]]])) == 0


def test_uniform_traffic_is_the_closed_form():
    counts = np.ones((NODES, LAYERS, EXPERTS))
    traffic = tally_of_counts(
        counts, np.arange(NODES), linear(LAYERS, EXPERTS, NODES, RANKS, EXPERTS)
    ).traffic
    np.testing.assert_allclose(traffic.inter, 1 - 1 / NODES)
    np.testing.assert_allclose(traffic.largest_pair, 1)
    np.testing.assert_allclose(traffic.wire, 1 - 1 / NODES)
    np.testing.assert_allclose(traffic.node_straggler, 1)
    np.testing.assert_allclose(traffic.rank_straggler, 1)
    np.testing.assert_allclose(traffic.active(12.0), 2 * (1 - np.exp(-1)))


def test_intervals_hold_the_measure_and_shrink_with_requests():
    widths = []
    for requests in (40, 640):
        generator = np.random.default_rng(4)
        counts = generator.poisson(generator.gamma(0.5, size=(requests, LAYERS, EXPERTS)) * 20)
        tally = tally_of_counts(
            counts.astype(float),
            np.arange(requests) % NODES,
            linear(LAYERS, EXPERTS, NODES, RANKS, EXPERTS),
        )
        for measure in ("inter", "far", "wire"):
            low, high = tally.interval(measure)
            value = getattr(tally.traffic, measure).mean()
            assert low < high
            assert low - 0.1 * value < value < high + 0.1 * value
        low, high = tally.interval("inter")
        assert low < tally.traffic.inter.mean() < high
        widths.append(high - low)
    assert 2.5 < widths[0] / widths[1] < 6.5  # the square root of 16


def test_time_falls_with_each_part_of_the_demand():
    counts = np.random.default_rng(0).gamma(0.5, size=(NODES, LAYERS, EXPERTS))
    counts /= counts.sum((0, 2), keepdims=True)
    placement = linear(LAYERS, EXPERTS, NODES, RANKS, EXPERTS)
    asked = demand(tally_of_counts(counts, np.arange(NODES), placement).traffic, 512.0)
    for padded in (True, False):
        now = Roofline(padded=padded)(asked)
        assert now.shape == (LAYERS,)
        for field in asked._fields:
            less = asked._replace(**{field: getattr(asked, field) * 0.5})
            assert (Roofline(padded=padded)(less) <= now).all()
    np.testing.assert_allclose(asked.rows.sum(1), 512 * NODES * RANKS)


def test_what_does_not_fit_is_refused():
    chosen, request, node = drawn()
    placement = linear(LAYERS, EXPERTS, NODES, RANKS, EXPERTS)
    with pytest.raises(InputError, match="placement: has 1 layers"):
        tally_of_tokens(chosen, request, node, placement.select([0]))
    with pytest.raises(InputError, match="a node from 0 to 2"):
        tally_of_tokens(chosen, request, node + 1, placement)
    with pytest.raises(InputError, match="from 0 to 9"):
        tally_of_tokens(chosen, request + 1, node, placement)
