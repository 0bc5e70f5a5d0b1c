import numpy as np
import pytest

from diffgenz.core.errors import InputError
from diffgenz.routing.baselines import linear
from diffgenz.routing.expected import dispersion, fullest_rank, travel, variation, visited
from diffgenz.routing.gumbel import gumbel, top_of_groups
from diffgenz.routing.synthetic import Synthetic, synthesize
from diffgenz.routing.synthetic_files import load_synthetic
from diffgenz.routing.trace import Trace
from diffgenz.routing.traffic import tally_of_counts, tally_of_tokens


def shares(experts, spread, ranks, layers, seed):
    """Shares of ranks that have equally many experts of log-normal popularity: [layers, ranks]."""
    popularity = np.exp(spread * np.random.default_rng(seed).standard_normal((layers, experts)))
    popularity /= popularity.sum(1, keepdims=True)
    return popularity.reshape(layers, ranks, -1).sum(2)


STEEP, FLAT = (128, 1.5), (64, 0.25)
"""Experts, and the standard deviation of their log popularity, of Llama-4 and DeepSeek-V2-Lite."""


@pytest.mark.parametrize(
    ("rows", "error"), [(16, 0.08), (64, 0.04), (256, 0.02), (1024, 0.01), (8192, 0.005)]
)
def test_the_fullest_rank_is_that_of_drawn_rows(rows, error):
    """Mean error over both models and 8 to 64 ranks; that of the largest mean is far larger."""
    errors, of_means = [], []
    random = np.random.default_rng(0)
    for experts, spread in (STEEP, FLAT):
        for ranks in (8, 16, 32, 64):
            some = shares(experts, spread, ranks, 6, seed=ranks)
            drawn = random.multinomial(rows, some, size=(400, 6)).max(2).mean(0) * ranks / rows
            errors += list(np.abs(fullest_rank(some, rows) / drawn - 1))
            of_means += list(np.abs(some.max(1) * ranks / drawn - 1))
    assert np.mean(errors) < error
    assert np.mean(of_means) > np.mean(errors)


def test_rows_that_vary_more_fill_a_rank_more_and_many_rows_tell_the_means():
    some = shares(*STEEP, 16, 3, seed=0)
    assert np.all(fullest_rank(some, 64, 2.0) > fullest_rank(some, 64, 1.0))
    assert fullest_rank(some, 1e9) == pytest.approx(some.max(1) * 16, rel=1e-3)
    assert fullest_rank(np.ones((2, 1)), 10).tolist() == [1, 1]
    assert fullest_rank(3 * some, 64) == pytest.approx(fullest_rank(some, 64))


@pytest.mark.parametrize(("rows", "dispersion"), [(0, 1), (-1, 1), (10, 0)])
def test_no_rows_are_refused(rows, dispersion):
    with pytest.raises(InputError, match="is not allowed"):
        fullest_rank(np.ones(4), rows, dispersion)


def test_variation_is_of_popularity_and_not_of_few_counts():
    random = np.random.default_rng(0)
    popularity = np.exp(random.standard_normal(64))
    popularity /= popularity.sum()
    true = 64 * (popularity**2).sum() - 1
    found = variation(random.multinomial(200, popularity, size=400))
    assert found.mean() == pytest.approx(true, abs=4 * found.std() / 20)
    counts = random.multinomial(200, popularity, size=400)
    assert (64 * ((counts / 200) ** 2).sum(1) - 1).mean() > true + 0.2
    assert variation(np.array([[5, 5, 5]])) == 0
    assert variation(np.array([[0, 0, 1000]])) == pytest.approx(2)


@pytest.mark.parametrize("m", [1, 4])
def test_rows_of_requests_that_each_have_one_expert_vary_with_their_tokens(m):
    """Each of 4 ranks gets all m tokens of a request, or none: variance m (1 - 1/4) of the mean."""
    requests, tokens = 400, 3
    chosen = np.repeat(np.arange(requests) % 4, tokens)[:, None, None]
    trace = Trace(4, (0,), chosen, np.repeat(np.arange(requests), tokens))
    found = dispersion(trace, linear(1, 4, 2, 2, 4), m)
    assert found == pytest.approx(m * 0.75, rel=0.01)


