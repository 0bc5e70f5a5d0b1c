"""Attention and a state-space mixer in parallel in one layer, as in Falcon-H1."""

from typing import ClassVar

from diffgenz.core import xp
from diffgenz.core.errors import InputError
from diffgenz.core.smooth import Scalar
from diffgenz.models.blocks.attention import Attention
from diffgenz.models.blocks.block import Block, Cache
from diffgenz.models.blocks.mamba import Mamba2
from diffgenz.models.blocks.module import Module
from diffgenz.operators.operator import Operator
from diffgenz.operators.step import Step


class SideBySide(Block):
    """Two mixers that read the same normalised input and add up their outputs.

    norm -> attention + Mamba-2 -> all-reduce

    Arguments:
        attention: the attention block, which has no norm and no all-reduce of its own.
        mixer: the Mamba-2 block, likewise.
        norm, norms, reduces: as in `Block`.

    Raises:
        InputError: one of them has a norm or an all-reduce of its own.
    """

    mixes_tokens: ClassVar[bool] = True
    keeps_state: ClassVar[bool] = True

    attention: Attention
    mixer: Mamba2

    def conditions(self) -> tuple[()]:
        for name, block in (("attention", self.attention), ("mixer", self.mixer)):
            if block.norm is not None or block.reduces:
                raise InputError(
                    f"{name}: has a norm or an all-reduce of its own; give norm=None, reduces=False"
                )
        return ()

    @property
    def cache(self) -> Cache | None:
        return None

    @property
    def most_shards(self) -> Scalar:
        """Tensor-parallel ranks that can share it: one head of each mixer each."""
        return xp.minimum(self.attention.most_shards, self.mixer.most_shards)

    def work(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        return (*self.mixer.work(hidden, step), *self.attention.work(hidden, step))

    def modules(self, hidden: Scalar) -> tuple[Module, ...]:
        return (*self.mixer.modules(hidden), *self.attention.modules(hidden))

    def core(self, step: Step) -> tuple[Operator, ...]:
        return self.attention.core(step)
