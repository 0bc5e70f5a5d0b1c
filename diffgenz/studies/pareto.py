"""Exact Pareto fronts, and the few strong points that dismiss most of a batch on the device.

Everything is minimised. Of equal points the one of the lowest index stays, so that a front depends
on nothing but the set that it is of.
"""

from bisect import bisect_right
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

STRONG = (16, 64, 256)
"""Numbers of points that screen a batch on the device: as few as are enough."""

_BLOCK = 256  # points that are compared with the front at once
_SAMPLE = 2048  # points of a front among which the strongest are looked for


class Front(NamedTuple):
    """Points that no other beats, in lexicographic order of their objectives.

    Arguments:
        indices: what they are called, int64, shape (points,).
        points: their objectives, shape (points, objectives).
    """

    indices: np.ndarray
    points: np.ndarray

    @classmethod
    def empty(cls, objectives: int) -> "Front":
        """The front of no points."""
        return cls(np.zeros(0, np.int64), np.zeros((0, objectives), np.float32))


def front_of(indices: np.ndarray, points: np.ndarray) -> Front:
    """The Pareto front of some points.

    It takes O(n log n) for two and three objectives, O(n x front) for more. In lexicographic order
    no point beats an earlier one, so that one pass is enough.

    Arguments:
        indices: shape (n,).
        points: their objectives, shape (n, objectives).
    """
    order = np.lexsort((indices, *points.T[::-1]))
    indices, points = indices[order], points[order]
    objectives = points.shape[1]
    kept = {2: _pairs, 3: _triples}.get(objectives, _blocks)(points)
    return Front(indices[kept], points[kept])


def _pairs(points: np.ndarray) -> np.ndarray:
    """Which points are lower in the second objective than all before them."""
    before = np.concatenate([[np.inf], np.minimum.accumulate(points[:, 1])[:-1]])
    return np.flatnonzero(points[:, 1] < before)


def _triples(points: np.ndarray) -> np.ndarray:
    """Which points no earlier one covers in the second and third objective.

    The points seen form a staircase, along which the second rises and the third falls.
    """
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
        block = points[start : start + _BLOCK]
        own = np.arange(start, start + len(block))
        left = ~_covers(block, kept).any(axis=-1)
        block, own = block[left], own[left]
        alive = ~np.tril(_covers(block, block), -1).any(axis=-1)
        kept = np.concatenate([kept, block[alive]])
        numbers = np.concatenate([numbers, own[alive]])
    return numbers


def _covers(points: np.ndarray, front: np.ndarray) -> np.ndarray:
    """Which of `front` (columns) are no worse anywhere than which of `points` (rows)."""
    covers = np.ones((len(points), len(front)), bool)
    for objective in range(points.shape[1]):
        covers &= front[None, :, objective] <= points[:, None, objective]
    return covers


def strongest(front: np.ndarray, sample: np.ndarray, count: int) -> np.ndarray:
    """The points of a front that together beat most of a sample, found greedily.

    Arguments:
        front: shape (points, objectives).
        sample: shape (n, objectives).
        count: how many are wanted.

    Returns:
        float32, shape (count, objectives). Where fewer are found, the others are infinite: they
        beat nothing.
    """
    padded = np.full((count, front.shape[1]), np.inf, np.float32)
    candidates = front
    if len(front) > _SAMPLE:
        candidates = front[np.linspace(0, len(front) - 1, _SAMPLE).astype(int)]
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
    """Which configurations no strong point beats in every objective.

    Arguments:
        points: their objectives, an array for each.
        strong: shape (points, objectives).
    """
    alive = jnp.ones(points[0].shape, bool)
    for number in range(strong.shape[0]):
        worse = strong[number, 0] < points[0]
        for objective in range(1, strong.shape[1]):
            worse = worse & (strong[number, objective] < points[objective])
        alive = alive & ~worse
    return alive
