import numpy as np
import pytest

from diffgenz.core.errors import InputError
from diffgenz.routing.moments import cosine, lift, mean_pearson, moments
from diffgenz.routing.popularity import gini
from diffgenz.routing.synthetic import Synthetic, synthesize
from diffgenz.routing.trace import DECODE, PREFILL, Trace


@pytest.mark.parametrize(
    ("counts", "value"), [([1, 1, 1], 0), ([0, 0, 9], 2 / 3), ([1, 2, 3], 2 / 9), ([5], 0)]
)
def test_gini(counts, value):
    counts = np.array(counts)
    by_pairs = np.abs(counts[:, None] - counts).mean() / 2 / counts.mean()
    assert gini(counts) == pytest.approx(value, abs=1e-12)
    assert by_pairs == pytest.approx(value, abs=1e-12)


def test_cosine_and_pearson_are_means_over_pairs_and_rows():
    assert cosine(np.array([[1.0, 0], [0, 2], [3, 3]])) == pytest.approx(2 / np.sqrt(2) / 3)
    assert np.isnan(cosine(np.array([[1.0, 2]])))
    first, second = np.array([[1.0, 2, 4], [1, 1, 1]]), np.array([[2.0, 1, 1], [1, 2, 3]])
    assert mean_pearson(first, second) == pytest.approx(np.corrcoef(first[0], second[0])[0, 1])


def test_lift_is_one_where_all_pairs_are_as_frequent_as_each_alone_suggests():
    assert lift(np.array([[4.0, 2, 2], [2, 4, 2], [2, 2, 4]])) == pytest.approx(1)
    pairs = np.array([[5.0, 5, 0, 0], [5, 5, 0, 0], [0, 0, 5, 5], [0, 0, 5, 5]])
    assert lift(pairs) == pytest.approx(3)  # 4 of 12 pairs occur, each three times as often


def test_by_hand():
    """Two requests of two domains, one layer, four experts, with two prompt tokens each."""
    decode = [[0, 0, 0, 1], [2, 3, 2, 2]]
    chosen = [[1], [0], *([e] for e in decode[0]), [2], [3], *([e] for e in decode[1])]
    phase = [PREFILL, PREFILL, *[DECODE] * 4] * 2
    trace = Trace(
        4,
        (7,),
        np.array(chosen)[:, None],
        np.repeat([5, 9], 6),
        phase=np.array(phase),
        domain=np.repeat([0, 1], 6),
        domains=("a", "b"),
    )
    have = moments(trace)
    own = (0.5 + 0.5) / 2  # halves: (1, 0, 0, 0) . (.5, .5, 0, 0), and (.5, .5) . (1, 0)
    assert have.gini == pytest.approx(gini(np.array([3, 1, 3, 1])))
    assert have.peak == pytest.approx(1.5)
    assert have.participation == pytest.approx(1 / 4 / own)
    assert np.isnan(have.same_domain)
    assert have.other_domain == 0
    assert have.domain_cosine == 0
    assert np.isnan(have.prefill_pearson)  # prompts choose all experts alike
    assert np.isnan(have.request_pearson)  # prompts are too short
    assert np.isnan(have.lift)


def test_short_requests_that_do_not_differ_show_no_structure():
    """Products of halves are not biased by the noise of few tokens."""
    model = Synthetic(32, 2, tuple(range(4)), ("a", "b"), popularity=0.0)
    seen = [moments(synthesize(model, 400, 0, 6, seed=seed)) for seed in range(5)]
    for name in ("participation", "same_domain", "other_domain"):
        values = [getattr(each, name) for each in seen]
        assert np.mean(values) == pytest.approx(1, abs=4 * np.std(values, ddof=1) / 5**0.5 + 1e-3)


def test_prompts_alone_have_moments_too_and_no_tokens_have_none():
    model = Synthetic(8, 2, (0,))
    trace = synthesize(model, 10, 20, 0)
    assert moments(trace).gini > 0
    assert np.isnan(moments(trace).prefill_pearson)
    with pytest.raises(InputError, match="no tokens"):
        moments(trace.select(np.zeros(0, int)))
