"""Slopes by central differences, all in one evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffgenz.core.differences import as_double, in_double, moves, slopes


def test_slopes_are_the_derivatives():
    at = np.array([0.3, 1.1, 2.0])

    def function(x):
        return x[0] ** 2 * np.sin(x[1]) + x[2] ** 3

    found = slopes(function(at[:, None] + moves(3)), 3)
    expected = [2 * at[0] * np.sin(at[1]), at[0] ** 2 * np.cos(at[1]), 3 * at[2] ** 2]
    assert found == pytest.approx(expected, abs=2e-8)


def test_at_a_kink_they_are_the_mean_of_both_sides():
    x = np.array([[1.0], [1.0]]) + moves(2)
    assert slopes(np.maximum(x[0], x[1]), 2) == pytest.approx([0.5, 0.5])
    assert slopes(7.0, 2).tolist() == [0, 0]  # of what does not depend on them


def test_double_is_for_a_while():
    tree = as_double({"a": np.float32(1), "b": jnp.ones(2), "name": "c"})
    assert tree["a"].dtype == tree["b"].dtype == np.float64
    assert tree["name"] == "c"
    with in_double():
        assert jnp.asarray(1.0).dtype == np.float64
        assert np.float64(1e300) * 1e300 == np.inf
    assert not jax.enable_x64.value
