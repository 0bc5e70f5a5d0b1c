"""Slopes by central differences in float64, all of them in one evaluation of NumPy's columns.

Each number is moved up and down by `STEP`, in two columns of its own. The error is of the order of
STEP**2; at a kink the slope is the mean of those of both sides, as JAX has it where two maxima tie.
What is rounded up (`smooth.straight_through_ceil`) has no slope here: differences are of hardware
and of kernels, which are not rounded.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

STEP = 1e-4
"""By how much logarithms and other numbers of order 1 are moved."""


@contextlib.contextmanager
def in_double() -> Iterator[None]:
    """In here, NumPy calculates in float64, and is as silent as JAX."""
    with jax.enable_x64(True), np.errstate(all="ignore"):
        yield


def as_double(tree: Any) -> Any:
    """The same numbers in float64, of NumPy; what is no number stays."""

    def one(x: Any) -> Any:
        is_number = isinstance(x, jax.Array | np.ndarray | np.floating | float | int)
        return np.asarray(x, np.float64)[()] if is_number else x

    return jax.tree.map(one, tree)


def moves(count: int) -> np.ndarray:
    """What to add to each of `count` numbers in each column, of shape (count, 2 count)."""
    return STEP * np.kron(np.eye(count), [1.0, -1.0])


def slopes(values: Any, count: int) -> np.ndarray:
    """The slopes to `count` numbers of what was evaluated in the columns of `moves`.

    Arguments:
        values: of shape (..., 2 count), or one that broadcasts to it.
        count: how many numbers were moved.
    """
    columns = np.asarray(values, np.float64)
    columns = np.broadcast_to(columns, (*columns.shape[:-1], 2 * count))
    return (columns[..., ::2] - columns[..., 1::2]) / (2 * STEP)
