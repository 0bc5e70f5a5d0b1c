"""A norm that belongs to no other block, such as the one after an embedding."""

from typing import ClassVar

import equinox as eqx

from diffgenz.core.smooth import Scalar
from diffgenz.models.blocks.block import Block
from diffgenz.operators.operator import Operator
from diffgenz.operators.step import Step


class EmbeddingNorm(Block):
    """The norm between the embedding and the first layer (BLOOM).

    Arguments:
        norm, norms, reduces: as in `Block`; without an all-reduce by default.
    """

    mixes_tokens: ClassVar[bool] = False

    reduces: bool = eqx.field(static=True, default=False, kw_only=True)

    def work(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        return ()
