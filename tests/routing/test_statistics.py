"""Statistics against closed forms, and against traces drawn from their nulls."""

import numpy as np
import pytest
from routing_cases import drawn
from scipy.special import ive

from diffgenz.core.errors import InputError
from diffgenz.routing.source import open_trace
from diffgenz.routing.statistics import tally as tallies
from diffgenz.routing.statistics.imbalance import MEASURES, chance, measures
from diffgenz.routing.statistics.measured import measured, redrawn
from diffgenz.routing.statistics.similarity import similarity
from diffgenz.routing.statistics.statistics import routing_statistics
from diffgenz.routing.trace import DECODE, PREFILL, Counts, Trace

RNG = np.random.default_rng


def trace_of(chosen, experts, length=20, **fields):
    """A trace whose requests have so many tokens each."""
    request = np.arange(len(chosen)) // length
    return Trace(experts, tuple(range(chosen.shape[1])), chosen, request, **fields)


def from_logits(logits, tokens, k, seed=0):
    """Choices [tokens, layers, k] from logits [tokens or 1, layers, experts], by Gumbel's trick."""
    noise = RNG(seed).gumbel(size=(tokens, *np.shape(logits)[1:]))
    return np.argsort(-(logits + noise), axis=2)[..., :k]


# --- load --------------------------------------------------------------------------------------


def test_measures_by_hand():
    counts = np.array([[1, 1, 1, 1], [4, 0, 0, 0], [1, 3, 0, 0], [0, 0, 0, 0]])
    found = dict(zip(MEASURES, measures(counts), strict=True))
    np.testing.assert_allclose(found["max/mean"][:3], [1, 4, 3])
    np.testing.assert_allclose(found["CV"][:3], [0, np.sqrt(3), np.sqrt(1.5)])
    # Gini of (0, 0, 1, 3): the mean difference of pairs, 20 / 16, over twice the mean.
    np.testing.assert_allclose(found["Gini"][:3], [0, 0.75, 20 / 16 / 2])
    three = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75)) / np.log(4)
    np.testing.assert_allclose(found["entropy"][:3], [1, 0, three], atol=1e-12)
    np.testing.assert_allclose(found["active"][:3], [1, 0.25, 0.5])
    assert all(np.isnan(values[3]) for values in found.values())


@pytest.mark.parametrize(("tokens", "k"), [(50, 1), (300, 4), (20_000, 8)])
def test_chance_is_that_of_different_experts_at_random(tokens, k):
    experts = 32
    found = chance(tokens, experts, k, RNG(0), draws=400)
    np.testing.assert_allclose(found.mean(), tokens * k / experts)
    np.testing.assert_allclose(found.sum(axis=1), tokens * k)
    share = k / experts
    np.testing.assert_allclose(found.var(), tokens * share * (1 - share), rtol=0.05)


def test_the_gini_of_chance_is_its_closed_form():
    """Of Poisson counts of mean m: e^-2m (I0(2m) + I1(2m)), which tends to 1 / sqrt(pi m)."""
    for tokens, experts in ((20_000, 64), (193, 128)):
        mean = tokens / experts
        found = measures(chance(tokens, experts, 1, RNG(0), 400))[MEASURES.index("Gini")].mean()
        closed = ive(0, 2 * mean) + ive(1, 2 * mean)
        assert found == pytest.approx(closed * (1 - 1 / experts), rel=0.01)
    assert ive(0, 625) + ive(1, 625) == pytest.approx(1 / np.sqrt(np.pi * 312.5), rel=0.001)


def test_a_trace_without_structure_is_its_null():
    trace = trace_of(drawn(4000, 6, 16, 2), 16)
    found = routing_statistics(trace)
    for name, each in found.load["decode"].items():
        spread = 4 * max(each.high.mean() - each.low.mean(), 1e-3)
        assert abs(each.mean - each.mean_null) < spread, name
    for size, load in found.batches.items():
        assert load["Gini"].mean == pytest.approx(load["Gini"].mean_null, rel=0.06), size
        assert load["active"].mean == pytest.approx(load["active"].mean_null, rel=0.03), size
    assert found.coactivation["within"].mean == pytest.approx(1, abs=0.02)
    assert found.coactivation["next"].mean == pytest.approx(1, abs=0.02)
    assert found.windows["ends"].mean == pytest.approx(1, abs=0.03)


