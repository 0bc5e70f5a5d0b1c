"""Linear attention with a gated delta rule.

Each head sums up keys and values in one matrix, which forgets old entries and overwrites them.
"""

from typing import ClassVar

from diffgenz.core.record import number
from diffgenz.core.smooth import Leaf, Scalar, ceil_share
from diffgenz.kernels.shapes import DeltaShape
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.module import ATTENTION, Module, spelled
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
    """The scan of a state of key_dim x value_dim elements per head (arXiv 2412.06464).

    Each token makes three passes over the state: it recalls what the key held, corrects that, and
    reads the state out. In each chunk, prefill makes three products of keys and queries (K K', T K
    and Q K') and two products with values (T V, and the scores times V). It gets T by inverting a
    triangular matrix, in chunk**3 / 6 multiply-adds.

    Arguments:
        step: the iteration.
        heads: value heads of this device.
        key_heads: key heads of this device.
        key_dim: elements of each key.
        value_dim: elements of each value.
        chunk: tokens of a chunk in prefill.
        read: elements that are read per token.
        parameters: elements that the operator keeps.
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


DELTA = "linear_attn self_attn"
"""The names of what the projections of linear attention are in."""


class GatedDeltaNet(Block):
    """Gated delta net (arXiv 2412.06464), as in Qwen3-Next and Qwen3.5.

    norm -> projections -> convolution -> gated delta rule -> gated norm -> out projection
    -> all-reduce

    Each value head has one decay, and several value heads share the key of one key head.
    Tensor-parallel ranks share the heads.

    Arguments:
        key_heads: key heads of the whole model, at least 1.
        key_dim: elements of each key, at least 1.
        value_heads: value heads of the whole model, at least 1.
        value_dim: elements of each value, at least 1.
        width: taps of the convolution, at least 1.
        chunk: tokens of a chunk in prefill, at least 1.
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
        """Tensor-parallel ranks that can share it: one value head each."""
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
        return (
            # mixed: queries, keys and values; values: the output's gate; 2 * heads: decay and
            # learning rate
            linear(
                "in_projection", tokens, mixed + values + 2 * heads, hidden, precision, "attention"
            ),
            causal_conv(step, mixed, self.width, bias=False),
            rule,
            elementwise(
                "gated_norm",
                2 * tokens * values * size,
                tokens * values * size,
                parameters=self.value_dim,
                size=size,
            ),
            linear("out_projection", tokens, hidden, values, precision, "attention"),
        )

    def modules(self, hidden: Scalar) -> tuple[Module, ...]:
        keys, values = self.key_heads * self.key_dim, self.value_heads * self.value_dim
        widths = {
            "in_proj_qkv": (2 * keys + values, "in_proj_qkvz"),
            "in_proj_z": (values, "in_proj_qkvz"),
            "in_proj_b": (self.value_heads, "in_proj_ba"),
            "in_proj_a": (self.value_heads, "in_proj_ba"),
        }
        return (
            *(
                Module(
                    ATTENTION,
                    ("in_projection",),
                    width * hidden,
                    spelled(DELTA, leaf),
                    spelled(DELTA, fused),
                )
                for leaf, (width, fused) in widths.items()
            ),
            Module(ATTENTION, ("out_projection",), hidden * values, spelled(DELTA, "out_proj")),
        )


class KimiDeltaAttention(Block):
    """Kimi delta attention: a delta rule with one decay per key channel (arXiv 2510.26692).

    norm -> projections -> convolution -> delta rule -> gated norm -> out projection -> all-reduce

    It is the linear attention of Kimi Linear. Decay and output gate pass through a bottleneck as
    wide as a head, which every tensor-parallel rank computes.

    Arguments:
        heads: heads of the whole model, at least 1.
        head_dim: elements of each key and of each value, which are of one size; at least 1.
        width: taps of the convolution, at least 1.
        chunk: tokens of a chunk in prefill, at least 1.
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
        """Tensor-parallel ranks that can share it: one head each."""
        return self.heads

    def work(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        precision, tokens, size = step.precision, step.tokens, step.precision.dtype_size
        heads, dim = ceil_share(self.heads, step.shard), self.head_dim
        values = heads * dim
        return (
            # 3 * values: queries, keys and values; heads: the learning rate
            linear("in_projection", tokens, 3 * values + heads, hidden, precision, "attention"),
            linear("gates_down", tokens, 2 * dim, hidden, precision, "attention"),
            linear("gates_up", tokens, 2 * values, dim, precision, "attention"),
            causal_conv(step, 3 * values, self.width, bias=False),
            delta_rule(
                step,
                heads,
                heads,
                dim,
                dim,
                self.chunk,
                read=4 * values + heads,
                parameters=heads + values,  # log A; the decay's bias
            ),
            elementwise(
                "gated_norm",
                2 * tokens * values * size,
                tokens * values * size,
                parameters=dim,
                size=size,
            ),
            linear("out_projection", tokens, hidden, values, precision, "attention"),
        )

    def modules(self, hidden: Scalar) -> tuple[Module, ...]:
        values = self.heads * self.head_dim
        widths = {
            "q_proj": ("in_projection", values * hidden),
            "k_proj": ("in_projection", values * hidden),
            "v_proj": ("in_projection", values * hidden),
            "b_proj": ("in_projection", self.heads * hidden),
            "f_a_proj": ("gates_down", self.head_dim * hidden),
            "g_a_proj": ("gates_down", self.head_dim * hidden),
            "f_b_proj": ("gates_up", values * self.head_dim),
            "g_b_proj": ("gates_up", values * self.head_dim),
            "o_proj": ("out_projection", hidden * values),
        }
        return tuple(
            Module(ATTENTION, (row,), parameters, spelled("self_attn linear_attn", leaf))
            for leaf, (row, parameters) in widths.items()
        )
