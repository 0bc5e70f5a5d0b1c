"""Parts of forms whose terms may be absent (`Form.without`): constants compile nothing."""

from typing import Any

from diffgenz.core import xp
from diffgenz.kernels.shapes import Number


def smaller(a: Number, b: Number) -> Number:
    """The smaller of two numbers, whose derivative is that of the one that is."""
    return xp.where(b < a, b, a)


def choose(condition: Any, value: Any, other: Any) -> Number:
    """`value` where the condition holds, else `other`; simply that, where both are one constant."""
    if isinstance(value, float) and isinstance(other, float) and value == other:
        return value
    return xp.where(condition, value, other)


def blend(value: Any, other: Any, share: Number) -> Number:
    """From `value` (share 0) to `other` (share 1); simply that, where both are one constant."""
    if isinstance(value, float) and isinstance(other, float) and value == other:
        return value
    return value + (other - value) * share
