"""Formulas give the slopes that differences give, whatever they are made of."""

import numpy as np
import pytest

from diffgenz.studies.expressions import Expression
from diffgenz.studies.optimize.duals import Dual

FORMULAS = (
    "a + 2 * b - a / b",
    "-a * b ** 2 + 3 ** a",
    "a ** b",
    "log(a) * exp(b / 3) - sqrt(a * b)",
    "max(a, b) + min(a, 2, b)",
    "abs(a - b) / (1 + abs(b - 5))",
    "floor(a) * b + ceil(b)",
)


@pytest.mark.parametrize("text", FORMULAS)
def test_slopes_are_those_of_differences(text):
    formula, step = Expression(text), 1e-6
    a, b = np.random.default_rng(0).uniform(1.1, 2.9, (2, 16))
    one, none = np.ones(16), np.zeros(16)
    names = {"a": Dual(a, np.stack([one, none])), "b": Dual(b, np.stack([none, one]))}
    found = formula(names.__getitem__)

    def at(a, b):
        return formula({"a": a, "b": b}.__getitem__)

    np.testing.assert_allclose(found.value, at(a, b), rtol=1e-14)
    slopes = (at(a + step, b) - at(a - step, b), at(a, b + step) - at(a, b - step))
    np.testing.assert_allclose(
        np.broadcast_to(found.slopes, (2, 16)), np.array(slopes) / (2 * step), atol=1e-7
    )


def test_equal_numbers_share_the_slope_of_their_maximum():
    """As differences have it, and JAX."""
    number = Dual(np.array([2.0]), np.array([[1.0]]))
    assert np.maximum(number, 2.0).slopes == 0.5
    assert np.minimum(2.0, number).slopes == 0.5


def test_comparisons_have_no_slopes():
    number = Dual(np.array([1.0, 3.0]), np.ones((1, 2)))
    assert (number <= 2.0).tolist() == [True, False]
