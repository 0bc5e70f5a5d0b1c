"""Low-rank adapters, which make each use of a shared block differ from the others."""

from typing import ClassVar

import equinox as eqx

from diffgenz.core.record import number
from diffgenz.core.smooth import Leaf, Scalar, ceil_share
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.module import MLP, Module
from diffgenz.models.blocks.norm import Norm
from diffgenz.operators.linear import linear
from diffgenz.operators.operator import Operator
from diffgenz.operators.step import Step


class Adapter(Block):
    """The layers that each use of Zamba2's shared block has of its own (arXiv 2411.15242).

    They are a low-rank adapter of the gated MLP and a projection of the block's output.

    Arguments:
        rank: width of the adapter, at least 1.
        intermediate: width of the MLP that it adapts, at least 1.
        norm, norms, reduces: as in `Block`; without a norm or an all-reduce by default.
    """

    mixes_tokens: ClassVar[bool] = False

    rank: Leaf = number(at_least=1)
    intermediate: Leaf = number(at_least=1)
    norm: Norm | None = eqx.field(static=True, default=None, kw_only=True)
    reduces: bool = eqx.field(static=True, default=False, kw_only=True)

    def work(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        precision, tokens = step.precision, step.tokens
        return (
            linear("adapter_down", tokens, self.rank, hidden, precision, "mlp"),
            linear(
                "adapter_up",
                tokens,
                2 * ceil_share(self.intermediate, step.shard),
                self.rank,
                precision,
                "mlp",
            ),
            linear("shared_out", tokens, hidden, hidden, precision, "mlp"),
        )

    def modules(self, hidden: Scalar) -> tuple[Module, ...]:
        adapter = "feed_forward.gate_up_proj_adapter_list.0"
        return (
            Module(MLP, ("adapter_down",), self.rank * hidden, (f"{adapter}.0",)),
            Module(MLP, ("adapter_up",), 2 * self.intermediate * self.rank, (f"{adapter}.1",)),
            Module(MLP, ("shared_out",), hidden * hidden, ("linear",)),
        )
