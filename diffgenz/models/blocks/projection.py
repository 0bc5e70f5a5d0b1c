"""A single linear layer in the place of a block, as architecture search leaves it (Nemotron)."""

from typing import ClassVar

import equinox as eqx

from diffgenz.core.smooth import Scalar
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.module import MLP, Module
from diffgenz.operators.linear import linear
from diffgenz.operators.operator import Operator
from diffgenz.operators.step import Step


class Projection(Block):
    """A square linear layer over the residual stream, which every tensor-parallel rank computes.

    norm -> linear

    Arguments:
        norm, norms, reduces: as in `Block`; without an all-reduce by default.
    """

    mixes_tokens: ClassVar[bool] = False

    reduces: bool = eqx.field(static=True, default=False, kw_only=True)

    def work(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        return (linear("projection", step.tokens, hidden, hidden, step.precision, MLP),)

    def modules(self, hidden: Scalar) -> tuple[Module, ...]:
        names = ("self_attn.linear_attn", "mlp.linear_mlp")
        return (Module(MLP, ("projection",), hidden * hidden, names),)
