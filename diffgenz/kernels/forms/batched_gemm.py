"""Batched matrix products: many small products of one shape, one for each group, in one launch.

As in `gemm`, with the units of work of all groups, and no split along k, which is short:

    x = groups (m + rows) (n + columns) / (tile units)       tiles per compute unit
    a = 2 tile units k / (FLOP/s efficiency) + prologue      one tile, through all of k
    y = moved / efficiency + passed 2 groups m (n + k)       bytes
    t = sqrt((a sqrt(x**2 + 1))**2 + (y / bandwidth)**2)
        + quantise groups m k / bandwidth + launch

Only the second operands must come from memory. The first operands and the outputs, of 2 B an
element, pass through the last-level cache between kernels when they fit, so that less than their
bytes may be paid (`passed` below 1). Narrow formats quantise their activations, per element of m k.
"""

from typing import ClassVar

from diffgenz.core import xp
from diffgenz.core.smooth import Leaf
from diffgenz.kernels.form import Form, Work, parameter
from diffgenz.kernels.hardware import Chip
from diffgenz.kernels.shapes import BatchedShape, Number


class BatchedGemm(Form):
    """Products with operands of their own."""

    Shape: ClassVar[type] = BatchedShape

    compute: Leaf = parameter(0.7, 0.5, 1.0)
    memory: Leaf = parameter(0.8, 0.5, 1.0)
    launch: Leaf = parameter(1.3, 0.3)
    prologue: Leaf = parameter(0.3)
    tile: Leaf = parameter(6000.0, 0.5)
    rows: Leaf = parameter(10.0)
    columns: Leaf = parameter(5.0)
    passed: Leaf = parameter(1.0, 0.5)
    quantise: Leaf = parameter(0.3, 1.5)

    @classmethod
    def work(cls, shape: BatchedShape) -> Work:
        return Work(2 * shape.groups * shape.m * shape.n * shape.k, shape.moved)

    def seconds(self, shape: BatchedShape, chip: Chip) -> Number:
        m, n, k, groups, moved = shape
        tiles = self.tile * chip.units
        x = groups * (m + self.rows) * (n + self.columns) * (1 / tiles)
        per_depth = 2 * tiles / (chip.flops * self.compute)
        a = k * per_depth + self.prologue * chip.launch
        rows = groups * m
        passing = rows * (n + k) * (2 * self.passed / chip.bandwidth)
        moving = moved * (1 / (chip.bandwidth * self.memory)) + passing
        quantising = rows * k * (self.quantise / chip.bandwidth)
        busy = xp.sqrt(a * a * (x * x + 1) + moving * moving)
        return busy + quantising + self.launch * chip.launch
