"""Linear attention with a gated delta rule.

Keys and values are summed up in one matrix per head, which forgets and overwrites.
"""

from typing import ClassVar

from diffgenz.core.record import number
from diffgenz.core.smooth import Leaf, Scalar, ceil_share
from diffgenz.kernels.shapes import DeltaShape
from diffgenz.models.blocks.block import Block
from diffgenz.operators.elementwise import elementwise
from diffgenz.operators.linear import linear
from diffgenz.operators.operator import Operator
from diffgenz.operators.recurrence import causal_conv, scan
from diffgenz.operators.step import Step


def delta_rule(
    step: Step,
    heads: Scalar,
    key_heads: Scalar,
    key_dim: Scalar,
    value_dim: Scalar,
    chunk: Scalar,
    *,
    read: Scalar,
    parameters: Scalar,
) -> Operator:
    """The scan of a state of key_dim x value_dim per head (arXiv 2412.06464).

    It recalls what the key held, corrects it, and reads it out; each is a pass over the state. In a
    chunk, prefill makes three products of keys and queries (K K', T K, Q K') and two of values
    (T V, and the scores times V), and inverts the triangular matrix T in chunk**3 / 6
    multiply-adds.

    Arguments:
        step: the iteration.
        heads: value heads of this device.
        key_heads: key heads of this device.
        key_dim: elements of a key.
        value_dim: elements of a value.
        chunk: tokens of a chunk.
        read: elements read per token.
        parameters: elements that it keeps.
    """
    return scan(
        step,
        heads,
        key_dim * value_dim,
        passes=3.0,
        pairwise=3 * key_dim + 2 * value_dim + chunk / 3,
        chunk=chunk,
        read=read,
        written=heads * value_dim,
        parameters=parameters,
        kernels="delta",
        shape=DeltaShape(step.sequences, step.queries, key_heads, key_dim, heads, value_dim, chunk),
    )


class GatedDeltaNet(Block):
    """norm -> projections -> convolution -> gated delta rule -> gated norm -> out -> all-reduce.

    arXiv 2412.06464, as in Qwen3-Next and Qwen3.5: there is one decay per value head, and several
    value heads share the key of one key head. Tensor-parallel ranks share the heads.

    Arguments:
        key_heads: of the whole model.
        key_dim: elements of each key head.
        value_heads: of the whole model.
        value_dim: elements of each value head.
        width: taps of the convolution.
        chunk: tokens of a chunk in prefill.
        norm, norms, reduces: as in `Block`.
    """

    mixes_tokens: ClassVar[bool] = True
    keeps_state: ClassVar[bool] = True

    key_heads: Leaf = number(at_least=1)
    key_dim: Leaf = number(at_least=1)
    value_heads: Leaf = number(at_least=1)
    value_dim: Leaf = number(at_least=1)
    width: Leaf = number(at_least=1, default=4.0)
    chunk: Leaf = number(at_least=1, default=64.0)

    @property
    def most_shards(self) -> Scalar:
        """One value head each."""
        return self.value_heads

    def work(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        precision, tokens, size = step.precision, step.tokens, step.precision.dtype_size
        heads = ceil_share(self.value_heads, step.shard)
        key_heads = ceil_share(self.key_heads, step.shard)
        keys, values = key_heads * self.key_dim, heads * self.value_dim
        mixed = 2 * keys + values
        rule = delta_rule(
            step,
            heads,
            key_heads,
            self.key_dim,
            self.value_dim,
            self.chunk,
            read=mixed + 2 * heads,
            parameters=2 * heads,
        )
        projected = mixed + values + 2 * heads  # the output's gate; decay and learning rate
        return (
            linear("in_projection", tokens, projected, hidden, precision),
            causal_conv(step, mixed, self.width, bias=False),
            rule,
            elementwise(
                "gated_norm",
                2 * tokens * values * size,
                tokens * values * size,
                parameters=self.value_dim,
                size=size,
            ),
            linear("out_projection", tokens, hidden, values, precision),
        )


class KimiDeltaAttention(Block):
    """norm -> projections -> convolution -> delta rule -> gated norm -> out -> all-reduce.

    Kimi Linear (arXiv 2510.26692): there is one decay per key channel. Decay and output gate pass
    through a bottleneck as wide as a head, which every tensor-parallel rank computes.

    Arguments:
        heads: of the whole model.
        head_dim: elements of a key and of a value.
        width: taps of the convolution.
        chunk: tokens of a chunk in prefill.
        norm, norms, reduces: as in `Block`.
    """

    mixes_tokens: ClassVar[bool] = True
    keeps_state: ClassVar[bool] = True

    heads: Leaf = number(at_least=1)
    head_dim: Leaf = number(at_least=1)
    width: Leaf = number(at_least=1, default=4.0)
    chunk: Leaf = number(at_least=1, default=64.0)

    @property
    def most_shards(self) -> Scalar:
        """One head each."""
        return self.heads

    def work(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        precision, tokens, size = step.precision, step.tokens, step.precision.dtype_size
        heads, dim = ceil_share(self.heads, step.shard), self.head_dim
        values = heads * dim
        projected = 3 * values + heads  # queries, keys and values; the learning rate
        rule = delta_rule(
            step,
            heads,
            heads,
            dim,
            dim,
            self.chunk,
            read=4 * values + heads,
            parameters=heads + values,  # log A; bias of the decay
        )
        return (
            linear("in_projection", tokens, projected, hidden, precision),
            linear("gates_down", tokens, 2 * dim, hidden, precision),
            linear("gates_up", tokens, 2 * values, dim, precision),
            causal_conv(step, 3 * values, self.width, bias=False),
            rule,
            elementwise(
                "gated_norm",
                2 * tokens * values * size,
                tokens * values * size,
                parameters=dim,
                size=size,
            ),
            linear("out_projection", tokens, hidden, values, precision),
        )