def test_active_experts_of_a_batch_follow_the_closed_form():
    """E (1 - (1 - k/E)^n) of equally popular experts."""
    found = routing_statistics(trace_of(drawn(3000, 4, 64, 4), 64)).batches
    for size in (16, 64):
        assert found[size]["active"].mean == pytest.approx(1 - (1 - 4 / 64) ** size, abs=0.01)


def test_load_of_known_popularity():
    popularity = np.array([0.5, 0.25, 0.15, 0.1])
    logits = np.log(popularity)[None, None, :]
    found = routing_statistics(trace_of(from_logits(logits, 40_000, 1), 4)).load["decode"]
    assert found["max/mean"].mean == pytest.approx(2, rel=0.01)
    assert found["CV"].mean == pytest.approx(popularity.std() * 4, rel=0.02)
    entropy = -(popularity * np.log(popularity)).sum() / np.log(4)
    assert found["entropy"].mean == pytest.approx(entropy, rel=0.005)


# --- intervals ---------------------------------------------------------------------------------


def test_intervals_cover_what_they_should():
    """Of traces whose requests differ, 95 % of intervals hold the true value; not so of tokens."""
    experts, covered, tries = 8, 0, 60
    popularity = np.full(experts, 0.5 / (experts - 1))
    popularity[0] = 0.5
    for seed in range(tries):
        # A request keeps to one expert, so that its 20 tokens are one observation.
        each = RNG(seed).choice(experts, size=200, p=popularity)
        chosen = np.repeat(each, 20)[:, None, None]
        counts = np.zeros((32, 1, experts))
        np.add.at(counts[:, 0], (np.arange(200).repeat(20) % 32, chosen[:, 0, 0]), 1)
        draws = redrawn(counts.sum(axis=(1, 2)), RNG(seed))
        assert draws is not None
        again = (draws @ counts[:, 0]) / counts.sum() * experts
        found = measured(counts.sum(0).max(1) / counts.sum() * experts, again.max(1)[:, None])
        covered += found.low[0] <= 4 <= found.high[0]
    assert 0.85 <= covered / tries <= 1


def test_a_single_request_has_no_interval():
    found = routing_statistics(trace_of(drawn(100, 2, 8, 2), 8, length=100))
    assert np.isnan(found.load["decode"]["Gini"].low).all()
    assert not found.coactivation
    assert found.data()["load"]["decode"]["Gini"]["mean_interval"] == [None, None]


# --- domains and time --------------------------------------------------------------------------


def two_domains(length, requests, seed=0):
    """Requests of two domains of orthogonal popularity, tokens drawn from it."""
    rng = RNG(seed)
    domain = np.arange(requests) % 2
    chosen = (
        rng.integers(0, 8, (requests * length, 3, 1)) + 8 * domain.repeat(length)[:, None, None]
    )
    return trace_of(chosen, 16, length, domain=domain.repeat(length), domains=("code", "chat"))


@pytest.mark.parametrize("length", [2, 50])
def test_orthogonal_domains_are_unlike_and_random_ones_alike(length):
    found = routing_statistics(two_domains(length, 400)).similarity[("code", "chat")]
    assert found["cosine"].mean == pytest.approx(0, abs=1e-9)
    assert found["cosine"].mean_null == pytest.approx(1, abs=0.05)
    assert found["JS"].mean == pytest.approx(1)
    assert found["JS"].mean_null < 0.1


@pytest.mark.parametrize("length", [1, 4, 100])
def test_the_cosine_is_unbiased_by_noise(length):
    """Two domains of the same popularity: 1, however short; the plain cosine is far below."""
    popularity = 0.5 * RNG(1).normal(size=64)[None, None, :]
    chosen = from_logits(popularity, 256 * length, 1)
    domain = (np.arange(256) % 2).repeat(length)
    trace = trace_of(chosen, 64, length, domain=domain, domains=("a", "b"))
    found = routing_statistics(trace).similarity[("a", "b")]["cosine"]
    assert found.mean == pytest.approx(1, abs=0.25 if length == 1 else 0.1)
    plain = trace.counts("domain")[:, 0]
    if length == 1:
        assert (plain[0] @ plain[1]) / np.prod(np.linalg.norm(plain, axis=1)) < 0.85
    assert found.low[0] < 1 < found.high[0]


