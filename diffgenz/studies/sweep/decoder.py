"""From an offset within a batch to the numbers of a configuration, on the device."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.studies.sweep.sobol import Place


class Drawn(eqx.Module):
    """A sampled axis of levels: how many, and the values of each number it sets."""

    radix: jax.Array
    tables: list[jax.Array]


class Span(eqx.Module):
    """A sampled range: its bounds, its width (of the logarithm, if `logarithmic`), and how many numbers it sets."""

    low: jax.Array
    high: jax.Array
    width: jax.Array
    copies: int = eqx.field(static=True)
    logarithmic: bool = eqx.field(static=True)


class Decoder(eqx.Module):
    """From offsets within a batch to the numbers of its configurations. Levels and offsets stay below 2**21: exact in float32.

    Arguments:
        starts: levels of the enumerated axes at which the batch begins. radices: how many levels each has.
        tables: of each, the values of every number it sets. drawn: the sampled axes. place: where their sequence begins.
    """

    starts: Any
    radices: jax.Array
    tables: list[list[jax.Array]]
    drawn: list[Drawn | Span]
    place: Place

    def decoded(
        self, offset: jax.Array, *, run: bool = False
    ) -> tuple[list[jax.Array], list[jax.Array]]:
        """The level of each axis (the coordinate of a range), and each number's value, `offset` (uint32) configurations from the start.

        Arguments:
            run: whether `offset` is 0, 1, 2, ... on one device.
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
        if self.drawn:
            for axis, coordinate in zip(
                self.drawn,
                self.place.points(carry.astype(jnp.uint32), run=run and not self.tables),
                strict=True,
            ):
                if isinstance(axis, Drawn):
                    levels.append(jnp.floor(coordinate * axis.radix))
                    columns += [_at(table, levels[-1]) for table in axis.tables]
                else:
                    levels.append(coordinate)
                    moved = coordinate * axis.width
                    value = axis.low * jnp.exp(moved) if axis.logarithmic else axis.low + moved
                    columns += [
                        jnp.clip(value, axis.low, axis.high)
                    ] * axis.copies  # rounding could lead past the end
        return levels, columns


def _at(table: jax.Array, level: jax.Array) -> jax.Array:
    return table.at[level.astype(jnp.int32)].get(mode="promise_in_bounds")


@jax.jit
def decode_each(decoder: Decoder) -> tuple[list[jax.Array], list[jax.Array]]:
    """The first configuration of each of the batches that begin at `decoder.starts` and `decoder.place`."""

    def first(
        start: jax.Array, bases: jax.Array, low: jax.Array
    ) -> tuple[list[jax.Array], list[jax.Array]]:
        place = Place(decoder.place.table, bases, low)
        return Decoder(start, decoder.radices, decoder.tables, decoder.drawn, place).decoded(
            jnp.zeros((), jnp.uint32)
        )

    return jax.vmap(first)(decoder.starts, decoder.place.bases, decoder.place.low)


def padded(table: np.ndarray) -> jax.Array:
    """The table, its length rounded up to a power of two: other numbers of levels need no other program."""
    return jnp.asarray(
        np.pad(table, (0, (1 << (len(table) - 1).bit_length()) - len(table)), mode="edge")
    )
