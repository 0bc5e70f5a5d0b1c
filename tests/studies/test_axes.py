"""Axes of a space: what they refuse."""

import inspect
import math

import pytest

from diffgenz import InputError, axes


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: axes.values(), "no values; give at least one"),
        (lambda: axes.values(1, math.nan), "infinite, NaN"),
        (lambda: axes.values(1, 1e39), "too large for float32"),
        (
            lambda: axes.integers(2**24, 2**24 + 2),
            "16777216.* and .*16777217.* are the same number in float32",
        ),
        (lambda: axes.integers(1, 2**40), f"{2**40} values are too many; at most 1048576"),
        (lambda: axes.linear(0, 1, 2**40), "values are too many"),
        (lambda: axes.linear(0, 1, 0), "a count of 0 is not allowed; it must be at least 1"),
        (
            lambda: axes.linear(2, 1, 5),
            "the lower bound 2 exceeds the upper bound 1; exchange them",
        ),
        (lambda: axes.geometric(0, 1, 5), "a lower bound of 0 has no logarithm; give one above 0"),
        (lambda: axes.log_uniform(-1, 1), "has no logarithm"),
        (
            lambda: axes.uniform(0, math.inf),
            "bounds of 0 and inf are not allowed; give finite ones",
        ),
        (lambda: axes.integers(1, 5, 0), "a step of 0 is not allowed"),
        (lambda: axes.choice({}), "a choice has no options; give at least one"),
    ],
)
def test_bad_axes_are_refused(build, message):
    with pytest.raises(InputError, match=rf"^axis: .*{message}"):
        build()


def test_fractional_bounds_of_integers_are_refused():
    with pytest.raises(InputError, match="1.5 is not a whole number; use linear"):
        inspect.unwrap(axes.integers)(1.5, 4)  # past the run-time type check
