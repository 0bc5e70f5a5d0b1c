"""Real-gated linear recurrence (Griffin, arXiv 2402.19427): one number of state per channel."""

from typing import ClassVar

from diffgenz.core import xp
from diffgenz.core.record import number
from diffgenz.core.smooth import Leaf, Scalar, ceil_share
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.module import ATTENTION, Module
from diffgenz.operators.elementwise import elementwise
from diffgenz.operators.linear import linear, per_head_linear
from diffgenz.operators.operator import Operator
from diffgenz.operators.recurrence import causal_conv, scan
from diffgenz.operators.step import Step


class GatedRecurrence(Block):
    """The recurrent block of Griffin and RecurrentGemma.

    norm -> projections of input and gate -> convolution -> gates -> recurrence -> gate
    -> out projection -> all-reduce

    A channel's state is its decayed past plus its gated input, one multiply-add each. Decay and
    input gate follow from the channels of the same head through a square matrix each. All
    projections have biases. Tensor-parallel ranks share the heads.

    Arguments:
        inner: channels of the whole model, at least 1.
        heads: heads of the whole model, at least 1.
        width: taps of the convolution, at least 1.
        norm, norms, reduces: as in `Block`.
    """

    mixes_tokens: ClassVar[bool] = True
    keeps_state: ClassVar[bool] = True

    inner: Leaf = number(at_least=1)
    heads: Leaf = number(at_least=1)
    width: Leaf = number(at_least=1, default=4.0)

    @property
    def most_shards(self) -> Scalar:
        """Tensor-parallel ranks that can share it: one head each."""
        return self.heads

    def work(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        precision, tokens, size = step.precision, step.tokens, step.precision.dtype_size
        heads, dim = ceil_share(self.heads, step.shard), self.inner / self.heads
        inner = heads * dim
        moved = tokens * inner * size
        return (
            linear("in_projection", tokens, 2 * inner, hidden, precision, ATTENTION, bias=True),
            causal_conv(step, inner, self.width, bias=True),
            per_head_linear("recurrence_gates", tokens, 2 * heads, dim, dim, precision, ATTENTION),
            scan(
                step,
                inner,
                xp.ones(()),
                passes=2.0,
                pairwise=0.0,
                chunk=1.0,
                read=3 * inner,  # input and two gates
                written=inner,
                parameters=3 * inner,  # decay; biases of the two gates
            ),
            elementwise("output_gate", 2 * moved, moved),
            linear("out_projection", tokens, hidden, inner, precision, ATTENTION, bias=True),
        )

    def modules(self, hidden: Scalar) -> tuple[Module, ...]:
        def module(row: str, leaf: str, parameters: Scalar) -> Module:
            return Module(ATTENTION, (row,), parameters, (f"temporal_block.{leaf}",))

        gates = self.inner * self.inner / self.heads
        return (
            module("in_projection", "linear_x", self.inner * (hidden + 1)),
            module("in_projection", "linear_y", self.inner * (hidden + 1)),
            module("recurrence_gates", "rg_lru.input_gate_weight", gates),
            module("recurrence_gates", "rg_lru.recurrent_gate_weight", gates),
            module("out_projection", "linear_out", hidden * (self.inner + 1)),
        )
