"""The dense feed-forward network, gated or plain."""

from typing import ClassVar

import equinox as eqx

from diffgenz.core.checks import check
from diffgenz.core.smooth import Leaf, Scalar, as_leaf, ceil_share
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.norm import Norm, norm
from diffgenz.operators.operator import Operator, elementwise, linear
from diffgenz.operators.step import Step


class MLP(Block):
    """norm -> up (and gate, in one GEMM of twice the width) -> activation -> down -> all-reduce.

    Arguments:
        intermediate: its width in the whole model.
        gated: whether a second projection gates the first (SwiGLU, GeGLU).
        bias: whether the projections have one.
        norm, norms, reduces: as in `Attention`.
    """

    mixes_tokens: ClassVar[bool] = False

    intermediate: Leaf = eqx.field(converter=as_leaf)
    gated: bool = eqx.field(static=True, default=True)
    bias: bool = eqx.field(static=True, default=False)
    norm: Norm | None = eqx.field(static=True, default=Norm.RMS)
    norms: int = eqx.field(static=True, default=1)
    reduces: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        check("intermediate", self.intermediate, exclusive=True)

    def operators(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        width = ceil_share(self.intermediate, step.shard)
        up = width * (2 if self.gated else 1)
        precision = step.precision
        operators = [
            linear(
                "gate_up" if self.gated else "up",
                step.tokens,
                up,
                hidden,
                precision,
                bias=self.bias,
            ),
            elementwise(
                "activation",
                step.tokens * up * precision.dtype_size,
                step.tokens * width * precision.dtype_size,
            ),
            linear("down", step.tokens, hidden, width, precision, bias=self.bias),
        ]
        if self.norm is not None:
            operators.insert(0, norm(self.norm, hidden, step, count=self.norms))
        return tuple(operators)
