"""Selective state-space blocks, which keep a state of fixed size for each sequence.

Attention instead keeps a cache that grows with the sequence's tokens.
"""

from typing import ClassVar

import equinox as eqx

from diffgenz.core.record import number
from diffgenz.core.smooth import Leaf, Scalar, ceil_share
from diffgenz.kernels.shapes import Mamba2Shape
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.module import ATTENTION, Module, spelled
from diffgenz.operators.elementwise import elementwise
from diffgenz.operators.linear import linear
from diffgenz.operators.operator import Operator
from diffgenz.operators.recurrence import causal_conv, scan
from diffgenz.operators.step import Step


def _module(row: str, leaf: str, parameters: Scalar) -> Module:
    """A module of a Mamba block that is called `leaf`."""
    names = spelled("mamba mixer mamba_mixer mamba_decoder.mamba", leaf)
    return Module(ATTENTION, (row,), parameters, names)


class Mamba(Block):
    """Mamba-1 (arXiv 2312.00752).

    norm -> in projection -> convolution -> projections of B, C and the time step -> gated
    selective scan -> out projection -> all-reduce

    Every channel has a decay of its own, so that the scan is no matrix product: for each token,
    channel and state element it takes three multiply-adds (discretise, update, read out), which
    hide behind its memory traffic. Tensor-parallel ranks share the channels. The small all-reduce
    of B, C and the time step, which are rank + 2 state elements wide, is left out.

    Arguments:
        inner: channels of the whole model, at least 1.
        state: elements of the state for each channel, at least 1.
        rank: width of the compressed time step, at least 1.
        width: taps of the convolution, at least 1.
        bias: whether the in and out projections have a bias.
        conv_bias: whether the convolution has a bias.
        state_norms: the norms on B, C and the time step: None, "plain" (without parameters, as in
            Falcon Mamba) or "scaled" (as in Jamba).
        norm, norms, reduces: as in `Block`.
    """

    mixes_tokens: ClassVar[bool] = True
    keeps_state: ClassVar[bool] = True

    inner: Leaf = number(at_least=1)
    state: Leaf = number(at_least=1)
    rank: Leaf = number(at_least=1)
    width: Leaf = number(at_least=1, default=4.0)
    bias: bool = eqx.field(static=True, default=False)
    conv_bias: bool = eqx.field(static=True, default=True)
    state_norms: str | None = eqx.field(static=True, default=None)

    def work(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        precision, tokens = step.precision, step.tokens
        inner, selected = ceil_share(self.inner, step.shard), self.rank + 2 * self.state
        operators = [
            linear(
                "in_projection", tokens, 2 * inner, hidden, precision, "attention", bias=self.bias
            ),
            causal_conv(step, inner, self.width, bias=self.conv_bias),
            linear("select", tokens, selected, inner, precision, "attention"),
            linear("time_step", tokens, inner, self.rank, precision, "attention", bias=True),
            scan(
                step,
                inner,
                self.state,
                passes=3.0,
                pairwise=0.0,
                chunk=1.0,
                read=3 * inner + 2 * self.state,  # x, time step and gate; B and C
                written=inner,
                parameters=inner * (self.state + 1),  # A and D
            ),
            linear("out_projection", tokens, hidden, inner, precision, "attention", bias=self.bias),
        ]
        if self.state_norms is not None:
            moved = tokens * selected * precision.dtype_size
            kept = {"plain": 0.0, "scaled": selected}[self.state_norms]
            norms = elementwise(
                "state_norms", moved, moved, parameters=kept, size=precision.dtype_size
            )
            operators.insert(3, norms)
        return tuple(operators)

    def modules(self, hidden: Scalar) -> tuple[Module, ...]:
        return (
            _module("in_projection", "in_proj", 2 * self.inner * (hidden + self.bias)),
            _module("select", "x_proj", (self.rank + 2 * self.state) * self.inner),
            _module("time_step", "dt_proj", self.inner * (self.rank + 1)),
            _module("out_projection", "out_proj", hidden * (self.inner + self.bias)),
        )


class Mamba2(Block):
    """Mamba-2 (state-space duality, arXiv 2405.21060).

    norm -> in projection -> convolution -> scan -> gated norm -> out projection -> all-reduce

    Each head has one decay, so that prefill runs as matrix products over chunks of tokens: B and C
    of a group give the scores of a chunk, which weigh its values. Update and readout of the state
    take one multiply-add each per element.

    Arguments:
        heads: heads of the whole model, which tensor-parallel ranks share; at least 1.
        head_dim: channels of each head, at least 1.
        groups: groups of heads that share B and C, at least 1; they are replicated where there are
            fewer of them than ranks.
        state: width of B and C, at least 1; a head keeps head_dim x state elements.
        width: taps of the convolution, at least 1.
        chunk: tokens of a chunk in prefill, at least 1.
        bias: whether the in and out projections have a bias.
        conv_bias: whether the convolution has a bias.
        normed: whether the gated output is normalised, too (not in Falcon-H1).
        norm, norms, reduces: as in `Block`.
    """

    mixes_tokens: ClassVar[bool] = True
    keeps_state: ClassVar[bool] = True

    heads: Leaf = number(at_least=1)
    head_dim: Leaf = number(at_least=1)
    groups: Leaf = number(at_least=1)
    state: Leaf = number(at_least=1)
    width: Leaf = number(at_least=1, default=4.0)
    chunk: Leaf = number(at_least=1, default=256.0)
    bias: bool = eqx.field(static=True, default=False)
    conv_bias: bool = eqx.field(static=True, default=True)
    normed: bool = eqx.field(static=True, default=True)

    @property
    def most_shards(self) -> Scalar:
        """Tensor-parallel ranks that can share it: one head each."""
        return self.heads

    def work(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        precision, tokens, size = step.precision, step.tokens, step.precision.dtype_size
        heads, groups = ceil_share(self.heads, step.shard), ceil_share(self.groups, step.shard)
        inner, selected = heads * self.head_dim, 2 * groups * self.state
        projected = 2 * inner + selected + heads
        shape = Mamba2Shape(
            step.sequences, step.queries, heads, self.head_dim, self.state, groups, self.chunk
        )
        return (
            linear(
                "in_projection", tokens, projected, hidden, precision, "attention", bias=self.bias
            ),
            causal_conv(step, inner + selected, self.width, bias=self.conv_bias),
            scan(
                step,
                heads,
                self.head_dim * self.state,
                passes=2.0,
                pairwise=self.head_dim + self.state * groups / heads,
                chunk=self.chunk,
                read=inner + selected + heads,  # values, B and C, time step
                written=inner,
                parameters=3 * heads,  # A, D and the time step's bias
                kernels="mamba2",
                shape=shape,
            ),
            elementwise(
                "gated_norm",
                2 * tokens * inner * size,
                tokens * inner * size,
                parameters=inner if self.normed else 0.0,
                size=size,
            ),
            linear("out_projection", tokens, hidden, inner, precision, "attention", bias=self.bias),
        )

    def modules(self, hidden: Scalar) -> tuple[Module, ...]:
        inner = self.heads * self.head_dim
        projected = 2 * inner + 2 * self.groups * self.state + self.heads
        return (
            _module("in_projection", "in_proj", projected * (hidden + self.bias)),
            _module("out_projection", "out_proj", hidden * (inner + self.bias)),
        )
