"""Recurrences over a state of fixed size: Mamba-2 (arXiv 2405.21060) and the gated delta rule (arXiv 2412.06464).

Prefill takes a chunk of tokens at once. A head of a sequence is a chain: its chunks wait for each other, `step` seconds apart, and chains share the
compute units. The products inside chunks, and what kernels write to memory for each other, do not wait; inside one chunk, tokens may:

    chunks = ceil(queries / chunk)
    x = sequences heads / (units slots)                        chains per compute unit
    c = (start + chunks step) (x**4 + 1)**(1/4)                whole chains do not split: sharper than p = 2
    bytes = read and written once + again (2 elements of each value, and the state after each chunk)
    t = c + min(queries, chunk) token + sqrt((FLOP / (FLOP/s efficiency))**2 + (bytes / (bandwidth efficiency))**2) + launch

Decode reads and writes every state once, and takes a few tokens one after the other:

    t = sqrt((queries step)**2 + (bytes / (bandwidth efficiency))**2) + blocks sequences heads / units + launch

Public tables of Mamba-2 hold its convolutions alone: the two share the delta rule's forms and priors, which its kernels' structure resembles.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax.numpy as jnp

from diffgenz.core.smooth import Leaf
from diffgenz.kernels.form import Chip, Form, Timer, Work, parameter
from diffgenz.kernels.shapes import DeltaShape, Mamba2Shape, Number

ELEMENT = 2.0
"""B of an element of queries, keys, values and outputs."""


class Sizes(NamedTuple):
    """What every recurrence is made of.

    Arguments:
        chains: heads of all sequences. queries, chunk: tokens of each sequence, and of a chunk.
        state: elements, and state_size: B of one. passes: multiply-adds per token and element of the state.
        pairwise: multiply-adds per pair of tokens of a chunk. moved: B per token and chain that are read and written once.
        inner: elements of a token's values, per chain.
    """

    chains: Number
    queries: Number
    chunk: Number
    state: Number
    state_size: Number
    passes: float
    pairwise: Number
    moved: Number
    inner: Number


def mamba2_sizes(shape: Mamba2Shape) -> Sizes:
    """Values and a time step in, values out; B and C per group; update and readout, and the scores of a chunk."""
    sequences, queries, heads, head_dim, state, groups, chunk, state_size = shape
    shared = state * groups / heads
    moved = ELEMENT * (2 * head_dim + 2 * shared + 1)
    return Sizes(
        sequences * heads,
        queries,
        chunk,
        head_dim * state,
        state_size,
        2.0,
        head_dim + shared,
        moved,
        head_dim,
    )


def delta_sizes(shape: DeltaShape) -> Sizes:
    """Keys and queries per key head; values in and out, decay and learning rate; recall, correction and readout (`models.linear_attention`)."""
    sequences, queries, key_heads, key_dim, heads, value_dim, chunk, state_size = shape
    moved = ELEMENT * (2 * value_dim + 2 * key_dim * key_heads / heads + 4)
    pairwise = 3 * key_dim + 2 * value_dim + chunk / 3
    return Sizes(
        sequences * heads,
        queries,
        chunk,
        key_dim * value_dim,
        state_size,
        3.0,
        pairwise,
        moved,
        value_dim,
    )


class Scan(Form):
    """Prompts, in chunks."""

    host_floor: ClassVar[float] = 30.0
    """Up to eight kernels, one after the other."""

    compute: Leaf = parameter(0.1, 1.0, 1.0)
    memory: Leaf = parameter(0.8, 0.5, 1.0)
    launch: Leaf = parameter(5.0, 0.7)
    slots: Leaf = parameter(1.0, 0.5)
    start: Leaf = parameter(1.0)
    step: Leaf = parameter(0.7)
    token: Leaf = parameter(0.01, 1.5)
    again: Leaf = parameter(1.0, 1.5)

    sizes: ClassVar[Callable[[Any], Sizes]]
    """The sizes of a shape."""

    @classmethod
    def work(cls, shape: Any) -> Work:
        """One token after the other, or all pairs of tokens, and no state in memory."""
        chains, queries, _, state, _, passes, pairwise, moved, _ = cls.sizes(shape)
        tokens = chains * queries
        return Work(
            2 * tokens * jnp.minimum(passes * state, 0.5 * pairwise * (queries + 1)), tokens * moved
        )

    def on(self, chip: Chip) -> Timer:
        return ScanTimer(
            sizes=self.sizes,
            per_slot=1 / (chip.units * self.slots),
            start=self.start * chip.launch,
            step=self.step * chip.launch,
            token=self.token * chip.launch,
            per_flop=2 / (chip.flops * self.compute),
            per_byte=1 / (chip.bandwidth * self.memory),
            again=ELEMENT * self.again,
            launch=self.launch * chip.launch,
        )


class ScanTimer(eqx.Module):
    """A `Scan` on one accelerator."""

    sizes: Callable[[Any], Sizes] = eqx.field(static=True)
    per_slot: Number
    start: Number
    step: Number
    token: Number
    per_flop: Number
    per_byte: Number
    again: Number
    launch: Number

    def __call__(self, shape: Any) -> Number:
        chains, queries, chunk, state, state_size, passes, pairwise, moved, inner = self.sizes(
            shape
        )
        chunks = jnp.ceil(queries / chunk)
        x = chains * self.per_slot
        square, taken = x * x, jnp.minimum(queries, chunk)
        waiting = (self.start + chunks * self.step) * jnp.sqrt(
            jnp.sqrt(square * square + 1)
        ) + taken * self.token
        computing = chains * queries * (passes * state + 0.5 * pairwise * taken) * self.per_flop
        again = (2 * queries * inner + chunks * state) * self.again
        moving = chains * (queries * moved + 2 * state * state_size + again) * self.per_byte
        return waiting + jnp.sqrt(computing * computing + moving * moving) + self.launch


class Update(Form):
    """Decode: states updated token by token."""

    memory: Leaf = parameter(0.85, 0.5, 1.0)
    launch: Leaf = parameter(1.5, 0.5)
    step: Leaf = parameter(1.0)
    blocks: Leaf = parameter(0.01, 1.5)

    sizes: ClassVar[Callable[[Any], Sizes]]
    """The sizes of a shape."""

    @classmethod
    def work(cls, shape: Any) -> Work:
        """Half of the state's traffic: what is written may stay in a write-back cache."""
        chains, queries, _, state, state_size, passes, _, moved, _ = cls.sizes(shape)
        return Work(
            2 * chains * queries * passes * state, chains * (queries * moved + state * state_size)
        )

    def on(self, chip: Chip) -> Timer:
        return UpdateTimer(
            sizes=self.sizes,
            per_byte=1 / (chip.bandwidth * self.memory),
            step=self.step * chip.launch,
            per_chain=self.blocks * chip.launch / chip.units,
            launch=self.launch * chip.launch,
        )


