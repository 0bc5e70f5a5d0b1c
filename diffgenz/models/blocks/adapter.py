"""Low-rank adapters, by which each use of a shared block differs from the others."""

from typing import ClassVar

import equinox as eqx

from diffgenz.core.checks import check
from diffgenz.core.smooth import Leaf, Scalar, as_leaf, ceil_share
from diffgenz.models.blocks.block import Block
from diffgenz.operators.operator import Operator, linear
from diffgenz.operators.step import Step


class Adapter(Block):
    """What one use of Zamba2's shared block has of its own (arXiv 2411.15242): an adapter of the gated MLP, and a projection of the block's output.

    Arguments:
        rank: of the adapter. intermediate: width of the MLP that it adapts.
    """

    mixes_tokens: ClassVar[bool] = False

    rank: Leaf = eqx.field(converter=as_leaf)
    intermediate: Leaf = eqx.field(converter=as_leaf)
    reduces: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        for field in ("rank", "intermediate"):
            check(field, getattr(self, field), minimum=1)

    def operators(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        precision, tokens = step.precision, step.tokens
        return (
            linear("adapter_down", tokens, self.rank, hidden, precision),
            linear(
                "adapter_up",
                tokens,
                2 * ceil_share(self.intermediate, step.shard),
                self.rank,
                precision,
            ),
            linear("shared_out", tokens, hidden, hidden, precision),
        )