def test_similarity_of_known_popularity():
    """Cosine and divergence of two popularities by hand."""
    p, q = np.array([0.7, 0.2, 0.1, 0.0]), np.array([0.1, 0.2, 0.3, 0.4])
    counts = np.stack([np.tile(1000 * each, (8, 1, 1)) for each in (p, q)])
    found = similarity(counts, [(0, 1)], RNG(0))[0]
    cosine = (p @ q) / np.sqrt((p @ p) * (q @ q))
    assert found["cosine"].value[0] == pytest.approx(cosine)
    m = (p + q) / 2

    def kl(a):
        return (a[a > 0] * np.log2(a[a > 0] / m[a > 0])).sum()

    assert found["JS"].value[0] == pytest.approx((kl(p) + kl(q)) / 2)


def test_drift_is_seen_and_its_null_is_none():
    half = from_logits(np.zeros((1, 3, 16)), 2000, 2)
    drift = np.concatenate([half % 8, half % 8 + 8])
    drift[..., 1] = np.where(
        drift[..., 1] == drift[..., 0], (drift[..., 0] + 8) % 16, drift[..., 1]
    )
    found = routing_statistics(trace_of(drift, 16))
    assert found.windows["ends"].mean < 0.4
    assert found.windows["ends"].mean_null == pytest.approx(1, abs=0.1)
    assert found.windows["ends"].mean_high < 0.6


def test_windows_follow_steps_where_they_are_known():
    """Requests side by side in time: the popularity changes in the middle of each."""
    ids = np.concatenate([np.zeros(20), np.ones(20)]).astype(int)
    chosen = np.tile(ids, 100)[:, None, None]
    step = np.tile(np.arange(40), 100)
    assert routing_statistics(trace_of(chosen, 2, 40, step=step)).windows["ends"].mean == 0
    late = routing_statistics(trace_of(chosen, 2, 40)).windows["ends"].mean
    assert late == pytest.approx(1, abs=0.05)


# --- prefill and decode ------------------------------------------------------------------------


def phased(requests, prompt, made, spread, seed=0, experts=32):
    """Requests with popularity of their own, spread around that of all."""
    rng = RNG(seed)
    base = rng.normal(size=(1, 2, experts))
    length = prompt + made
    own = base + spread * rng.normal(size=(requests, 2, experts))
    chosen = from_logits(own.repeat(length, axis=0), requests * length, 1, seed + 1)
    phase = np.tile(np.where(np.arange(length) < prompt, PREFILL, DECODE), requests)
    return trace_of(chosen, experts, length, phase=phase)


def test_phases_of_requests_with_and_without_a_popularity_of_their_own():
    alike = routing_statistics(phased(200, 40, 40, 0.0))
    assert alike.lengths == (40, 40)
    own = alike.phases["request"]
    assert own.mean == pytest.approx(own.mean_null, abs=0.02)
    assert alike.phases["pooled"].mean > 0.99
    assert alike.phases["pooled"].mean_null == pytest.approx(0, abs=0.1)
    unlike = routing_statistics(phased(200, 40, 40, 1.5)).phases["request"]
    assert unlike.mean_low > unlike.mean_null + 0.2
    short = routing_statistics(phased(200, 5, 40, 1.5)).phases["request"]
    assert short.mean < unlike.mean  # it grows with length, hence the length beside it


def test_request_correlations_are_pearsons():
    """Against NumPy's, and the same whatever the chunks."""
    trace = phased(30, 12, 18, 0.7)
    counts = [trace.counts("request", phase) for phase in (PREFILL, DECODE)]
    expected = np.mean(
        [
            [np.corrcoef(a, b)[0, 1] for a, b in zip(x, y, strict=True)]
            for x, y in zip(*counts, strict=True)
        ],
        0,
    )
    tally = tallies.tally_of([trace], 32, 2, 1, 1)
    np.testing.assert_allclose(
        tally.phases.own.sum(0) / tally.phases.count.sum(), expected, rtol=1e-5
    )
    cut = [trace.select(slice(i, i + 47)) for i in range(0, trace.tokens, 47)]
    pieces = tallies.tally_of(cut, 32, 2, 1, 1)
    np.testing.assert_allclose(pieces.phases.own, tally.phases.own, rtol=1e-5)
    np.testing.assert_allclose(pieces.phases.other, tally.phases.other, rtol=1e-5)
    np.testing.assert_array_equal(pieces.counts, tally.counts)


