"""Short causal convolutions along the tokens, one filter for each channel, which keep the last width - 1 tokens of each sequence.

    bytes = 4 sequences channels (queries + width - 1)          bf16, read and written; the kept tokens too
    t = sqrt((blocks sequences channels / units)**2 + (bytes / (bandwidth efficiency))**2) + min(queries, 8) token + launch

Some kernels give every sequence's channel a block of its own, however few its tokens; others take 8 tokens to a block, one after the other.
"""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from diffgenz.core.smooth import Leaf
from diffgenz.kernels.form import Chip, Form, Timer, Work, parameter
from diffgenz.kernels.shapes import ConvShape, Number

TOKEN_BLOCK = 8


class CausalConv(Form):
    """Convolution and activation, over prompts or new tokens; least traffic: read once, since outputs may stay in a cache."""

    Shape: ClassVar[type] = ConvShape

    memory: Leaf = parameter(0.7, 0.5, 1.0)
    launch: Leaf = parameter(1.0, 0.5)
    blocks: Leaf = parameter(0.001, 2.0)
    token: Leaf = parameter(0.03, 1.5)

    @classmethod
    def work(cls, shape: ConvShape) -> Work:
        elements = shape.sequences * shape.queries * shape.channels
        return Work(2 * elements * shape.width, 2 * elements)

    def on(self, chip: Chip) -> Timer:
        return ConvTimer(
            per_element=4 / (chip.bandwidth * self.memory),
            per_block=self.blocks * chip.launch / chip.units,
            token=self.token * chip.launch,
            launch=self.launch * chip.launch,
        )


class ConvTimer(eqx.Module):
    """A `CausalConv` on one accelerator."""

    per_element: Number
    per_block: Number
    token: Number
    launch: Number

    def __call__(self, shape: ConvShape) -> Number:
        sequences, queries, channels, width = shape
        filters = sequences * channels
        starting, moving = (
            filters * self.per_block,
            filters * (queries + width - 1) * self.per_element,
        )
        return (
            jnp.sqrt(starting * starting + moving * moving)
            + jnp.minimum(queries, TOKEN_BLOCK) * self.token
            + self.launch
        )
