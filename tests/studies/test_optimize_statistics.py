"""Statistics of draws: closed forms of a lognormal, laws of tails, and the words for them."""

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import norm

import diffgenz as dgz
from diffgenz.studies.optimize.statistic_words import limits_on_draws, objective_on_draws
from diffgenz.studies.optimize.statistics import MEAN, SMOOTHING, WORST, Statistic

WIDTH = 0.5
EVERY = [MEAN, WORST, *(Statistic("cvar", level) for level in (0.05, 0.5, 0.75, 0.9))]


def lognormal(count):
    """Logarithms of draws with median 1, one from the middle of each equally likely part."""
    return WIDTH * ndtri((np.arange(count) + 0.5) / count)[None]


@pytest.mark.parametrize("level", [0.5, 0.75, 0.9])
def test_the_tail_of_a_lognormal_is_its_closed_form(level):
    """E[X; X > q] = exp(s^2 / 2) Phi(s - z), and so of the least with Phi(z - s)."""
    z, mean = norm.ppf(level), np.exp(WIDTH**2 / 2)
    upper = mean * norm.cdf(WIDTH - z) / (1 - level)
    lower = mean * norm.cdf(-z - WIDTH) / (1 - level)
    statistic = Statistic("cvar", level)
    for smooth in (True, False):
        found = statistic.of(lognormal(4096), smooth=smooth)
        least = statistic.of(lognormal(4096), least=True, smooth=smooth)
        assert np.exp(found[0]) == pytest.approx(upper, rel=2e-3)
        assert np.exp(least[0]) == pytest.approx(lower, rel=2e-3)
    assert np.exp(MEAN.of(lognormal(4096))[0]) == pytest.approx(mean, rel=1e-3)


def test_a_tail_of_one_and_a_half_draws_is_by_hand():
    logs = np.log([[3.0, 1.0, 4.0, 2.0]])
    statistic = Statistic("cvar", 0.625)
    assert np.exp(statistic.of(logs, smooth=False)[0]) == pytest.approx((4 + 3 / 2) / 1.5)
    assert np.exp(statistic.of(logs, least=True, smooth=False)[0]) == pytest.approx(2 / 1.5)
    assert np.exp(WORST.of(logs, smooth=False)[0]) == pytest.approx(4)


@pytest.mark.parametrize("statistic", EVERY)
def test_what_smoothing_does_to_a_tail_is_bounded(statistic):
    logs = np.random.default_rng(0).normal(0, 0.4, (50, 40))
    exact, smooth = (statistic.of(logs, smooth=smooth) for smooth in (False, True))
    assert (smooth >= exact - 1e-12).all()
    assert (smooth <= exact + 2e-3).all()
    below = statistic.of(logs, least=True, smooth=True)
    assert (below <= statistic.of(logs, least=True, smooth=False) + 1e-12).all()
    same = np.zeros((1, 40))
    most = 0 if statistic.kind == "mean" else SMOOTHING * np.sqrt(statistic.factor(40) - 1)
    assert np.expm1(statistic.of(same)[0]) == pytest.approx(most, rel=0.01)
    assert statistic.of(same, smooth=False)[0] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("statistic", EVERY)
@pytest.mark.parametrize("smooth", [True, False])
def test_it_is_homogeneous_grows_with_draws_and_keeps_convexity_in_logarithms(statistic, smooth):
    rng = np.random.default_rng(1)
    logs = rng.normal(0, 0.4, (50, 30))

    def of(logs):
        return statistic.of(logs, smooth=smooth)

    np.testing.assert_allclose(of(logs + 3), of(logs) + 3, atol=1e-9)
    assert (of(logs + rng.uniform(0, 0.1, logs.shape)) >= of(logs) - 1e-12).all()
    powers, constants = rng.normal(0, 1, (30, 3, 4)), rng.normal(0, 1, (30, 3))

    def posynomials(x):  # of shape (50, 30 draws)
        terms = np.einsum("ln,dtn->ldt", x, powers) + constants
        return of(np.log(np.exp(terms).sum(axis=2)))

    a, b = rng.normal(0, 1, (2, 50, 4))
    assert (posynomials((a + b) / 2) <= (posynomials(a) + posynomials(b)) / 2 + 1e-9).all()


def test_words_say_which_statistic_of_what():
    assert objective_on_draws("tpot + 1") == ("tpot + 1", MEAN)
    assert objective_on_draws("mean(tpot)") == ("tpot", MEAN)
    assert objective_on_draws("worst(2 * tpot)") == ("2 * tpot", WORST)
    for text in ("cvar(75%, tpot / 2)", "cvar(0.75, tpot / 2)", "cvar( 75 % , tpot/2)"):
        assert objective_on_draws(text) == ("tpot / 2", Statistic("cvar", 0.75))
    written = ["fits", "ttft <= 2 in 90% of draws", "1 <= mean(tpot) <= 2", "cvar(90%, power) < 7"]
    found = [(limit.text, limit.statistic, limit.least) for limit in limits_on_draws(written)]
    assert found == [
        ("fits", WORST, False),
        ("ttft <= 2", Statistic("share", 0.9), False),
        ("1 <= tpot", MEAN, True),
        ("tpot <= 2", MEAN, False),
        ("power < 7", Statistic("cvar", 0.9), False),
    ]
    joined = limits_on_draws(["mean(tpot) <= 2 and fits and throughput >= 3"])
    assert [limit.text for limit in joined] == ["tpot <= 2", "fits", "throughput >= 3"]
    assert [limit.statistic for limit in joined] == [MEAN, WORST, WORST]


@pytest.mark.parametrize(
    ("read", "text", "words"),
    [
        (objective_on_draws, "2 * mean(tpot)", "has a statistic within a formula"),
        (objective_on_draws, "cvar(tpot)", "write cvar(75%, tpot)"),
        (objective_on_draws, "mean(tpot, ttft)", "write mean(tpot)"),
        (objective_on_draws, "cvar(100%, tpot)", "100.0 % is not allowed; it must be at least 0 %"),
        (objective_on_draws, "cvar(tpot, 2)", "tpot is no share; write 75%"),
        (objective_on_draws, "mean(tpot", "cannot be read"),
        (objective_on_draws, "mean(mean(tpot))", "has a statistic within a formula"),
        (limits_on_draws, ["tpot <= 1 in 0% of draws"], "above 0 % and at most 100 %"),
        (limits_on_draws, ["mean(tpot) <= 1 in 90% of draws"], "has two statistics"),
        (limits_on_draws, ["tpot <= 1 and fits in 90% of draws"], "joins several limits"),
        (limits_on_draws, ["mean(tpot) <= worst(ttft)"], "a statistic on both sides"),
        (limits_on_draws, ["mean(tpot) == 1"], "compare by <= or >="),
        (limits_on_draws, ["mean(tpot)"], "within a formula"),
        (limits_on_draws, "mean(tpot) <= 1", "is one text"),
    ],
)
def test_words_that_cannot_be_read_are_refused_in_one_line(read, text, words):
    with pytest.raises(dgz.InputError) as error:
        read(text)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