# --- co-activation -----------------------------------------------------------------------------


def test_lift_of_blocks_by_hand():
    """16 experts in 4 blocks of 4, tokens choose 2 of one block: 1/5 of pairs, lift 15/3 = 5."""
    rng = RNG(0)
    block = rng.integers(0, 4, (6000, 2, 1))
    chosen = 4 * block + np.argsort(rng.random((6000, 2, 4)), axis=2)[..., :2]
    found = routing_statistics(trace_of(chosen, 16)).coactivation
    assert found["within"].mean == pytest.approx(5, rel=0.02)
    assert found["within"].mean_null == pytest.approx(1, abs=0.05)
    assert found["next"].mean == pytest.approx(1, abs=0.02)  # blocks of layers are independent


def test_lift_to_the_next_layer_by_hand():
    """The next layer repeats the choice: all pairs on 8 of 64, lift 8."""
    ids = RNG(0).integers(0, 8, (5000, 1, 1))
    found = routing_statistics(trace_of(np.concatenate([ids, (ids + 3) % 8], axis=1), 8))
    assert set(found.coactivation) == {"next"}
    assert found.coactivation["next"].mean == pytest.approx(8, rel=0.02)
    assert found.coactivation["next"].mean_null == pytest.approx(1, abs=0.02)


# --- tallying ----------------------------------------------------------------------------------


def test_counts_are_those_of_the_trace_whatever_the_chunks(monkeypatch):
    trace = two_domains(30, 50)
    tally = tallies.tally_of([trace], 16, 3, 1, 2)
    np.testing.assert_array_equal(tally.counts.sum(axis=(0, 2)), trace.counts("domain"))
    np.testing.assert_array_equal(tally.windows.sum(axis=(0, 1)), trace.counts("all")[0])
    pieces = [trace.select(slice(i, i + 100)) for i in range(0, trace.tokens, 100)]
    again = tallies.tally_of(pieces, 16, 3, 1, 2)
    np.testing.assert_array_equal(again.counts, tally.counts)
    np.testing.assert_array_equal(again.windows.sum(axis=1), tally.windows.sum(axis=1))
    monkeypatch.setattr(tallies, "SAMPLE", 200)
    few = tallies.tally_of(pieces, 16, 3, 1, 2).sample()
    assert 50 <= len(few[0]) <= 200


def test_a_file_gives_what_the_trace_in_memory_gives(tmp_path):
    trace = two_domains(10, 60)
    trace.save(tmp_path / "t.npz")
    one = routing_statistics(trace).data()
    two = routing_statistics(open_trace(tmp_path / "t.npz")).data()
    assert one == two


def test_traces_that_have_nothing():
    with pytest.raises(InputError, match="has no tokens"):
        routing_statistics(trace_of(drawn(0, 2, 8, 2), 8))
    with pytest.raises(InputError, match="domain: 'chat' has no tokens"):
        routing_statistics(trace_of(drawn(10, 2, 8, 2), 8, domains=("code", "chat")))


# --- counts ------------------------------------------------------------------------------------


def test_counts_of_domains():
    p = np.array([[0.7, 0.2, 0.1, 0.0]])
    q = np.array([[0.1, 0.2, 0.3, 0.4]])
    counts = Counts(1000 * np.stack([p, q]), ("code", "chat"), "domain", (0,), k=1)
    found = routing_statistics(counts)
    cosine = (p @ q.T).item() / np.sqrt((p**2).sum() * (q**2).sum())
    assert found.similarity[("code", "chat")]["cosine"].mean == pytest.approx(cosine)
    assert found.tokens == {"all": 2000}
    assert np.isnan(found.load["all"]["Gini"].mean_low)


def test_counts_of_steps_have_windows_and_intervals():
    rng = RNG(0)
    counts = rng.multinomial(200, np.full(16, 1 / 16), size=(200, 3)).astype(float)
    found = routing_statistics(Counts(counts, tuple(map(str, range(200))), "step", (0, 1, 2), k=2))
    gini = found.load["all"]["Gini"]
    assert gini.mean_low < gini.mean < gini.mean_high
    assert found.windows["successive"].mean == pytest.approx(1, abs=0.01)
