import dataclasses

import numpy as np
import pytest
from scipy.special import erf

from diffgenz.core.errors import InputError
from diffgenz.routing.moments import moments
from diffgenz.routing.synthetic import Synthetic, synthesize
from diffgenz.routing.trace import DECODE, PREFILL

MODEL = Synthetic(
    16,
    3,
    (1, 3, 5),
    ("code", "chat"),
    domain=0.5,
    request=0.5,
    private=0.3,
    prefill=0.5,
    prefill_request=0.2,
    partitions=2,
    blocks=4,
    block_choices=2,
    block_bonus=3.0,
)


def means(model, requests, prefill, decode, seeds=5):
    """Moments over seeds: the mean of each, and the standard error of the mean."""
    seen = [
        dataclasses.astuple(moments(synthesize(model, requests, prefill, decode, seed=seed)))
        for seed in range(seeds)
    ]
    names = [field.name for field in dataclasses.fields(moments(synthesize(model, 4, 1, 4)))]
    error = np.std(seen, axis=0, ddof=1) / np.sqrt(seeds)
    return dict(zip(names, zip(np.mean(seen, axis=0), error, strict=True), strict=True))


def test_tokens_stand_request_by_request_with_the_prompt_first():
    trace = synthesize(MODEL, 3, [2, 0, 1], [1, 2, 0], domain=[1, 0, 1], seed=4)
    assert trace.request.tolist() == [0, 0, 0, 1, 1, 2]
    assert trace.phase.tolist() == [PREFILL, PREFILL, DECODE, DECODE, DECODE, PREFILL]
    assert trace.domain.tolist() == [1, 1, 1, 0, 0, 1]
    assert trace.domains == ("code", "chat")
    assert trace.layers == (1, 3, 5)
    assert trace.chosen.shape == (6, 3, 3)


def test_a_seed_is_a_trace_and_fewer_layers_are_a_part_of_it():
    trace = synthesize(MODEL, 40, 3, 20, seed=1)
    assert (trace.chosen == synthesize(MODEL, 40, 3, 20, seed=1).chosen).all()
    assert (trace.chosen != synthesize(MODEL, 40, 3, 20, seed=2).chosen).any()
    part = synthesize(MODEL.select([1, 5]), 40, 3, 20, seed=1)
    assert (part.chosen == trace.chosen[:, [0, 2]]).all()


def test_many_requests_and_tokens_are_drawn_slab_by_slab():
    """Slabs end within requests and phases; no token is left out or drawn twice."""
    model = Synthetic(1024, 1, (0,), popularity=1.0, domain=2.0, domains=("a", "b"))
    trace = synthesize(model, 1500, 1, 3, domain=np.arange(1500) % 2)
    counts = trace.counts("domain")[:, 0]
    assert counts.sum(1).tolist() == [3000, 3000]
    halves = [
        synthesize(model, 1500, 1, 3, domain=np.arange(1500) % 2).select(some).counts("domain")
        for some in (slice(0, 2000), slice(4000, 6000))
    ]
    first, last = (half[0, 0] / half[0, 0].sum() for half in halves)
    other = halves[1][1, 0] / halves[1][1, 0].sum()
    assert first @ last > 5 * (first @ other)


def test_layers_may_have_their_own_popularity():
    model = Synthetic(64, 1, (0, 1), popularity=(0.0, 1.5), popularity_spread=0.0)
    trace = synthesize(model, 1, 0, 20_000)
    flat, steep = (moments(trace.select(layers=[layer])).gini for layer in (0, 1))
    assert flat < 0.04 < 0.5 < steep


SPREAD = {"popularity": 0.5, "domain": 0.5, "request": 0.4, "private": 0.3, "prefill": 0.6}
WITHIN = SPREAD["request"] ** 2 + SPREAD["private"] ** 2
DECODED = SPREAD["popularity"] ** 2 + SPREAD["domain"] ** 2 + WITHIN
EXPERTS, REQUESTS, TOKENS, DOMAINS = 256, 200, 60, ("a", "b", "c", "d")
NOISE = EXPERTS / (REQUESTS / len(DOMAINS) * TOKENS) / np.exp(DECODED - WITHIN)
"""Part that the noise of counts adds to the squares of the shares of a domain."""
LAWS = {
    "participation": np.exp(-DECODED),
    "same_domain": np.exp(-WITHIN),
    "other_domain": np.exp(-WITHIN - SPREAD["domain"] ** 2),
    "domain_cosine": np.exp(-(SPREAD["domain"] ** 2)) / (1 + NOISE),
}
"""Products of log-normal weights, whose logarithms have these variances: E w w' = e^covariance."""


@pytest.fixture(scope="module")
def log_normal():
    model = Synthetic(
        EXPERTS, 1, tuple(range(8)), DOMAINS, popularity_spread=0.0, factors=24, **SPREAD
    )
    return means(model, REQUESTS, 10, TOKENS)


@pytest.mark.parametrize("name", LAWS)
def test_products_are_those_of_log_normal_weights(log_normal, name):
    mean, error = log_normal[name]
    assert mean == pytest.approx(LAWS[name], abs=4 * error + 0.01)


