"""Bisection on a logarithmic scale, of numbers that are known to an order of magnitude."""

from collections.abc import Callable
from typing import Any

from diffgenz.core import xp


def last_where(holds: Callable[[Any], Any], low: Any, high: Any, steps: int) -> Any:
    """Up to which numbers a condition holds, constant under differentiation.

    Arguments:
        holds: whether it holds of a number, or of each of several; below the answer it does, and
            above it does not.
        low: at most the answer, above 0; of any shape.
        high: at least the answer, in the same shape.
        steps: each takes the square root of the ratio by which the answer is uncertain.
    """

    def halved(ends: tuple[Any, Any]) -> tuple[Any, Any]:
        low, high = ends
        middle = xp.sqrt(low * high)
        good = holds(middle)
        return xp.where(good, middle, low), xp.where(good, high, middle)

    low, high = xp.repeated(halved, (low, high), steps)
    return xp.stop_gradient(xp.sqrt(low * high))
