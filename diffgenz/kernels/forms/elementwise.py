"""Kernels bound by memory: norms, activations, rotary embedding, residuals, quantisation, gathers.

    t = launch + bytes / (bandwidth efficiency) (1 - cached / (1 + (bytes / c)**4))
    c = cache megabytes

Operands that the kernel before has left in the last-level cache come faster: up to 1 / (1 - cached)
times while they are well below its size. Its edge is sharp: quantisation on an L40S falls from 5.4
to 0.7 TB/s between 100 and 200 MB.
"""

from typing import ClassVar

from diffgenz.core.smooth import Leaf, inverse
from diffgenz.kernels.form import Form, Work, parameter
from diffgenz.kernels.hardware import Chip
from diffgenz.kernels.shapes import ElementwiseShape, Number

CACHE_SPEED = 8
"""How many times faster than memory a last-level cache is at most.

Measured quantisation on an L40S: 6.6.
"""

MEGABYTE = 1e6
"""Bytes of the unit of `Elementwise.cache` and of other sizes of caches."""


class Elementwise(Form):
    """One pass over memory."""

    Shape: ClassVar[type] = ElementwiseShape

    memory: Leaf = parameter(0.8, 0.5, 1.0)
    launch: Leaf = parameter(1.0, 0.5)
    cached: Leaf = parameter(0.5, 1.0, 1.0)
    cache: Leaf = parameter(50.0)

    @classmethod
    def work(cls, shape: ElementwiseShape) -> Work:
        return Work(0.0 * shape.moved, shape.moved / CACHE_SPEED)

    def seconds(self, shape: ElementwiseShape, chip: Chip) -> Number:
        per_byte = 1 / (chip.bandwidth * self.memory)
        filled = shape.moved * (1 / (self.cache * MEGABYTE))
        square = filled * filled
        missed = 1 - self.cached * inverse(1 + square * square)
        return shape.moved * per_byte * missed + self.launch * chip.launch
