"""What a block of layers has to say of itself."""

from abc import abstractmethod
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from diffgenz.core.record import Record
from diffgenz.core.smooth import Scalar
from diffgenz.operators.operator import Exchange, Operator
from diffgenz.operators.step import Step


class Block(Record):
    """One sub-layer of a model (attention, MLP, ...), with the norms and the residual addition around it."""

    mixes_tokens: ClassVar[bool]
    """Whether it looks at other tokens; a layer has one such block."""

    keeps_state: ClassVar[bool] = False
    """Whether tokens pass through a state one after the other, which context-parallel ranks cannot share."""

    reduces: eqx.AbstractVar[bool]
    """Whether it ends in an all-reduce of the hidden states over the tensor-parallel ranks."""

    @property
    def most_shards(self) -> Scalar:
        """Tensor-parallel ranks that can share it; unlimited, unless it has heads to hand out."""
        return jnp.asarray(jnp.inf)

    @property
    def experts(self) -> Scalar | None:
        """Routed experts, or None where there are none."""
        return None

    def exchange(self, hidden: Scalar, step: Step) -> Exchange | None:
        """What goes to experts on other ranks and back, where groups of ranks have tokens of their own; None where there are no experts."""
        return None

    @abstractmethod
    def operators(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        """The kernels of one execution on one device.

        Arguments:
            hidden: the model's width.
            step: the iteration; the device holds `step.shard` of the block's heads or features, rounded up.
        """
