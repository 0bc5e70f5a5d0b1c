"""Short causal convolutions along the tokens, with one filter for each channel.

They keep the last width - 1 tokens of each sequence.

    bytes = 4 sequences channels (queries + width - 1)      bf16, read and written, kept tokens too
    t = sqrt((blocks sequences channels / units)**2 + (bytes / (bandwidth efficiency))**2)
        + min(queries, 8) token + launch

Some kernels give every channel of a sequence a block of its own, however few its tokens; others
take 8 tokens to a block, one after the other.
"""

from typing import ClassVar

from diffgenz.core import xp
from diffgenz.core.smooth import Leaf
from diffgenz.kernels.form import Form, Work, parameter
from diffgenz.kernels.hardware import Chip
from diffgenz.kernels.shapes import ConvShape, Number

TOKEN_BLOCK = 8
"""Tokens that one block takes, one after the other."""


class CausalConv(Form):
    """Convolution and activation, over prompts or over new tokens."""

    Shape: ClassVar[type] = ConvShape

    memory: Leaf = parameter(0.7, 0.5, 1.0)
    launch: Leaf = parameter(1.0, 0.5)
    blocks: Leaf = parameter(0.001, 2.0)
    token: Leaf = parameter(0.03, 1.5)

    @classmethod
    def work(cls, shape: ConvShape) -> Work:
        """Inputs read once; outputs may stay in a cache."""
        elements = shape.sequences * shape.queries * shape.channels
        return Work(2 * elements * shape.width, 2 * elements)

    def seconds(self, shape: ConvShape, chip: Chip) -> Number:
        sequences, queries, channels, width = shape
        filters = sequences * channels
        starting = filters * (self.blocks * chip.launch / chip.units)
        moving = filters * (queries + width - 1) * (4 / (chip.bandwidth * self.memory))
        waiting = xp.minimum(queries, TOKEN_BLOCK) * (self.token * chip.launch)
        busy = xp.sqrt(starting * starting + moving * moving)
        return busy + waiting + self.launch * chip.launch