def test_rows_of_drawn_iterations_vary_as_said():
    """The tokens of 64 requests, 1 or 5 of each, drawn many times from a trace."""
    model = Synthetic(16, 2, (0,), request=1.0, popularity=0.5)
    trace = synthesize(model, 600, 0, 30, seed=1)
    placement = linear(1, 16, 2, 4, 16)
    rank = trace.chosen[:, 0] // 2
    random = np.random.default_rng(0)
    for m in (1, 5):
        rows = np.empty((1500, 8))
        for at in range(len(rows)):
            request = random.integers(0, 600, 64)
            token = (
                request[:, None] * 30
                + random.permuted(np.tile(np.arange(30), (64, 1)), axis=1)[:, :m]
            )
            rows[at] = np.bincount(rank[token.ravel()].ravel(), minlength=8)
        expected = rows.var(0, ddof=1).sum() / rows.mean(0).sum()
        assert dispersion(trace, placement, m)[0] == pytest.approx(expected, rel=0.08)


def test_too_few_requests_are_refused():
    trace = Trace(4, (0,), np.zeros((3, 1, 1), int), np.zeros(3, int))
    with pytest.raises(InputError, match="give two requests or more"):
        dispersion(trace, linear(1, 4, 2, 2, 4))
    with pytest.raises(InputError, match="tokens_per_request: 0.5 is not allowed"):
        dispersion(trace, linear(1, 4, 2, 2, 4), 0.5)


def traffics(trace, nodes, ranks_per_node):
    """Sent once to each node, and sent for each choice; requests take nodes in turn."""
    placement = linear(len(trace.layers), trace.experts, nodes, ranks_per_node, trace.experts)
    node = np.arange(len(trace.requests)) % nodes
    once = tally_of_tokens(trace.chosen, trace.request, node, placement).traffic
    each = tally_of_counts(trace.counts("request"), node, placement, k=trace.k).traffic
    return once, each


@pytest.mark.parametrize(("nodes", "per_node"), [(2, 4), (4, 2), (8, 8)])
def test_uniform_routing_travels_as_uniform_routing(nodes, per_node):
    model = Synthetic(64, 6, (0, 1), popularity=0.0)
    trace = synthesize(model, 64, 0, 300)
    found = travel(*traffics(trace, nodes, per_node), k=6)
    for name in ("far", "near", "remote"):
        assert getattr(found, name) == pytest.approx(1, abs=0.01), name
    for name in ("pair", "wire", "rows"):
        assert np.all(getattr(found, name) >= 1)
        assert getattr(found, name) == pytest.approx(1, abs=0.15), name


def test_by_hand():
    """Two nodes of two experts; node 0 has a token that stays, node 1 one that leaves."""
    trace = Trace(4, (0,), np.array([[[0, 1]], [[0, 2]], [[1, 3]]]), np.array([0, 1, 1]))
    found = travel(*traffics(trace, 2, 2), k=2)
    # copies: node 0 to 0: 1; node 1 to 0: 2, to 1: 2
    uniform = 2 * (1 - 1 / 6)
    assert found.far == pytest.approx(2 / 3 / (uniform / 2))
    assert found.near == pytest.approx(2 / (4 * (1 - 3 / 6)))
    assert found.remote == pytest.approx(2 / 6 / 0.5)
    assert found.pair == pytest.approx(2)  # 0 and 2 between nodes: mean 1
    assert found.wire == pytest.approx(2)
    assert found.rows == pytest.approx(2 / 1.5)


def test_on_one_node_nothing_is_far():
    found = travel(*traffics(synthesize(Synthetic(8, 2, (0,)), 4, 0, 50), 1, 4), k=2)
    for name in ("far", "remote", "pair", "wire"):
        assert getattr(found, name).tolist() == [1]


@pytest.mark.parametrize(
    ("parts", "experts", "k", "groups", "used"),
    [(8, 64, 6, 1, 1), (4, 64, 6, 1, 1), (64, 64, 6, 1, 1), (8, 256, 8, 8, 4), (4, 256, 8, 8, 4),
     (16, 256, 8, 8, 4), (64, 256, 8, 8, 4)],
)  # fmt: skip
def test_parts_visited_are_those_of_drawn_tokens(parts, experts, k, groups, used):
    drawn = top_of_groups(gumbel(np.random.default_rng(0), 20_000, experts), k, groups, used)
    reached = np.zeros((len(drawn), parts), bool)
    reached[np.arange(len(drawn))[:, None], drawn * parts // experts] = True
    expected = visited(parts, experts, k, groups, used)
    assert reached.sum(1).mean() == pytest.approx(expected, rel=0.005 if groups == 1 else 0.02)


def test_deepseek_v3_reaches_four_of_eight_nodes():
    model = load_synthetic("deepseek-v3").select((3, 30, 60))
    once, each = traffics(synthesize(model, 64, 0, 100), 8, 8)
    assert once.far.mean() == pytest.approx(3.5, abs=0.1)
    found = travel(once, each, 8, 8, 4)
    assert found.far == pytest.approx(1, abs=0.03)
