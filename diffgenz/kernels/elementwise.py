"""Kernels bound by memory: norms, activations, rotary embedding, residuals, quantisation, gathers.

    y = bytes / (bandwidth efficiency)
    t = launch + y (1 - cached s / (y + s)),  s = cache launches

Operands that the kernel before has left in the last-level cache come faster: up to 1 / (1 - cached) times while y is well below s.
"""

from typing import ClassVar

from diffgenz.kernels.form import Chip, Form, Timer, Work, parameter
from diffgenz.kernels.shapes import ElementwiseShape, Number
from diffgenz.smooth import Leaf, inverse

CACHE_SPEED = 8
"""How many times faster than memory a last-level cache is at most (measured quantisation on an L40S: 6.6)."""


class Elementwise(Form):
    """One pass over memory."""

    Shape: ClassVar[type] = ElementwiseShape

    memory: Leaf = parameter(0.8, 0.5, 1.0)
    launch: Leaf = parameter(1.0, 0.5)
    cached: Leaf = parameter(0.5, 1.0, 1.0)
    cache: Leaf = parameter(8.0)

    @classmethod
    def work(cls, shape: ElementwiseShape) -> Work:
        return Work(0.0 * shape.moved, shape.moved / CACHE_SPEED)

    def on(self, hardware: Chip, /) -> Timer:
        per_byte, launch = 1 / (hardware.bandwidth * self.memory), self.launch * hardware.launch
        large = self.cache * hardware.launch
        small = (1 - self.cached) * large

        def timer(shape: ElementwiseShape) -> Number:
            y = shape.moved * per_byte
            return y * (y + small) * inverse(y + large) + launch

        return timer
