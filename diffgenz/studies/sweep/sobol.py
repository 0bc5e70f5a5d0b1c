"""Sobol points from their index: a scrambled low-discrepancy sequence on the device.

It can begin at any place up to 2**62. Point number s is the exclusive or of one column for each bit
set in s. This is plain binary order: within every block of 2**k points a permutation of the
Gray-code order. The columns come from the direction numbers of Joe and Kuo (SIAM J. Sci. Comput.
30, 2008; their file new-joe-kuo-6). They are scrambled by a random lower-triangular bit matrix and
a digital shift (Matousek, J. Complexity 14, 1998), both from a seed.
"""

from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.core.tree import Tree

INDEX_BITS = 62
"""Bits of the largest index."""

LOW_BITS = 18
"""Bits of the index that vary inside a batch; the others are folded into its start."""

_BITS = 32
# Primitive polynomials (with both end bits) and initial direction numbers of dimensions 2 to 32.
# Dimension 1 is the van der Corput sequence.
_DIRECTIONS: tuple[tuple[int, tuple[int, ...]], ...] = (
    (3, (1,)),
    (7, (1, 3)),
    (11, (1, 3, 1)),
    (13, (1, 1, 1)),
    (19, (1, 1, 3, 3)),
    (25, (1, 3, 5, 13)),
    (37, (1, 1, 5, 5, 17)),
    (41, (1, 1, 5, 5, 5)),
    (47, (1, 1, 7, 11, 19)),
    (55, (1, 1, 5, 1, 1)),
    (59, (1, 1, 1, 3, 11)),
    (61, (1, 3, 5, 5, 31)),
    (67, (1, 3, 3, 9, 7, 49)),
    (91, (1, 1, 1, 15, 21, 21)),
    (97, (1, 3, 1, 13, 27, 49)),
    (103, (1, 1, 1, 15, 7, 5)),
    (109, (1, 3, 1, 15, 13, 25)),
    (115, (1, 1, 5, 5, 19, 61)),
    (131, (1, 3, 7, 11, 23, 15, 103)),
    (137, (1, 3, 7, 13, 13, 15, 69)),
    (143, (1, 1, 3, 13, 7, 35, 63)),
    (145, (1, 3, 5, 9, 1, 25, 53)),
    (157, (1, 3, 1, 13, 9, 35, 107)),
    (167, (1, 3, 1, 5, 27, 61, 31)),
    (171, (1, 1, 5, 11, 19, 41, 61)),
    (185, (1, 3, 5, 3, 3, 13, 69)),
    (191, (1, 1, 7, 13, 1, 19, 1)),
    (193, (1, 3, 7, 5, 13, 19, 59)),
    (203, (1, 1, 3, 9, 25, 29, 41)),
    (211, (1, 3, 5, 13, 23, 1, 55)),
    (213, (1, 3, 7, 3, 13, 59, 17)),
)

MOST_DIMENSIONS = 1 + len(_DIRECTIONS)
"""Dimensions for which there are direction numbers."""