class UpdateTimer(eqx.Module):
    """An `Update` on one accelerator."""

    sizes: Callable[[Any], Sizes] = eqx.field(static=True)
    per_byte: Number
    step: Number
    per_chain: Number
    launch: Number

    def __call__(self, shape: Any) -> Number:
        chains, queries, _, state, state_size, _, _, moved, _ = self.sizes(shape)
        waiting = queries * self.step
        moving = chains * (queries * moved + 2 * state * state_size) * self.per_byte
        return jnp.sqrt(waiting * waiting + moving * moving) + chains * self.per_chain + self.launch


class Mamba2Prefill(Scan):
    """Mamba-2 over prompts."""

    Shape: ClassVar[type] = Mamba2Shape
    sizes = staticmethod(mamba2_sizes)


class Mamba2Decode(Update):
    """Mamba-2 over new tokens of running sequences."""

    Shape: ClassVar[type] = Mamba2Shape
    sizes = staticmethod(mamba2_sizes)


class DeltaPrefill(Scan):
    """The gated delta rule over prompts."""

    Shape: ClassVar[type] = DeltaShape
    sizes = staticmethod(delta_sizes)


class DeltaDecode(Update):
    """The gated delta rule over new tokens of running sequences."""

    Shape: ClassVar[type] = DeltaShape
    sizes = staticmethod(delta_sizes)
