"""A statistic per layer: its value, its interval, and what its null gives.

Requests are the units that vary: tokens of a request resemble each other, so that their number says
little of how sure a statistic is. Requests are put into groups at random, each of its own where
there are few, and the groups are drawn again with replacement (a bootstrap); the interval is what
2.5 to 97.5 % of the draws deviate from their mean, around the value.
"""

import dataclasses
from typing import Any

import numpy as np

DRAWS = 200
"""How often groups of requests are drawn again."""


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """A statistic of each layer.

    Arguments:
        value: [layers].
        low, high: [layers]; the 95 % interval. NaN where there are fewer than two requests.
        null: [layers]; the same of a trace without the structure that the statistic is of. NaN
            where there is none.
        mean_low, mean_high: the interval of the mean over layers.
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    null: np.ndarray
    mean_low: float
    mean_high: float

    @property
    def mean(self) -> float:
        """The mean over layers, of those that have a value."""
        return _mean(self.value)

    @property
    def mean_null(self) -> float:
        """The mean of the null over layers."""
        return _mean(self.null)

    def data(self) -> dict[str, Any]:
        """It as JSON: None where there is no number."""
        return {
            "mean": _number(self.mean),
            "mean_interval": [_number(self.mean_low), _number(self.mean_high)],
            "mean_null": _number(self.mean_null),
            "value": [_number(v) for v in self.value],
            "low": [_number(v) for v in self.low],
            "high": [_number(v) for v in self.high],
            "null": [_number(v) for v in self.null],
        }


def measured(value: np.ndarray, draws: np.ndarray | None, null: Any = np.nan) -> Measured:
    """A statistic with its interval.

    Arguments:
        value: [layers].
        draws: [draws, layers]; the statistic of requests drawn again; None: there are too few.
        null: [layers], or one for all.
    """
    value = np.asarray(value, np.float64)
    nothing = np.full(value.shape, np.nan)
    null = np.broadcast_to(np.asarray(null, np.float64), value.shape)
    if draws is None or len(draws) < 2:
        return Measured(value, nothing, nothing, null, np.nan, np.nan)
    low, high = np.nanpercentile(_known(draws - _means(draws, 0)), [2.5, 97.5], axis=0)
    over = _means(draws, 1)
    ends = np.nanpercentile(_known(over - _means(over, 0)), [2.5, 97.5])
    mean = _mean(value)
    return Measured(
        value, value + low, value + high, null, float(mean + ends[0]), float(mean + ends[1])
    )


def mean_of(every: list[Measured]) -> Measured:
    """The mean of several; its interval is the mean of theirs, which is on the safe side.

    Arguments:
        every: at least one.
    """

    def mean(name: str) -> np.ndarray:
        return np.mean([getattr(each, name) for each in every], axis=0)

    return Measured(
        mean("value"),
        mean("low"),
        mean("high"),
        mean("null"),
        float(np.mean([each.mean_low for each in every])),
        float(np.mean([each.mean_high for each in every])),
    )


def redrawn(groups: np.ndarray, rng: np.random.Generator, draws: int = DRAWS) -> np.ndarray | None:
    """How often each group is drawn, in each draw: [draws, groups], float64.

    Arguments:
        groups: [groups]; what each has, such as tokens; those that have 0 are never drawn.
        rng: of the draws.
        draws: how many.

    Returns:
        None where fewer than two groups have tokens.
    """
    some = np.flatnonzero(groups)
    if len(some) < 2:
        return None
    out = np.zeros((draws, len(groups)))
    out[:, some] = rng.multinomial(len(some), np.full(len(some), 1 / len(some)), size=draws)
    return out


def _means(values: np.ndarray, axis: int) -> Any:
    """Means of the numbers among values; NaN where there is none."""
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(axis)
    with np.errstate(invalid="ignore"):
        return total / known.sum(axis)


def _mean(values: np.ndarray) -> float:
    """The mean of the numbers among values."""
    return float(_means(np.asarray(values), 0))


def _known(values: np.ndarray) -> np.ndarray:
    """The values, with 0 for columns that have no number (which then have no interval)."""
    return np.where(np.isfinite(values), values, 0)


def _number(value: float) -> float | None:
    """A number of JSON."""
    return float(value) if np.isfinite(value) else None
