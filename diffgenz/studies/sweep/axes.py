"""The axes of a space: which values a number takes.

    geometric(1e12, 16e12, 200)          a grid: 200 values, each in turn
    log_uniform(1e12, 16e12)             a range: sampled
    values(1, 2, 4, 8).sampled()         a grid of which each configuration draws one
    choice({"H100": h100, "H200": h200}) whole records, by name

Grids are enumerated: a space has every combination of all of them. Ranges, and axes that are
`sampled()`, draw from a Sobol sequence.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from diffgenz.core.errors import InputError

MOST_LEVELS = 2**20
"""Values of one grid axis: what the device decodes exactly in float32."""


@dataclasses.dataclass(frozen=True)
class Grid:
    """Numbers, in order.

    Arguments:
        levels: the numbers.
        drawn: whether they are sampled rather than enumerated.

    Raises:
        InputError: no numbers, too many (`MOST_LEVELS`), one that is not finite in float32, or two
            that are the same number there.
    """

    levels: tuple[float, ...]
    drawn: bool = False

    def __post_init__(self):
        if not self.levels:
            raise InputError("axis: it has no values; give at least one")
        _check_count(len(self.levels))
        exact = np.unique(np.asarray(self.levels))
        with np.errstate(over="ignore"):
            single = exact.astype(np.float32)
        if not np.isfinite(single).all():
            raise InputError(
                "axis: a value is infinite, NaN or too large for float32; give finite ones"
            )
        same = np.flatnonzero(single[1:] == single[:-1])
        if len(same):
            low, high = exact[same[0]], exact[same[0] + 1]
            raise InputError(
                f"axis: {low!r} and {high!r} are the same number in float32; "
                "give values further apart"
            )

    def sampled(self) -> Self:
        """The same values, of which each configuration draws one."""
        return dataclasses.replace(self, drawn=True)


@dataclasses.dataclass(frozen=True)
class Range:
    """Everything between two bounds; always sampled.

    Arguments:
        low: the lower bound.
        high: the upper bound.
        logarithmic: whether it is uniform in the logarithm rather than in the number itself.
    """

    low: float
    high: float
    logarithmic: bool


@dataclasses.dataclass(frozen=True)
class Choice:
    """Whole records, or several numbers at once, by label: accelerators, models, plans.

    Arguments:
        options: by label.
        drawn: whether they are sampled rather than enumerated.

    Raises:
        InputError: no options.
    """

    options: Mapping[str, Any]
    drawn: bool = False

    def __post_init__(self):
        if not self.options:
            raise InputError("axis: a choice has no options; give at least one")

    def sampled(self) -> Self:
        """The same options, of which each configuration draws one."""
        return dataclasses.replace(self, drawn=True)


Axis = Grid | Range | Choice


def values(*numbers: float) -> Grid:
    """These numbers."""
    return Grid(tuple(float(x) for x in numbers))


def linear(low: float, high: float, count: int) -> Grid:
    """`count` numbers from `low` to `high`, equally far apart."""
    _check_bounds(low, high, count)
    return Grid(tuple(np.linspace(low, high, count).tolist()))


def geometric(low: float, high: float, count: int) -> Grid:
    """`count` numbers from `low` to `high`, each the same multiple of the one before."""
    _check_bounds(low, high, count)
    _check_positive(low)
    return Grid(tuple(np.geomspace(low, high, count).tolist()))


def integers(low: int, high: int, step: int = 1) -> Grid:
    """Every `step`th whole number from `low` to `high`, both included."""
    for bound in (low, high, step):
        if bound != int(bound):
            raise InputError(f"axis: {bound:g} is not a whole number; use linear")
    if step < 1:
        raise InputError(f"axis: a step of {step} is not allowed; it must be at least 1")
    _check_bounds(low, high)
    numbers = range(int(low), int(high) + 1, int(step))
    _check_count(len(numbers))
    return Grid(tuple(float(x) for x in numbers))


def uniform(low: float, high: float) -> Range:
    """Anything from `low` to `high`, sampled uniformly."""
    _check_bounds(low, high)
    return Range(low, high, logarithmic=False)


def log_uniform(low: float, high: float) -> Range:
    """Anything from `low` to `high`, sampled uniformly in its logarithm."""
    _check_bounds(low, high)
    _check_positive(low)
    return Range(low, high, logarithmic=True)


def choice(options: Mapping[str, Any]) -> Choice:
    """One of several options, by label.

    Arguments:
        options: each a record that replaces what is at the axis's name, or a mapping from names to
            the numbers and records there.
    """
    return Choice(dict(options))


def _check_bounds(low: float, high: float, count: int = 2) -> None:
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(f"axis: bounds of {low:g} and {high:g} are not allowed; give finite ones")
    if count < 1:
        raise InputError(f"axis: a count of {count} is not allowed; it must be at least 1")
    _check_count(count)
    if low > high:
        raise InputError(
            f"axis: the lower bound {low:g} exceeds the upper bound {high:g}; exchange them"
        )


def _check_count(count: int) -> None:
    if count > MOST_LEVELS:
        raise InputError(
            f"axis: {count} values are too many; at most {MOST_LEVELS}, or a range that is sampled"
        )


def _check_positive(low: float) -> None:
    if low <= 0:
        raise InputError(
            f"axis: a lower bound of {low:g} has no logarithm; "
            "give one above 0, or use a linear axis"
        )
