"""Batched matrix products: as many small products of one shape as there are groups, all in one launch.

As `diffgenz.kernels.gemm`, with the units of work of all groups, and no split along k, which is short:

    x = groups (m + rows) (n + columns) / (tile units)      tiles per compute unit
    a = 2 tile units k / (FLOP/s efficiency) + prologue     one tile, through all of k
    y = moved / efficiency + passed 2 groups m (n + k)       bytes
    t = sqrt((a sqrt(x**2 + 1))**2 + (y / bandwidth)**2) + quantise groups m k / bandwidth + launch

Only the second operands must come from memory: the first operands and the outputs, of 2 B an element, pass through the last-level cache between
kernels when they fit, so that less than their bytes may be paid (`passed` below 1). Narrow formats quantise their activations (per element of m k).
"""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from diffgenz.core.smooth import Leaf
from diffgenz.kernels.form import Chip, Form, Timer, Work, parameter
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

    def on(self, chip: Chip) -> Timer:
        tiles = self.tile * chip.units
        return BatchedTimer(
            per_tile=1 / tiles,
            per_depth=2 * tiles / (chip.flops * self.compute),
            prologue=self.prologue * chip.launch,
            rows=self.rows,
            columns=self.columns,
            per_byte=1 / (chip.bandwidth * self.memory),
            per_passed=2 * self.passed / chip.bandwidth,
            per_input=self.quantise / chip.bandwidth,
            launch=self.launch * chip.launch,
        )


class BatchedTimer(eqx.Module):
    """A `BatchedGemm` on one accelerator."""

    per_tile: Number
    per_depth: Number
    prologue: Number
    rows: Number
    columns: Number
    per_byte: Number
    per_passed: Number
    per_input: Number
    launch: Number

    def __call__(self, shape: BatchedShape) -> Number:
        m, n, k, groups, moved = shape
        x = groups * (m + self.rows) * (n + self.columns) * self.per_tile
        a = k * self.per_depth + self.prologue
        rows = groups * m
        moving = moved * self.per_byte + rows * (n + k) * self.per_passed
        return (
            jnp.sqrt(a * a * (x * x + 1) + moving * moving)
            + rows * k * self.per_input
            + self.launch
        )
