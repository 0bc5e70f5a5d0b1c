"""Drawing without replacement in proportion to weights: the k largest of noisy logarithms.

Gumbel noise on the logarithms of weights makes the largest one a draw in proportion to the weights,
and the k largest ones k draws without replacement (Gumbel, 1954; Yellott, 1977).
"""

import numpy as np


def gumbel(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Standard Gumbel noise, -ln(-ln u): [rows, columns], float32.

    Of u close to 1, which gives the largest values, only 1 - u is made, so that float32 resolves
    them.

    Arguments:
        rng: where random numbers come from.
        rows, columns: how many numbers, at least 0 each.
    """
    words = (rows * columns + 1) // 2
    bits = rng.integers(0, 2**64, words, dtype=np.uint64).view(np.uint32)[: rows * columns]
    noise = bits.astype(np.float32)
    noise += np.float32(0.5)
    noise *= np.float32(-(2.0**-32))
    np.maximum(noise, np.float32(-1 + 2.0**-24), out=noise)  # a whole turn of rounding is u = 0
    np.log1p(noise, out=noise)
    np.negative(noise, out=noise)
    np.log(noise, out=noise)
    np.negative(noise, out=noise)
    return noise.reshape(rows, columns)


def top(values: np.ndarray, k: int) -> np.ndarray:
    """The columns of the k largest values of each row: [rows, k], ascending.

    Arguments:
        values: [rows, columns].
        k: how many, from 1 to the number of columns.
    """
    rows, columns = values.shape
    if k == columns:
        return np.tile(np.arange(columns), (rows, 1))
    if k == 1:
        return values.argmax(1)[:, None]
    least = np.partition(values, columns - k, axis=1)[:, columns - k, None]
    found = np.flatnonzero(values >= least)
    if len(found) != rows * k:  # equal values
        return np.sort(np.argpartition(values, columns - k, axis=1)[:, columns - k :], axis=1)
    return (found % columns).reshape(rows, k)


def top_of_groups(values: np.ndarray, k: int, groups: int, used: int) -> np.ndarray:
    """The columns of the k largest values of each row's best groups: [rows, k], ascending.

    Groups are of neighbouring columns, and a group is as good as the sum of its two best values: so
    DeepSeek-V3 limits the groups of experts that a token goes to (arXiv 2412.19437, section 2.1.2,
    and the `noaux_tc` gate of its published code).

    Arguments:
        values: [rows, columns].
        k: how many, from 1 to the number of columns in the groups used.
        groups: how many groups of equally many columns, at least two columns each.
        used: how many groups the k are chosen from, from 1 to `groups`.
    """
    if used == groups:
        return top(values, k)
    rows, columns = values.shape
    width = columns // groups
    parts = values.reshape(rows, groups, width)
    scores = np.partition(parts, width - 2, axis=2)[:, :, width - 2 :].sum(2)
    best = top(scores, used)
    kept = parts[np.arange(rows)[:, None], best].reshape(rows, used * width)
    found = top(kept, k)
    return np.take_along_axis(best, found // width, axis=1) * width + found % width
