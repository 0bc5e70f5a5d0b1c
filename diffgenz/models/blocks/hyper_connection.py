"""Hyper-connections (arXiv 2409.19606, 2512.24880): several residual streams instead of one."""

from typing import ClassVar

import equinox as eqx

from diffgenz.core.record import number
from diffgenz.core.smooth import Leaf, Scalar
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.norm import Norm
from diffgenz.operators.elementwise import elementwise
from diffgenz.operators.linear import wide_linear
from diffgenz.operators.operator import Operator
from diffgenz.operators.step import Step


class HyperConnection(Block):
    """What leads the streams into one block and its result back to all of them.

    projection to weights -> weighted sum of the streams; after the block: mix of the streams and
    its result

    Every tensor-parallel rank does all of it, in dtype.

    Arguments:
        streams: residual streams n of the model's width, at least 1. The weights are n for the way
            in, n for the way back, and n x n between the streams.
        last: whether it is the one after all blocks, which has only the n weights of the way in.
        norm, norms, reduces: as in `Block`; without them by default.
    """

    mixes_tokens: ClassVar[bool] = False

    streams: Leaf = number(at_least=1)
    last: bool = eqx.field(static=True, default=False)
    norm: Norm | None = eqx.field(static=True, default=None, kw_only=True)
    reduces: bool = eqx.field(static=True, default=False, kw_only=True)

    def work(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        tokens, size = step.tokens, step.precision.dtype_size
        one = tokens * hidden * size
        every = self.streams * one
        weights = self.streams * (1.0 if self.last else 2 + self.streams)
        scales = 1.0 if self.last else 3.0
        back = () if self.last else (elementwise("streams_out", every + one, every),)
        return (
            wide_linear("stream_weights", tokens, weights, self.streams * hidden, step.precision),
            elementwise("streams_in", every, one, parameters=weights + scales, size=size),
            *back,
        )