@pytest.mark.parametrize("popularity", [0.3, 1.0])
def test_gini_is_that_of_log_normal_weights(popularity):
    model = Synthetic(128, 1, tuple(range(4)), popularity=popularity, popularity_spread=0.0)
    mean, error = means(model, 1, 0, 50_000)["gini"]
    assert mean == pytest.approx(erf(popularity / 2), abs=4 * error + 0.005)


def test_prefill_and_decode_correlate_as_log_normal_weights():
    model = Synthetic(256, 1, tuple(range(4)), popularity=0.5, prefill=0.6, popularity_spread=0.0)
    mean, error = means(model, 1, 20_000, 20_000)["prefill_pearson"]
    expected = np.sqrt(np.expm1(0.25) / np.expm1(0.25 + 0.36))
    assert mean == pytest.approx(expected, abs=4 * error + 0.01)


def test_experts_of_a_block_are_chosen_together():
    """One block of 8 of 64 each: pairs within blocks alone, (64 - 1) / (8 - 1) times as often."""
    model = Synthetic(
        64,
        3,
        (0, 1),
        popularity=0.0,
        partitions=1,
        blocks=8,
        block_choices=1,
        block_bonus=20.0,
        concentration=1e4,
    )
    mean, error = means(model, 20, 0, 1500)["lift"]
    assert mean == pytest.approx(63 / 7, abs=4 * error + 0.05)
    alone = means(dataclasses.replace(model, block_bonus=0.0), 20, 0, 1500)["lift"]
    pairs = 20 * 1500 * 3 * 2 / (64 * 63)  # tokens that choose a pair; their noise adds to squares
    assert alone[0] == pytest.approx(1 + 1 / pairs, abs=4 * alone[1] + 0.002)


def test_requests_differ_more_the_smaller_the_concentration():
    model = Synthetic(
        32, 2, (0, 1), partitions=1, blocks=8, block_choices=1, block_bonus=8.0, popularity=0.0
    )
    same = [
        means(dataclasses.replace(model, concentration=c), 100, 0, 60)["same_domain"][0]
        for c in (0.1, 1.0, 100.0)
    ]
    assert same[0] < same[1] - 0.1 < same[2] - 0.2
    # E <p_r, p_s> / E <p_r, p_r> of Dirichlet mixtures of 8: (1/8) / ((1 + c) / (1 + 8 c))
    assert same[1] == pytest.approx((1 / 8) / (2 / 9), abs=0.03)


def test_a_group_limited_router_reaches_so_many_groups():
    model = Synthetic(64, 6, (0, 1), groups=8, used_groups=3)
    chosen = synthesize(model, 10, 5, 50).chosen // 8
    visited = np.array([[len(set(layer)) for layer in token] for token in chosen])
    assert visited.max() == 3
    assert visited.min() >= 1
    free = synthesize(dataclasses.replace(model, used_groups=8), 10, 5, 50).chosen // 8
    assert max(len(set(layer)) for token in free for layer in token) > 3


BAD = [
    ({"k": 17}, "k: 17 is not allowed"),
    ({"k": 0}, "k: 0 is not allowed"),
    ({"partitions": -1}, "partitions: -1 is not allowed"),
    ({"request": -1.0}, "request: -1 is not allowed"),
    ({"popularity": (1.0, 2.0)}, "popularity: has 2 values for 3 layers"),
    ({"concentration": 0.0}, "concentration: 0 is not allowed"),
    ({"blocks": 40}, "blocks: 40 is not allowed"),
    ({"block_choices": 5}, "block_choices: 5 is not allowed"),
    ({"groups": 5}, "groups: 5 does not divide the 16 experts"),
    ({"groups": 8, "used_groups": 1}, "used_groups: 1 groups of 2 experts are too few"),
    ({"layers": (3, 1)}, "layers: .* are not layer indices"),
    ({"domains": ()}, "domains: there are none"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_parameters_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(MODEL, **changes)


ASKED = [
    ({"requests": 0}, "requests: 0 is not allowed"),
    ({"prefill_tokens": -1}, "prefill_tokens: -1 is not allowed"),
    ({"decode_tokens": [1, 2]}, "decode_tokens: has shape"),
    ({"decode_tokens": 0.5}, "decode_tokens: 0.5 is not a whole number"),
    ({"prefill_tokens": 0, "decode_tokens": 0}, "decode_tokens: there are no tokens"),
    ({"domain": 2}, "domain: 2 is not allowed"),
    ({"seed": -1}, "seed: -1 is not allowed"),
]


@pytest.mark.parametrize(("changes", "message"), ASKED, ids=[message for _, message in ASKED])
def test_bad_questions_are_refused(changes, message):
    asked = {"requests": 3, "prefill_tokens": 1, "decode_tokens": 1} | changes
    with pytest.raises(InputError, match=message):
        synthesize(MODEL, **asked)


def test_layers_done_are_told():
    told = []
    synthesize(MODEL, 2, 1, 1, progress=told.append)
    assert told == [1, 2, 3]
