"""Placement by counts and by co-activation: exactness by recount, optima, nulls and figures."""

import time
from pathlib import Path

import numpy as np
import pytest
from routing_cases import maverick

from diffgenz.core.errors import InputError
from diffgenz.routing import eplb
from diffgenz.routing.baselines import capacity_greedy, linear, on_nodes
from diffgenz.routing.bounds import least, optimum
from diffgenz.routing.coactivation import Affinity, gathered, pairs_of
from diffgenz.routing.locality import Objective, assigned, localised, polished
from diffgenz.routing.parts import parts
from diffgenz.routing.traffic import tally_of_counts, tally_of_tokens

SHARED = Path(__file__).parents[3] / "shared" / "measurements" / "routing"
PUFFIN = SHARED / "deepseek_v2_lite_puffin.npz"
real = pytest.mark.skipif(not PUFFIN.exists(), reason="the measured trace is not here")


def drawn(seed, layers, nodes, experts):
    generator = np.random.default_rng(seed)
    counts = generator.gamma(0.5, size=(layers, nodes, experts))
    start = np.tile(np.arange(experts) % nodes, (layers, 1))
    return counts, generator.permuted(start, axis=1)


def recounted(value, node_of):
    """The change of `value` by each swap, by making it."""
    experts = node_of.shape[1]
    now = value(node_of)
    change = np.zeros((len(node_of), experts, experts))
    for one in range(experts):
        for other in range(experts):
            swapped = node_of.copy()
            swapped[:, [one, other]] = node_of[:, [other, one]]
            change[:, one, other] = value(swapped) - now
    return change


@pytest.mark.parametrize("power", [2, 4, 8, None])
@pytest.mark.parametrize(("nodes", "experts"), [(2, 6), (3, 12), (4, 16)])
def test_gains_by_counts_are_exact(nodes, experts, power):
    counts, node_of = drawn(experts, 3, nodes, experts)
    part = counts / counts.sum((1, 2), keepdims=True)
    objective = Objective(0.3, 0.7, power)
    change = recounted(lambda at: objective.value(part, at), node_of)
    apart = node_of[:, :, None] != node_of[:, None, :]
    np.testing.assert_allclose(objective.changes(part, node_of)[apart], change[apart], atol=1e-13)


@pytest.mark.parametrize(("nodes", "experts"), [(2, 6), (3, 12), (4, 16)])
def test_gains_by_coactivation_are_exact(nodes, experts):
    counts, node_of = drawn(experts + 1, 3, nodes, experts)
    together = np.random.default_rng(2).gamma(0.5, size=(3, experts, experts))
    together += together.swapaxes(1, 2)
    together[:, range(experts), range(experts)] = 0
    affinity = Affinity(together, counts / counts.sum((1, 2), keepdims=True), 0.4, 0.6)
    layers = np.arange(3)
    change = recounted(lambda at: affinity.value(layers, at), node_of)
    apart = node_of[:, :, None] != node_of[:, None, :]
    np.testing.assert_allclose(affinity.changes(layers, node_of)[apart], change[apart], atol=1e-12)


@pytest.mark.parametrize(("nodes", "room"), [(2, 3), (3, 4), (4, 8), (8, 16), (4, 12)])
def test_blocks_that_are_chosen_together_are_found(nodes, room):
    """Experts of a hidden block share all their tokens but few: no pair of blocks is parted."""
    random = np.random.default_rng(nodes * room)
    experts = nodes * room
    block = random.permuted(np.tile(np.arange(experts) % nodes, (3, 1)), axis=1)
    same = block[:, :, None] == block[:, None, :]
    noise = random.random((3, experts, experts))
    together = np.where(same, 1.0, 0.2) * (noise + noise.swapaxes(1, 2))
    together[:, np.arange(experts), np.arange(experts)] = 0
    found = gathered(together, np.ones((3, nodes, experts)), load=0.0, starts=5)
    for of_layer, hidden in zip(found, block, strict=True):
        assert len(set(zip(of_layer, hidden, strict=True))) == nodes


def test_pairs_are_counted():
    chosen = np.array([[[0, 1, 2]], [[2, 0, 3]]])
    np.testing.assert_array_equal(
        pairs_of(chosen, 4)[0], [[0, 1, 2, 1], [1, 0, 1, 0], [2, 1, 0, 1], [1, 0, 1, 0]]
    )