class Sobol:
    """The sequence in some number of dimensions.

    Arguments:
        dimensions: of the points, at most `MOST_DIMENSIONS`.
        seed: of the scrambling, at least 0; None for the plain sequence, whose first point is the
            origin.

    Raises:
        InputError: more dimensions than there are direction numbers, or a negative seed.
    """

    def __init__(self, dimensions: int, seed: int | None):
        if dimensions > MOST_DIMENSIONS:
            raise InputError(
                f"sampled axes: {dimensions} are too many; "
                f"at most {MOST_DIMENSIONS} can be sampled, make grids of the others"
            )
        plain = np.array([_columns(dimension) for dimension in range(dimensions)], np.uint32)
        columns = plain.reshape(dimensions, INDEX_BITS)
        shift = np.zeros(dimensions, np.uint32)
        if seed is not None:
            if seed < 0:
                raise InputError(f"seed: {seed} is not allowed; it must be at least 0")
            rng = np.random.default_rng(seed)
            shift = rng.integers(0, 2**_BITS, dimensions, np.uint32, endpoint=False)
            if dimensions:
                columns = np.stack([_scrambled(column, rng) for column in columns])
        self._columns, self._shift = columns, shift

    def place(self, start: int) -> "Place":
        """The start of a batch that begins at point `start`."""
        several = self.places(np.asarray([start], np.int64))
        return Place(self._table, several.bases[0], several.low[0])

    def places(self, starts: np.ndarray) -> "Place":
        """The starts of several batches: one table, everything else with an axis for the batches.

        Arguments:
            starts: the point at which each begins, int64, shape (batches,).
        """
        high = starts >> LOW_BITS
        before, after = (self._folded(each << LOW_BITS) for each in (high, high + 1))
        bases = np.stack([self._shift ^ before, self._shift ^ after], 1)
        return Place(self._table, bases, (starts & (2**LOW_BITS - 1)).astype(np.uint32))

    @cached_property
    def _table(self) -> jax.Array:
        """What the low bits contribute, followed by the first half of it again."""
        table = np.zeros((len(self._columns), 1), np.uint32)
        for bit in range(LOW_BITS):
            table = np.concatenate([table, table ^ self._columns[:, bit : bit + 1]], 1)
        return jnp.asarray(np.concatenate([table, table[:, : 2 ** (LOW_BITS - 1)]], 1))

    def _folded(self, indices: np.ndarray) -> np.ndarray:
        """The exclusive or of the columns of all bits set in each of `indices`."""
        total = np.zeros((len(indices), len(self._columns)), np.uint32)
        # Past the last point of all nothing is needed.
        for bit in range(min(int(indices.max(initial=0)).bit_length(), INDEX_BITS)):
            is_set = (indices >> bit & 1).astype(bool)[:, None]
            total ^= np.where(is_set, self._columns[:, bit], np.uint32(0))
        return total


class Place(Tree):
    """The start of a batch, as the device needs it.

    Arguments:
        table: what the low bits of the index contribute, the first half of it repeated after the
            end; uint32, shape (dimensions, 3 / 2 x 2**LOW_BITS).
        bases: what the high bits contribute before and after the low bits overflow; uint32, shape
            (2, dimensions).
        low: the low bits of the first index, uint32.
    """

    table: jax.Array
    bases: Any
    low: Any

    def points(self, offset: jax.Array, *, run: bool = False) -> list[jax.Array]:
        """Coordinates in (0, 1), of 23 bits each and so exact in float32.

        Arguments:
            offset: of each point after the first of the batch; uint32, at most 2**LOW_BITS.
            run: whether `offset` is 0, 1, 2, ...: entries of the table are then copied rather than
                looked up.

        Returns:
            An array for each dimension.
        """
        index = self.low + offset
        carried = (index >> LOW_BITS).astype(bool)
        entry = (index & (2**LOW_BITS - 1)).astype(jnp.int32)
        coordinates = []
        for dimension in range(self.table.shape[0]):
            table = self.table[dimension]
            bits = (
                jax.lax.dynamic_slice(table, (self.low,), offset.shape)
                if run
                else table.at[entry].get(mode="promise_in_bounds")
            )
            bits = bits ^ jnp.where(carried, self.bases[1, dimension], self.bases[0, dimension])
            coordinates.append(((bits >> 9).astype(jnp.float32) + 0.5) * 2.0**-23)
        return coordinates


def _columns(dimension: int) -> list[int]:
    """The column of each index bit in one dimension, as fractions of 32 bits."""
    if dimension == 0:
        return [1 << (_BITS - 1 - bit) if bit < _BITS else 0 for bit in range(INDEX_BITS)]
    polynomial, initial = _DIRECTIONS[dimension - 1]
    degree = polynomial.bit_length() - 1
    numbers = list(initial)
    for k in range(degree, INDEX_BITS):
        number = numbers[k - degree]
        for power in range(1, degree + 1):
            if polynomial >> (degree - power) & 1:
                number ^= numbers[k - power] << power
        numbers.append(number)
    return [
        number << (_BITS - 1 - k) if k < _BITS else number >> (k + 1 - _BITS)
        for k, number in enumerate(numbers)
    ]


def _scrambled(columns: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The columns times a random lower-triangular matrix over their bits.

    The most significant bit comes first; the diagonal has ones.
    """
    scrambled = np.zeros_like(columns)
    for row in range(_BITS):
        own = 1 << (_BITS - 1 - row)
        mask = own | (int(rng.integers(0, 2**_BITS)) & ~(2 * own - 1) & (2**_BITS - 1))
        parity = np.bitwise_count(columns & np.uint32(mask)) & 1
        scrambled |= parity.astype(np.uint32) << np.uint32(_BITS - 1 - row)
    return scrambled
