import itertools

import numpy as np
import pytest

from diffgenz.routing.gumbel import gumbel, top, top_of_groups


def test_noise_has_the_moments_and_the_tail_of_the_gumbel_distribution():
    noise = gumbel(np.random.default_rng(0), 1000, 4000).astype(float)
    count = noise.size
    assert np.isfinite(noise).all()
    assert noise.mean() == pytest.approx(np.euler_gamma, abs=4 * 1.283 / np.sqrt(count))
    assert noise.var() == pytest.approx(np.pi**2 / 6, abs=4 * 3.5 / np.sqrt(count))
    for level in (6, 10):
        expected = -np.expm1(-np.exp(-level)) * count
        assert abs((noise > level).sum() - expected) < 4 * np.sqrt(expected)


@pytest.mark.parametrize(("rows", "columns"), [(0, 5), (1, 1), (3, 5)])
def test_noise_of_any_shape(rows, columns):
    assert gumbel(np.random.default_rng(0), rows, columns).shape == (rows, columns)


@pytest.mark.parametrize("k", [1, 2, 5, 9, 10])
def test_the_top_columns_are_those_of_a_full_sort(k):
    values = np.random.default_rng(0).standard_normal((200, 10)).astype(np.float32)
    assert (top(values, k) == np.sort(np.argsort(-values, axis=1)[:, :k], axis=1)).all()


def test_equal_values_still_give_k_different_columns():
    values = np.array([[1, 1, 1, 0], [0, 2, 1, 1]], np.float32)
    found = top(values, 2)
    assert [len(set(row)) for row in found] == [2, 2]
    assert (np.take_along_axis(values, found, 1).sum(1) == [2, 3]).all()


def test_choices_are_draws_without_replacement_in_proportion_to_weights():
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    rows = 400_000
    values = gumbel(np.random.default_rng(1), rows, 4) + np.log(weights).astype(np.float32)
    found = top(values, 2)
    for first, second in itertools.combinations(range(4), 2):
        p, q = weights[first], weights[second]
        expected = p * q / (1 - p) + q * p / (1 - q)
        share = ((found[:, 0] == first) & (found[:, 1] == second)).mean()
        assert share == pytest.approx(expected, abs=4 * np.sqrt(expected / rows))


@pytest.mark.parametrize(("groups", "used", "k"), [(4, 2, 3), (4, 1, 3), (2, 1, 4), (3, 3, 5)])
def test_a_limit_keeps_the_groups_whose_two_best_sum_highest(groups, used, k):
    values = np.random.default_rng(0).standard_normal((100, 12)).astype(np.float32)
    width = 12 // groups
    for row, found in zip(values, top_of_groups(values, k, groups, used), strict=True):
        parts = row.reshape(groups, width)
        best = np.argsort(-np.sort(parts, axis=1)[:, -2:].sum(1))[:used]
        inside = [column for column in range(12) if column // width in best]
        assert list(found) == sorted(sorted(inside, key=lambda column: -row[column])[:k])
