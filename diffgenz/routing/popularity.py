"""How unequal the popularity of experts is, and how alike two popularities are."""

import numpy as np


def gini(counts: np.ndarray) -> np.ndarray:
    """The Gini coefficient of counts: 0 if all are equal, 1 - 1/n if one has all; [...].

    It is the mean difference of two experts over twice the mean (Gini, 1912), and NaN where nothing
    was counted.

    Arguments:
        counts: [..., n], at least 0; or their shares.
    """
    n = counts.shape[-1]
    total = counts.sum(-1, dtype=np.float64)
    over = np.sort(counts, axis=-1) @ (2.0 * np.arange(1, n + 1) - n - 1)
    return np.divide(over, n * total, out=np.full_like(over, np.nan), where=total > 0)


def pearson(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pearson's correlation over the last axis, [...]; NaN where one of the two does not vary.

    Arguments:
        first, second: [..., n]; counts or shares.
    """
    a, b = (x - x.mean(-1, keepdims=True) for x in (first, second))
    norm = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    over = (a * b).sum(-1)
    return np.divide(over, norm, out=np.full_like(over, np.nan), where=norm > 0)
