"""Recurrences over a state of fixed size.

They are Mamba-2 (arXiv 2405.21060) and the gated delta rule (arXiv 2412.06464).

Prefill takes a chunk of tokens at once. A head of a sequence is a chain: its chunks wait for each
other, `step` seconds apart, and chains share the compute units. The products inside chunks, and
what kernels write to memory for each other, do not wait; tokens inside one chunk may:

    chunks = ceil(queries / chunk)
    x = sequences heads / (units slots)                    chains per compute unit
    c = (start + chunks step) (x**4 + 1)**(1/4)
    bytes = read and written once + again (2 elements of each value, and the state after each chunk)
    t = c + min(queries, chunk) token
        + sqrt((FLOP / (FLOP/s efficiency))**2 + (bytes / (bandwidth efficiency))**2) + launch

The exponent of c is 4, sharper than the 2 of other forms, because whole chains do not split.

Decode reads and writes every state once, and takes a few tokens one after the other:

    t = sqrt((queries step)**2 + (bytes / (bandwidth efficiency))**2)
        + blocks sequences heads / units + launch

Public tables of Mamba-2 hold only its convolutions. The two recurrences share forms and priors,
which are those of the delta rule, because the structure of their kernels is alike.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from diffgenz.core import xp
from diffgenz.core.smooth import Leaf
from diffgenz.kernels.form import Form, Work, parameter
from diffgenz.kernels.hardware import Chip
from diffgenz.kernels.shapes import DeltaShape, Mamba2Shape, Number

ELEMENT = 2.0
"""Bytes of an element of queries, keys, values and outputs."""


class Sizes(NamedTuple):
    """What every recurrence is made of.

    Arguments:
        chains: heads of all sequences.
        queries: tokens of each sequence.
        chunk: tokens of a chunk.
        state: elements of the state of a chain.
        state_size: bytes of one of them.
        passes: multiply-adds per token and element of the state.
        pairwise: multiply-adds per pair of tokens of a chunk.
        moved: bytes per token and chain that are read and written once.
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
    """The sizes of a Mamba-2 scan.

    It moves values and a time step in, values out, and B and C per group; its products are update
    and readout, and the scores of a chunk.
    """
    sequences, queries, heads, head_dim, state, groups, chunk, state_size = shape
    shared = state * groups / heads
    return Sizes(
        chains=sequences * heads,
        queries=queries,
        chunk=chunk,
        state=head_dim * state,
        state_size=state_size,
        passes=2.0,
        pairwise=head_dim + shared,
        moved=ELEMENT * (2 * head_dim + 2 * shared + 1),
        inner=head_dim,
    )


def delta_sizes(shape: DeltaShape) -> Sizes:
    """The sizes of a gated delta rule.

    It moves keys and queries per key head, values in and out, decay and learning rate; its products
    are recall, correction and readout (`models.blocks.linear_attention`).
    """
    sequences, queries, key_heads, key_dim, heads, value_dim, chunk, state_size = shape
    return Sizes(
        chains=sequences * heads,
        queries=queries,
        chunk=chunk,
        state=key_dim * value_dim,
        state_size=state_size,
        passes=3.0,
        pairwise=3 * key_dim + 2 * value_dim + chunk / 3,
        moved=ELEMENT * (2 * value_dim + 2 * key_dim * key_heads / heads + 4),
        inner=value_dim,
    )


class Scan(Form):
    """Recurrence over prompts, in chunks."""

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
        """Token after token or all pairs of tokens, whichever is less; no state in memory."""
        s = cls.sizes(shape)
        tokens = s.chains * s.queries
        products = xp.minimum(s.passes * s.state, 0.5 * s.pairwise * (s.queries + 1))
        return Work(2 * tokens * products, tokens * s.moved)

    def seconds(self, shape: Any, chip: Chip) -> Number:
        sizes = self.sizes(shape)
        chains, queries, chunk, state, state_size, passes, pairwise, moved, inner = sizes
        chunks, taken = self.rounded_up(queries / chunk), xp.minimum(queries, chunk)
        x = chains * (1 / (chip.units * self.slots))
        square = x * x
        waiting = self.start * chip.launch + chunks * (self.step * chip.launch)
        waiting = waiting * xp.sqrt(xp.sqrt(square * square + 1))
        waiting = waiting + taken * (self.token * chip.launch)

        per_flop = 2 / (chip.flops * self.compute)
        computing = chains * queries * (passes * state + 0.5 * pairwise * taken) * per_flop

        again = (2 * queries * inner + chunks * state) * (ELEMENT * self.again)
        per_byte = 1 / (chip.bandwidth * self.memory)
        moving = chains * (queries * moved + 2 * state * state_size + again) * per_byte
        busy = xp.sqrt(computing * computing + moving * moving)
        return waiting + busy + self.launch * chip.launch


class Update(Form):
    """Recurrence over new tokens: states are updated token by token."""

    memory: Leaf = parameter(0.85, 0.5, 1.0)
    launch: Leaf = parameter(1.5, 0.5)
    step: Leaf = parameter(1.0)
    blocks: Leaf = parameter(0.01, 1.5)

    sizes: ClassVar[Callable[[Any], Sizes]]
    """The sizes of a shape."""

    @classmethod
    def work(cls, shape: Any) -> Work:
        """Half of the state's traffic, since what is written may stay in a write-back cache."""
        s = cls.sizes(shape)
        return Work(
            2 * s.chains * s.queries * s.passes * s.state,
            s.chains * (s.queries * s.moved + s.state * s.state_size),
        )

    def seconds(self, shape: Any, chip: Chip) -> Number:
        s = self.sizes(shape)
        waiting = s.queries * (self.step * chip.launch)
        per_byte = 1 / (chip.bandwidth * self.memory)
        moving = s.chains * (s.queries * s.moved + 2 * s.state * s.state_size) * per_byte
        starting = s.chains * (self.blocks * chip.launch / chip.units)
        busy = xp.sqrt(waiting * waiting + moving * moving)
        return busy + starting + self.launch * chip.launch


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
