"""From an offset within a batch to the numbers of a configuration, on the device."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.core.tree import Tree
from diffgenz.studies.sweep.sobol import Place


class Drawn(Tree):
    """A sampled axis of levels.

    Arguments:
        radix: how many levels it has.
        tables: the values of each number that it sets, by level.
    """

    radix: jax.Array
    tables: list[jax.Array]


class Span(Tree):
    """A sampled range.

    Arguments:
        low: its lower bound.
        high: its upper bound.
        width: high - low, or ln(high / low) of a logarithmic range.
        copies: how many numbers it sets, all to the same value.
        logarithmic: whether it is uniform in the logarithm.
    """

    low: jax.Array
    high: jax.Array
    width: jax.Array
    copies: int = eqx.field(static=True)
    logarithmic: bool = eqx.field(static=True)


class Decoder(Tree):
    """From offsets within a batch to the numbers of its configurations.

    Levels and offsets stay below 2**21, so that they are exact in float32.

    Arguments:
        starts: levels of the enumerated axes at which the batch begins, shape (axes,).
        radices: how many levels each of these axes has, shape (axes,).
        tables: for each of these axes, the values of every number that it sets.
        drawn: the sampled axes.
        place: where their sequence begins.
    """

    starts: Any
    radices: jax.Array
    tables: list[list[jax.Array]]
    drawn: list[Drawn | Span]
    place: Place

    def decoded(
        self, offset: jax.Array, *, run: bool = False
    ) -> tuple[list[jax.Array], list[jax.Array]]:
        """The configurations that are `offset` after the start of the batch.

        Arguments:
            offset: uint32.
            run: whether `offset` is 0, 1, 2, ... on one device.

        Returns:
            The level of each axis, which of a range is its coordinate in (0, 1), and the value of
            each number.
        """
        carry = offset.astype(jnp.float32)
        levels: list[jax.Array] = []
        inverses = 1 / self.radices
        for axis in reversed(range(len(self.tables))):
            total = self.starts[axis] + carry
            carry = jnp.floor((total + 0.5) * inverses[axis])
            levels.insert(0, total - carry * self.radices[axis])
        columns = [
            _at(table, level)
            for tables, level in zip(self.tables, levels, strict=True)
            for table in tables
        ]
        if not self.drawn:
            return levels, columns
        points = self.place.points(carry.astype(jnp.uint32), run=run and not self.tables)
        for axis, coordinate in zip(self.drawn, points, strict=True):
            if isinstance(axis, Drawn):
                levels.append(jnp.floor(coordinate * axis.radix))
                columns += [_at(table, levels[-1]) for table in axis.tables]
            else:
                levels.append(coordinate)
                moved = coordinate * axis.width
                value = axis.low * jnp.exp(moved) if axis.logarithmic else axis.low + moved
                value = jnp.clip(value, axis.low, axis.high)  # rounding could lead past the end
                columns += [value] * axis.copies
        return levels, columns


def _at(table: jax.Array, level: jax.Array) -> jax.Array:
    return table.at[level.astype(jnp.int32)].get(mode="promise_in_bounds")


@jax.jit
def decode_each(decoder: Decoder) -> tuple[list[jax.Array], list[jax.Array]]:
    """The first configuration of several batches.

    Arguments:
        decoder: `starts` and `place` have one more axis in front, for the batches.
    """

    def first(
        start: jax.Array, bases: jax.Array, low: jax.Array
    ) -> tuple[list[jax.Array], list[jax.Array]]:
        place = Place(decoder.place.table, bases, low)
        return Decoder(start, decoder.radices, decoder.tables, decoder.drawn, place).decoded(
            jnp.zeros((), jnp.uint32)
        )

    return jax.vmap(first)(decoder.starts, decoder.place.bases, decoder.place.low)


def padded(table: np.ndarray) -> jax.Array:
    """The table, its last entry repeated until its length is a power of two.

    So other numbers of levels need no other program.
    """
    extra = (1 << (len(table) - 1).bit_length()) - len(table)
    return jnp.asarray(np.pad(table, (0, extra), mode="edge"))
