"""Exact Pareto fronts: merging them, and the few strong points that dismiss most of a batch before it leaves the device.

Everything is minimised. Of equal points the one of the lowest index stays, so that a front depends on nothing but the set it is of.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

STRONG = 16
"""Points that screen a batch on the device."""

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

    def merged(self, indices: np.ndarray, points: np.ndarray) -> "Front":
        """The front of this one and other points."""
        if not len(indices):
            return self
        if len(self.indices):  # most newcomers are beaten by what is there
            fresh = ~beaten(points, self.points)
            indices, points = indices[fresh], points[fresh]
        return front_of(np.concatenate([self.indices, indices]), np.concatenate([self.points, points]))


def front_of(indices: np.ndarray, points: np.ndarray) -> Front:
    """The Pareto front of `points` (n, objectives).

    In lexicographic order no point beats an earlier one, so that one pass over blocks is enough.
    """
    order = np.lexsort((indices, *points.T[::-1]))
    indices, points = indices[order], points[order]
    kept_points, kept_indices = points[:0], indices[:0]
    for start in range(0, len(points), _BLOCK):
        block, names = points[start : start + _BLOCK], indices[start : start + _BLOCK]
        left = ~_covers(block, kept_points).any(axis=-1)
        block, names = block[left], names[left]
        alive = ~np.tril(_covers(block, block), -1).any(axis=-1)
        kept_points = np.concatenate([kept_points, block[alive]])
        kept_indices = np.concatenate([kept_indices, names[alive]])
    return Front(kept_indices, kept_points)


def beaten(points: np.ndarray, front: np.ndarray) -> np.ndarray:
    """Which of `points` some point of `front` beats: no worse anywhere and better somewhere."""
    result = np.zeros(len(points), bool)
    for start in range(0, len(points), _BLOCK):
        block = points[start : start + _BLOCK]
        better = np.zeros((len(block), len(front)), bool)
        for objective in range(points.shape[1]):
            better |= front[None, :, objective] < block[:, None, objective]
        result[start : start + _BLOCK] = (better & _covers(block, front)).any(axis=-1)
    return result


def _covers(points: np.ndarray, front: np.ndarray) -> np.ndarray:
    """Which of `front` (columns) are no worse anywhere than which of `points` (rows)."""
    covers = np.ones((len(points), len(front)), bool)
    for objective in range(points.shape[1]):
        covers &= front[None, :, objective] <= points[:, None, objective]
    return covers


def strongest(front: np.ndarray, sample: np.ndarray, count: int = STRONG) -> np.ndarray:
    """The `count` points of `front` that together beat most of `sample`, found greedily; padded with points that beat nothing."""
    padded = np.full((count, front.shape[1]), np.inf, np.float32)
    candidates = front if len(front) <= _SAMPLE else front[np.linspace(0, len(front) - 1, _SAMPLE).astype(int)]
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
