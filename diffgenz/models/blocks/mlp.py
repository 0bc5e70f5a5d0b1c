"""The dense feed-forward network, gated or plain."""

from typing import ClassVar

import equinox as eqx

from diffgenz.core.record import number
from diffgenz.core.smooth import Leaf, Scalar, ceil_share
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.module import MLP as DENSE
from diffgenz.models.blocks.module import Module, feed_forward_modules
from diffgenz.operators.elementwise import elementwise
from diffgenz.operators.linear import linear
from diffgenz.operators.operator import Operator
from diffgenz.operators.step import Step


class MLP(Block):
    """A feed-forward network.

    norm -> up (and gate, in one GEMM of twice the width) -> activation -> down -> all-reduce

    Arguments:
        intermediate: its width in the whole model, above 0.
        gated: whether a second projection gates the first (SwiGLU, GeGLU).
        bias: whether the projections have a bias.
        learned: numbers that the activation learns (2 in xIELU).
        norm, norms, reduces: as in `Block`.
    """

    mixes_tokens: ClassVar[bool] = False

    intermediate: Leaf = number(above=0)
    gated: bool = eqx.field(static=True, default=True)
    bias: bool = eqx.field(static=True, default=False)
    learned: int = eqx.field(static=True, default=0)

    def modules(
        self, hidden: Scalar, parents: str = "mlp feed_forward ffn mixer shared_mlp"
    ) -> tuple[Module, ...]:
        """As in `Block`.

        Arguments:
            hidden: as in `Block`.
            parents: the names of what the projections are in, separated by spaces.
        """
        rows = ("gate_up" if self.gated else "up", "down")
        return feed_forward_modules(
            DENSE,
            hidden,
            self.intermediate,
            parents,
            gated=self.gated,
            bias=self.bias,
            rows=rows,
        )

    def work(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        width = ceil_share(self.intermediate, step.shard)
        up = width * (2 if self.gated else 1)
        precision, tokens, size = step.precision, step.tokens, step.precision.dtype_size
        name = "gate_up" if self.gated else "up"
        return (
            linear(name, tokens, up, hidden, precision, DENSE, bias=self.bias),
            elementwise(
                "activation",
                tokens * up * size,
                tokens * width * size,
                parameters=float(self.learned),
                size=size,
            ),
            linear("down", tokens, hidden, width, precision, DENSE, bias=self.bias),
        )
