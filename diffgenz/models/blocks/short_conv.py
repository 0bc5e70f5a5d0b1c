"""Gated short convolutions (LFM2): a mixer whose state is a few tokens, whatever the context."""

from typing import ClassVar

import equinox as eqx

from diffgenz.core.record import number
from diffgenz.core.smooth import Leaf, Scalar, ceil_share
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.module import ATTENTION, Module
from diffgenz.operators.elementwise import elementwise
from diffgenz.operators.linear import linear
from diffgenz.operators.operator import Operator
from diffgenz.operators.recurrence import causal_conv
from diffgenz.operators.step import Step


class ShortConv(Block):
    """A depthwise convolution along the tokens between two gates, as in LFM2.

    norm -> in projection to B, C and x -> C * convolution(B * x) -> out projection -> all-reduce

    It has as many channels as the residual stream, which tensor-parallel ranks share. A sequence
    keeps its last `width - 1` tokens.

    Arguments:
        width: taps of the convolution, at least 1.
        bias: whether projections and convolution have a bias.
        norm, norms, reduces: as in `Block`.
    """

    mixes_tokens: ClassVar[bool] = True
    keeps_state: ClassVar[bool] = True

    width: Leaf = number(at_least=1, default=3.0)
    bias: bool = eqx.field(static=True, default=False)

    def work(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        precision, tokens = step.precision, step.tokens
        channels = ceil_share(hidden, step.shard)
        moved = tokens * channels * precision.dtype_size
        return (
            linear(
                "in_projection", tokens, 3 * channels, hidden, precision, ATTENTION, bias=self.bias
            ),
            causal_conv(step, channels, self.width, bias=self.bias),
            elementwise("conv_gates", 2 * moved, moved, repeats=2.0),
            linear(
                "out_projection", tokens, hidden, channels, precision, ATTENTION, bias=self.bias
            ),
        )

    def modules(self, hidden: Scalar) -> tuple[Module, ...]:
        each = hidden * (hidden + self.bias)
        return (
            Module(ATTENTION, ("in_projection",), 3 * each, ("conv.in_proj",)),
            Module(ATTENTION, ("out_projection",), each, ("conv.out_proj",)),
        )