@pytest.mark.parametrize("experts", [12, 13, 15])
def test_no_swap_is_left_and_nodes_stay_equal(experts):
    counts, _ = drawn(7, 4, 3, experts)
    objective = Objective(0.3, 0.7, 4)
    node_of = localised(counts, objective)
    sizes = (node_of[:, :, None] == np.arange(3)).sum(1)
    assert sizes.max() == -(-experts // 3)
    if experts == 12:
        part = counts / counts.sum((1, 2), keepdims=True)
        assert recounted(lambda at: objective.value(part, at), node_of).min() > -2e-5


def test_assignment_keeps_the_most_tokens():
    counts, _ = drawn(3, 5, 4, 16)
    part = parts(counts)
    node_of = assigned(part)
    bytes_only = Objective(0, 0)
    start = bytes_only.value(part, node_of)
    np.testing.assert_allclose(start, least(counts).inter / (1 - 1 / 4), rtol=1e-6)
    greedy = tally_of_counts(
        counts.swapaxes(0, 1), np.arange(4), capacity_greedy(counts, 1)
    ).traffic.inter
    assert (least(counts).inter <= greedy + 1e-6).all()
    generator = np.random.default_rng(0)
    for _ in range(50):
        other = generator.permuted(node_of, axis=1)
        assert (start <= bytes_only.value(part, other) + 1e-6).all()


def test_bounds_are_below_every_placement():
    counts, _ = drawn(5, 6, 3, 12)
    below = least(counts)
    for placement in (
        on_nodes(localised(counts), counts.sum(1), 3, 1),
        on_nodes(localised(counts, Objective(5, 0)), counts.sum(1), 3, 1),
        eplb.over_nodes(counts.sum(1), 3, 1, 12),
        linear(6, 12, 3, 1, 12),
    ):
        traffic = tally_of_counts(counts.swapaxes(0, 1), np.arange(3), placement).traffic
        assert (below.inter <= traffic.inter + 1e-6).all()
        assert (below.largest_pair <= traffic.largest_pair + 1e-6).all()
        assert (below.node_straggler <= traffic.node_straggler + 1e-6).all()


def test_small_cases_reach_the_proved_optimum():
    objective = Objective(0.3, 0.3)
    exact = Objective(0.3, 0.3, None)
    over = []
    for nodes, experts in ((3, 12), (4, 16), (3, 24)):
        for seed in range(3):
            counts, _ = drawn(seed, 1, nodes, experts)
            best = optimum(counts[0], objective)
            assert best.bound == pytest.approx(best.value, rel=1e-5)  # proved
            ours = polished(counts, localised(counts, objective), objective)
            value = exact.value(parts(counts), ours)[0]
            assert value >= best.bound - 1e-5
            over.append(value / best.value - 1)
    assert max(over) < 0.01
    assert np.mean(np.array(over) < 1e-5) >= 0.8


def test_three_to_two_and_odd_powers_are_refused():
    with pytest.raises(InputError, match="power: 3"):
        Objective(power=3)
    with pytest.raises(InputError, match="pair: -1"):
        Objective(pair=-1)


def test_the_cut_is_that_of_metis():
    pymetis = pytest.importorskip("pymetis")
    experts, blocks, nodes = 64, 8, 4
    generator = np.random.default_rng(0)
    block = generator.permuted(np.tile(np.arange(experts) % blocks, (3, 1)), axis=1)
    rate = 1 + 6.0 * (block[:, :, None] == block[:, None, :])
    together = np.triu(generator.poisson(20 * rate), 1).astype(float)
    together += together.swapaxes(1, 2)
    ours = gathered(together, np.ones((3, nodes, experts)), load=0.0)
    for layer, matrix in enumerate(together):
        neighbours = [np.flatnonzero(row) for row in matrix]
        start = np.concatenate([[0], np.cumsum([len(each) for each in neighbours])])
        flat = np.concatenate(neighbours)
        weights = matrix[np.repeat(np.arange(experts), np.diff(start)), flat].astype(int)
        cuts = []
        for seed in range(10):
            _, part = pymetis.part_graph(
                nodes,
                pymetis.CSRAdjacency(start.tolist(), flat.tolist()),
                eweights=weights.tolist(),
                options=pymetis.Options(seed=seed),
            )
            cuts.append(cut(matrix, np.array(part)))
        assert cut(matrix, ours[layer]) <= 1.01 * min(cuts)


def cut(matrix, node_of):
    return matrix[node_of[:, None] != node_of].sum() / 2


def test_all_layers_of_a_large_model_take_seconds():
    generator = np.random.default_rng(0)
    counts = generator.gamma(0.5, size=(58, 8, 256)) * generator.lognormal(size=(58, 1, 256))
    start = time.process_time()
    localised(counts)
    assert time.process_time() - start < 10  # of all cores together: 5 s on two


# ---- what is gained, each gain apart


def halves(requests, seed):
    order = np.random.default_rng(seed).permutation(requests)
    return order[: requests // 2], order[requests // 2 :]


def measured(placement, chosen, request, node, tokens):
    index = np.unique(request[tokens], return_inverse=True)
    return tally_of_tokens(chosen[tokens], index[1], node[index[0]], placement).traffic


def puffin():
    with np.load(PUFFIN) as file:
        request = np.unique(file["request"], return_inverse=True)[1]
        kept = slice(None, None, 3)
        return file["expert"][kept, ::4].astype(np.int16), request[kept]


@real
@pytest.mark.parametrize("nodes", [4, 8])
def test_coactivation_gains_on_held_out_requests(nodes):
    chosen, request = puffin()
    layers, requests = chosen.shape[1], request.max() + 1
    gains = []
    for seed in range(3):
        train, _ = halves(requests, seed)
        inside = np.isin(request, train)
        node = np.random.default_rng(seed).permutation(np.arange(requests) % nodes)
        load = np.stack(
            [np.bincount(chosen[inside, i].ravel(), minlength=64) for i in range(layers)]
        )
        counts = np.repeat(load[:, None] / nodes, nodes, 1)
        node_of = gathered(pairs_of(chosen[inside], 64), counts)
        ours = measured(on_nodes(node_of, load, nodes, 4), chosen, request, node, ~inside)
        plain = measured(linear(layers, 64, nodes, 4, 64), chosen, request, node, ~inside)
        gains.append([ours.far.mean() / plain.far.mean(), ours.padded.mean() / plain.padded.mean()])
    far, padded = np.mean(gains, axis=0)
    assert far < 0.8
    assert padded < 0.85


@real
def test_coactivation_gain_dies_when_choices_are_independent():
    chosen, request = puffin()
    layers, nodes = chosen.shape[1], 8
    load = np.stack([np.bincount(chosen[:, i].ravel(), minlength=64) for i in range(layers)])
    generator = np.random.default_rng(0)
    logits = np.log(load + 0.5)  # k experts without replacement, by popularity alone
    drawn_alone = np.argsort(-(logits + generator.gumbel(size=(20000, layers, 64))), axis=-1)[
        ..., :6
    ]
    train, test = drawn_alone[:10000], drawn_alone[10000:]
    request, node = np.arange(10000) % nodes, np.arange(nodes)
    load = np.stack([np.bincount(train[:, i].ravel(), minlength=64) for i in range(layers)])
    node_of = gathered(pairs_of(train, 64), np.repeat(load[:, None] / nodes, nodes, 1))
    ours = tally_of_tokens(test, request, node, on_nodes(node_of, load, nodes, 4)).traffic
    balanced = tally_of_tokens(test, request, node, eplb.over_nodes(load, nodes, 4, 64)).traffic
    assert abs(ours.far.mean() / balanced.far.mean() - 1) < 0.01


def test_skew_is_what_balance_removes():
    load = maverick(0, requests=60, layers=6)[1].sum(0)
    counts = np.repeat(load[:, None] / 8, 8, 1)
    node = np.arange(8)
    plain = tally_of_counts(counts.swapaxes(0, 1), node, linear(6, 128, 8, 8, 128)).traffic
    even = tally_of_counts(counts.swapaxes(0, 1), node, eplb.over_nodes(load, 8, 8, 192)).traffic
    assert (even.rank_straggler < plain.rank_straggler).all()
    assert (even.node_straggler < plain.node_straggler).all()
