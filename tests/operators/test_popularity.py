"""How full ranks get and how many experts have tokens: closed forms against draws."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffgenz.operators.popularity import active_share, fullest, most_popular, variation_of_power
from diffgenz.operators.routing import PowerLaw

RNG = np.random.default_rng(3)


def single(*numbers):
    return [np.float32(x) for x in numbers]


# ---- the fullest rank


@pytest.mark.parametrize("ranks", [2, 4, 8, 64])
@pytest.mark.parametrize("share", [1.0, 1.1, 1.5, 3.0])
def test_the_fullest_rank_is_as_full_as_in_draws(ranks, share):
    share = min(share, ranks * 0.9)
    shares = np.full(ranks, (1 - share / ranks) / (ranks - 1))
    shares[0] = share / ranks
    for mean in (0.25, 1, 4, 16, 128):
        rows = int(mean * ranks)
        if rows < 1:
            continue
        drawn = RNG.multinomial(rows, shares, size=6000).max(axis=1).mean() / (rows / ranks)
        found = float(fullest(*single(rows, ranks, share, 1.0)))
        rel = 0.025 if mean >= 4 else 0.08 if mean >= 1 else 0.18
        assert found == pytest.approx(drawn, rel=rel), mean


def test_dispersion_widens_as_requests_of_several_tokens_do():
    """Whole requests of 4 tokens for one expert: a quarter of the draws, 4 times the variance."""
    drawn = 4 * RNG.multinomial(256, np.full(8, 1 / 8), size=6000).max(axis=1).mean()
    found = float(fullest(*single(1024, 8, 1.0, 4.0)))
    assert found == pytest.approx(drawn / 128, rel=0.02)


@pytest.mark.parametrize("share", [1.0, 1.7, 8.0, 100.0])
def test_many_rows_fill_the_fullest_rank_as_in_the_long_run(share):
    assert float(fullest(*single(1e9, 8, share, 1.3))) == pytest.approx(min(share, 8), rel=1e-3)


@pytest.mark.parametrize("rows", [0.01, 1.0, 100.0, 1e6])
def test_one_rank_has_all_rows_and_no_rank_has_more(rows):
    for share, dispersion in itertools.product((1.0, 2.0), (0.0, 1.0, 3.0)):
        assert float(fullest(*single(rows, 1, 1.0, dispersion))) == 1
        for ranks in (2, 8, 64):
            assert 0.999 * share <= float(fullest(*single(rows, ranks, share, dispersion))) <= ranks


def test_fewer_rows_a_larger_share_and_more_dispersion_are_never_less_full():
    def of(rows, share, dispersion):
        return float(fullest(*single(rows, 16, share, dispersion)))

    rows = np.geomspace(0.1, 1e6, 30)
    for share, dispersion in itertools.product((1.0, 1.3, 4.0), (0.0, 0.5, 2.0)):
        found = [of(n, share, dispersion) for n in rows]
        assert all(b <= a * (1 + 1e-5) for a, b in itertools.pairwise(found))
    for n in (1.0, 30.0, 1e4):
        for values in ([of(n, s, 1.0) for s in np.linspace(1, 16, 20)],):
            assert all(b >= a * (1 - 1e-5) for a, b in itertools.pairwise(values))
        values = [of(n, 1.4, d) for d in np.linspace(0, 4, 20)]
        assert all(b >= a * (1 - 1e-5) for a, b in itertools.pairwise(values))


# ---- active experts


@pytest.mark.parametrize("variation", [0.05, 0.5, 1.4, 5.5])
@pytest.mark.parametrize("tokens", [1, 16, 256, 4096])
def test_active_experts_of_gamma_popularities(variation, tokens):
    popular = RNG.gamma(1 / variation, variation, size=400_000)
    each = -tokens * np.log1p(-1 / 128)  # top-1 of 128
    direct = np.mean(-np.expm1(-each * popular))
    found = float(active_share(*single(tokens, 1, 128, variation)))
    assert found == pytest.approx(direct, rel=0.01)


@pytest.mark.parametrize(("experts", "used"), [(256, 8), (8, 2), (128, 1), (1, 1)])
def test_without_variation_active_experts_are_those_of_uniform_routing(experts, used):
    for tokens in (1.0, 10.0, 1e3, 1e6):
        even = 1 - (1 - used / experts) ** tokens
        found = float(active_share(*single(tokens, used, experts, 0.0)))
        assert found == pytest.approx(even, rel=2e-5)


# ---- power laws


@pytest.mark.parametrize("experts", [2, 8, 64, 256])
@pytest.mark.parametrize("spread", [0.0, 0.3, 0.5, 0.8, 1.0, 1.2, 2.0, 3.0])
def test_power_laws_by_their_sums(experts, spread):
    popular = np.arange(1, experts + 1.0) ** -spread
    popular /= popular.sum()
    found = most_popular(*single(spread, experts))
    assert float(found) == pytest.approx(popular[0], rel=1e-3)
    variation = experts * (popular**2).sum() - 1
    found = variation_of_power(*single(spread, experts))
    assert float(found) == pytest.approx(variation, rel=2e-3, abs=1e-5)


@pytest.mark.parametrize(("experts", "ranks"), [(64, 8), (256, 8), (256, 32), (128, 64), (512, 8)])
@pytest.mark.parametrize("spread", [0.0, 0.1, 0.3, 0.5, 0.8, 1.2])
def test_the_fullest_rank_of_a_power_law_is_that_of_random_placements(experts, ranks, spread):
    popular = np.arange(1, experts + 1.0) ** -spread
    popular /= popular.sum()
    placed = [RNG.permutation(popular).reshape(ranks, -1).sum(axis=1).max() for _ in range(600)]
    law = PowerLaw(np.float32(spread))
    found = float(law.excess(*single(1e4, experts, ranks)))
    assert found == pytest.approx(ranks * np.mean(placed), rel=0.045)


# ---- derivatives


@pytest.mark.parametrize(
    ("of", "numbers"),
    [
        (fullest, (100.0, 8.0, 1.3, 1.2)),
        (fullest, (0.5, 64.0, 4.0, 1.2)),
        (active_share, (100.0, 8.0, 256.0, 0.7)),
        (active_share, (100.0, 8.0, 256.0, 0.01)),
        (most_popular, (0.7, 256.0)),
        (most_popular, (1.0, 256.0)),
        (variation_of_power, (0.5, 64.0)),
        (variation_of_power, (1.5, 64.0)),
    ],
)
def test_derivatives_are_those_of_differences(of, numbers):
    with jax.enable_x64(True):
        here = [jnp.asarray(x) for x in numbers]
        slopes = jax.grad(of, argnums=tuple(range(len(here))))(*here)
        for at, slope in enumerate(slopes):
            step = 1e-5 * numbers[at]
            up, down = (of(*here[:at], here[at] + h, *here[at + 1 :]) for h in (step, -step))
            assert float(slope) == pytest.approx(float(up - down) / (2 * step), rel=1e-4, abs=1e-9)


@pytest.mark.parametrize(
    ("of", "numbers"),
    [
        (fullest, (100.0, 8.0, 1.0, 1.0)),
        (fullest, (1e-3, 1.0, 1.0, 0.0)),
        (fullest, (1e9, 64.0, 64.0, 0.0)),
        (fullest, (100.0, 8.0, 8.0, 1.0)),
        (active_share, (1.0, 1.0, 1.0, 0.0)),
        (active_share, (1e6, 8.0, 8.0, 5.0)),
        (most_popular, (0.0, 2.0)),
        (variation_of_power, (0.0, 256.0)),
    ],
)
def test_derivatives_are_finite_at_the_ends(of, numbers):
    slopes = jax.grad(of, argnums=tuple(range(len(numbers))))(*map(jnp.asarray, numbers))
    assert all(bool(jnp.isfinite(slope)) for slope in slopes)
