"""The base of all blocks: what a block of layers has to say of itself.

A new block is one class in a file beside this one:

- inherit from `Block` and declare its sizes with `number`,
- define `mixes_tokens` and `work`, which returns the operators between the norm and the all-reduce,
- define `cache` where it keeps keys and values,
- define `core` too where attention depends on the context, and use it in `work`,
- define `most_shards` where heads are handed out to tensor-parallel ranks,
- define `modules`, where checkpoints may store its weights in narrower formats than dtype.
"""

import enum
from abc import abstractmethod
from typing import ClassVar

import equinox as eqx
import numpy as np

from diffgenz.core import xp
from diffgenz.core.record import Record
from diffgenz.core.smooth import Scalar
from diffgenz.models.blocks.module import Module
from diffgenz.models.blocks.norm import Norm, norm
from diffgenz.operators.message import AllReduce, Axis
from diffgenz.operators.operator import Operator
from diffgenz.operators.step import Step


class Cache(enum.Enum):
    """What a block keeps of each sequence."""

    FULL = "full"  # something of every token
    WINDOW = "window"  # something of the last tokens
    STATE = "state"  # as much for any number of tokens


class Block(Record):
    """One sub-layer of a model (attention, MLP, ...), with the norms and the residual around it.

    Arguments:
        norm: the norm before it, or None where the block shares that of another (parallel blocks).
        norms: how many norms it has (2 where one follows the block, as in Gemma 2).
        reduces: whether it ends in an all-reduce of the hidden states over the tensor-parallel
            ranks (parallel blocks share one).
    """

    mixes_tokens: ClassVar[bool]
    """Whether it looks at other tokens. A layer has one such block."""

    keeps_state: ClassVar[bool] = False
    """Whether tokens pass through a state one after another, which context ranks cannot share."""

    norm: Norm | None = eqx.field(static=True, default=Norm.RMS, kw_only=True)
    norms: int = eqx.field(static=True, default=1, kw_only=True)
    reduces: bool = eqx.field(static=True, default=True, kw_only=True)

    @property
    def cache(self) -> Cache | None:
        """The one kind of cache that it keeps; None where it keeps nothing, or several kinds."""
        return Cache.STATE if self.keeps_state else None

    @property
    def most_shards(self) -> Scalar:
        """Tensor-parallel ranks that can share it: no limit, unless it has heads to hand out."""
        return xp.asarray(np.inf)

    @property
    def experts(self) -> Scalar | None:
        """Routed experts, or None where there are none."""
        return None

    def normalised(self, hidden: Scalar) -> Scalar:
        """Features that its norm works on: for most blocks, those of the residual stream."""
        return hidden

    def operators(
        self, hidden: Scalar, step: Step, reduction: AllReduce | None = None
    ) -> tuple[Operator, ...]:
        """The kernels of one execution on one device, with their messages.

        Arguments:
            hidden: width of the residual stream.
            step: the iteration; the device holds `step.shard` of the block's heads or features,
                rounded up.
            reduction: the all-reduce that it ends in. All blocks can be given the same record,
                which is then timed once. Default: one of its own.
        """
        operators = self.work(hidden, step)
        if self.reduces:
            reduction = reduction or reduction_of(hidden, step)
            operators = (*operators[:-1], operators[-1].sending(reduction))
        if self.norm is None:
            return operators
        return norm(self.norm, self.normalised(hidden), step, count=self.norms), *operators

    @abstractmethod
    def work(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        """The kernels between the norm and the all-reduce.

        Arguments:
            hidden: as in `operators`.
            step: as in `operators`.
        """

    def modules(self, hidden: Scalar) -> tuple[Module, ...]:
        """The weights of all its `operators.linear.linear` layers, as checkpoints name them.

        Layers that are always kept in dtype (routers) are none of them.

        Arguments:
            hidden: as in `operators`.
        """
        return ()

    def core(self, step: Step) -> tuple[Operator, ...]:
        """The kernels of `work` that depend on the context (`Kind.ATTENTION`), and no others.

        A decode iteration evaluates these at several context lengths, and all others once.
        """
        return ()


def reduction_of(hidden: Scalar, step: Step) -> AllReduce:
    """The all-reduce of the new tokens' hidden states over the tensor-parallel ranks."""
    volume = step.tokens * hidden * step.precision.message_size
    return AllReduce("all_reduce", Axis.TENSOR, volume, step.reduction_launches)
