"""How a number that is not known for sure is distributed.

lognormal(2048, 0.5)      a median, and the standard deviation of the logarithm
normal(3.35e12, 0.1e12)   a mean and a standard deviation
uniform(0.06, 0.16)       anything between two bounds; log_uniform so in its logarithm
values(1024, 2048, 8192)  one of these, equally likely
"""

from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from diffgenz.core.errors import InputError
from diffgenz.core.sections import Section, quantity
from diffgenz.studies.optimize.quadratic import Numbers
from diffgenz.studies.sweep.axes import Grid, Range
from diffgenz.studies.sweep.axes import log_uniform as log_uniform
from diffgenz.studies.sweep.axes import uniform as uniform
from diffgenz.studies.sweep.axes import values as values


class LogNormal(NamedTuple):
    """A number above 0 whose logarithm is normal.

    Arguments:
        median: in SI.
        width: the standard deviation of the logarithm: 0.5 says that it is within a factor of
            exp(0.5) = 1.65 of the median two times out of three.
    """

    median: float
    width: float


class Normal(NamedTuple):
    """A normal number.

    Arguments:
        mean: in SI.
        deviation: the standard deviation, in SI.
    """

    mean: float
    deviation: float


Distribution = LogNormal | Normal | Range | Grid
"""Also everything between two bounds (`uniform`, `log_uniform`), and `values`, equally likely."""

KINDS = {
    "lognormal": "lognormal = 2048, width = 0.5",
    "normal": "normal = 2048, deviation = 100",
    "uniform": "uniform = [1024, 4096]",
    "log_uniform": "log_uniform = [1024, 4096]",
    "values": "values = [1024, 2048, 4096]",
}
"""The words of a file, each with an example."""

_MORE = {"lognormal": "width", "normal": "deviation"}


def lognormal(median: float, width: float) -> LogNormal:
    """A number above 0 whose logarithm is normal.

    Arguments:
        median: in SI, above 0.
        width: the standard deviation of the logarithm, at least 0.
    """
    if not (np.isfinite(median) and median > 0):
        raise InputError(f"lognormal: a median of {median:g} has no logarithm; give one above 0")
    _check_width("lognormal: a width", width)
    return LogNormal(float(median), float(width))


def normal(mean: float, deviation: float) -> Normal:
    """A normal number.

    Arguments:
        mean: in SI.
        deviation: the standard deviation, at least 0, in SI.
    """
    if not np.isfinite(mean):
        raise InputError(f"normal: a mean of {mean:g} is not allowed; give a finite one")
    _check_width("normal: a deviation", deviation)
    return Normal(float(mean), float(deviation))


def _check_width(what: str, width: float) -> None:
    if not (np.isfinite(width) and width >= 0):
        raise InputError(f"{what} of {width:g} is not allowed; give one of at least 0")


def quantiles(distribution: Distribution, shares: Numbers) -> Numbers:
    """The numbers below which these shares lie.

    Arguments:
        distribution: of the number.
        shares: between 0 and 1.
    """
    match distribution:
        case LogNormal(median, width):
            return median * np.exp(width * ndtri(shares))
        case Normal(mean, deviation):
            return mean + deviation * ndtri(shares)
        case Range(low, high, True):
            return low * (high / low) ** shares
        case Range(low, high):
            return low + (high - low) * shares
        case Grid(levels):
            places = np.minimum((shares * len(levels)).astype(int), len(levels) - 1)
            return np.sort(np.asarray(levels, float))[places]


def middle(distribution: Distribution) -> float:
    """The median, which stands for the number where nothing is drawn."""
    return float(quantiles(distribution, np.array([0.5]))[0])


def distribution_of(section: Section, unit: str) -> Distribution:
    """The distribution that a table states: { lognormal = 2048, width = 0.5 }.

    Arguments:
        section: the table.
        unit: of the number, SI.

    Raises:
        InputError: it states none, several, or what cannot be used.
    """
    kinds = [kind for kind in KINDS if kind in section.raw]
    if len(kinds) != 1:
        said = " and ".join(kinds) or "no distribution"
        raise InputError(
            f"{section.place}: has {said}; write one of {', '.join(KINDS)}, such as "
            f"{{ {KINDS[kinds[0] if kinds else 'lognormal']} }}"
        )
    kind = kinds[0]
    more = _MORE.get(kind)
    known = Section(section.place, section.raw, (kind,) if more is None else (kind, more))
    example = f"{{ {KINDS[kind]} }}"
    if more is not None:
        if more not in known.raw:
            raise InputError(f"{section.place}: {more} is missing; write {example}")
        if isinstance(known.raw[kind], list):
            raise InputError(f"{section.place}: {kind} is of one number; write {example}")
        center = quantity(known.at(kind), known.raw[kind], unit)
        width = quantity(known.at(more), known.raw[more], unit if kind == "normal" else "1")
        return lognormal(center, width) if kind == "lognormal" else normal(center, width)
    numbers = [quantity(known.at(kind), value, unit) for value in known.entries(kind)]
    if kind == "values":
        return values(*numbers)
    if len(numbers) != 2:
        raise InputError(
            f"{section.place}: {kind} has {len(numbers)} bounds, not 2; write {example}"
        )
    return (uniform if kind == "uniform" else log_uniform)(*numbers)
