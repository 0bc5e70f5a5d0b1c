"""Smooth minima and stairs of queueing formulas.

Whatever decides is written with `where`, whose condition has no derivative: that of `minimum` and
`clip` compares for equality, which compiled programs may round differently.
"""

from typing import Any

from diffgenz.core import xp

LIMITS, TAGGED, LAST_ITERATION = 24.0, 16.0, 8.0
"""Powers of `smooth_smaller`: of limits of the running requests, of what a tagged request sees, and
of the tokens of the last iteration of a prompt.

At a tie they give 2**(-1/power) of either number: 97, 96 and 92 %. They were chosen as sharp as
Newton's method and differences for derivatives still take: the tie of limits is one of a whole
engine, while in a last iteration prompts of all lengths meet.
"""


def smaller(a: Any, b: Any) -> Any:
    """The smaller of two numbers."""
    return xp.where(a < b, a, b)


def larger(a: Any, b: Any) -> Any:
    """The larger of two numbers."""
    return xp.where(a > b, a, b)


def between(x: Any, least: Any, most: Any) -> Any:
    """`x`, no less than `least` and no more than `most`."""
    return smaller(larger(x, least), most)


def smooth_smaller(a: Any, b: Any, power: float) -> Any:
    """The smaller of two positive numbers, rounded off: (a**-p + b**-p)**(-1/p)."""
    least, most = smaller(a, b), larger(a, b)
    return least * xp.exp(-xp.log1p(xp.exp(power * xp.log(least / most))) / power)


def softplus(x: Any) -> Any:
    """ln(1 + e^x), the integral of `sigmoid`."""
    return xp.where(x > 0, x, 0.0) + xp.log1p(xp.exp(xp.where(x > 0, -x, x)))


def smooth_stairs(x: Any, width: Any) -> Any:
    """ceil(x) with steps that are as wide as x varies.

    Arguments:
        x: positive.
        width: of a step; at most 0.12 and x / 6 of it count.
    """
    floor = xp.stop_gradient(xp.floor(x))
    width = smaller(smaller(width, 0.12), x / 6)
    past = x - floor
    return floor + xp.sigmoid(past / width) + xp.sigmoid((past - 1) / width)
