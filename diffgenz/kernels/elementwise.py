"""Kernels bound by memory: norms, activations, rotary embedding, residuals, quantisation, gathers.

t = launch + bytes / (bandwidth efficiency)
"""

from typing import ClassVar

from diffgenz.kernels.form import Chip, Form, Timer, Work, parameter
from diffgenz.kernels.shapes import ElementwiseShape
from diffgenz.smooth import Leaf


class Elementwise(Form):
    """One pass over memory."""

    Shape: ClassVar[type] = ElementwiseShape

    memory: Leaf = parameter(0.8, 0.5, 1.0)
    launch: Leaf = parameter(1.0, 0.5)

    @classmethod
    def work(cls, shape: ElementwiseShape) -> Work:
        return Work(0.0 * shape.moved, shape.moved)

    def on(self, hardware: Chip, /) -> Timer:
        per_byte, launch = 1 / (hardware.bandwidth * self.memory), self.launch * hardware.launch
        return lambda shape: shape.moved * per_byte + launch
