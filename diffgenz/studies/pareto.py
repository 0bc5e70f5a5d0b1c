"""Exact Pareto fronts: merging them, and the few strong points that dismiss most of a batch before it leaves the device.

Everything is minimised. Of equal points the one of the lowest index stays, so that a front depends on nothing but the set it is of.
"""

from bisect import bisect_right
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

STRONG = (16, 64, 256)
"""Points that screen a batch on the device: as few as do."""

_BLOCK = 256
_SAMPLE = 2048


class Front(NamedTuple):
    """Points that no other beats: indices (points,) as Python's int64, and objectives (points, objectives), in lexicographic order."""

    indices: np.ndarray
    points: np.ndarray

    @classmethod
    def empty(cls, objectives: int) -> "Front":
        """No points."""
        return cls(np.zeros(0, np.int64), np.zeros((0, objectives), np.float32))


def front_of(indices: np.ndarray, points: np.ndarray) -> Front:
    """The Pareto front of `points` (n, objectives): O(n log n) for two and three objectives, O(n x front) for more.

    In lexicographic order no point beats an earlier one, so that one pass is enough.
    """
    order = np.lexsort((indices, *points.T[::-1]))
    indices, points = indices[order], points[order]
    objectives = points.shape[1]
    kept = (
        _pairs(points)
        if objectives == 2
        else _triples(points)
        if objectives == 3
        else _blocks(points)
    )
    return Front(indices[kept], points[kept])


def _pairs(points: np.ndarray) -> np.ndarray:
    """Which points are lower in the second objective than all before them."""
    before = np.concatenate([[np.inf], np.minimum.accumulate(points[:, 1])[:-1]])
    return np.flatnonzero(points[:, 1] < before)


def _triples(points: np.ndarray) -> np.ndarray:
    """Which points no earlier one covers in the second and third objective: a staircase of those seen, the one rising, the other falling."""
    kept, seconds, thirds = [], [], []
    for number, (second, third) in enumerate(points[:, 1:].tolist()):
        at = bisect_right(seconds, second)
        if at and thirds[at - 1] <= third:
            continue
        kept.append(number)
        stop = at
        while stop < len(thirds) and thirds[stop] >= third:
            stop += 1
        seconds[at:stop], thirds[at:stop] = [second], [third]
    return np.asarray(kept, np.int64)


def _blocks(points: np.ndarray) -> np.ndarray:
    """Which points no earlier one covers, block by block."""
    kept, numbers = points[:0], np.zeros(0, np.int64)
    for start in range(0, len(points), _BLOCK):
        block, names = (
            points[start : start + _BLOCK],
            np.arange(start, min(start + _BLOCK, len(points))),
        )
        left = ~_covers(block, kept).any(axis=-1)
        block, names = block[left], names[left]
        alive = ~np.tril(_covers(block, block), -1).any(axis=-1)
        kept, numbers = (
            np.concatenate([kept, block[alive]]),
            np.concatenate([numbers, names[alive]]),
        )
    return numbers


def _covers(points: np.ndarray, front: np.ndarray) -> np.ndarray:
    """Which of `front` (columns) are no worse anywhere than which of `points` (rows)."""
    covers = np.ones((len(points), len(front)), bool)
    for objective in range(points.shape[1]):
        covers &= front[None, :, objective] <= points[:, None, objective]
    return covers


def strongest(front: np.ndarray, sample: np.ndarray, count: int) -> np.ndarray:
    """The `count` points of `front` that together beat most of `sample`, found greedily; padded with points that beat nothing."""
    padded = np.full((count, front.shape[1]), np.inf, np.float32)
    candidates = (
        front
        if len(front) <= _SAMPLE
        else front[np.linspace(0, len(front) - 1, _SAMPLE).astype(int)]
    )
    if not len(candidates) or not len(sample):
        return padded
    beats = np.ones((len(candidates), len(sample)), bool)
    for objective in range(front.shape[1]):
        beats &= candidates[:, None, objective] < sample[None, :, objective]
    left = np.ones(len(sample), bool)
    for number in range(count):
        scores = beats[:, left].sum(1)
        best = int(scores.argmax())
        if not scores[best]:
            break
        padded[number] = candidates[best]
        left &= ~beats[best]
    return padded


def unbeaten(points: list[jax.Array], strong: jax.Array) -> jax.Array:
    """Which configurations none of `strong` (points, objectives) beats in every objective; `points`: an array per objective."""
    alive = jnp.ones(points[0].shape, bool)
    for number in range(strong.shape[0]):
        worse = strong[number, 0] < points[0]
        for objective in range(1, strong.shape[1]):
            worse = worse & (strong[number, objective] < points[objective])
        alive = alive & ~worse
    return alive
