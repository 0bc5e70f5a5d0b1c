"""Batched matrix products: as many small products of one shape as there are groups, all in one launch.

As `diffgenz.kernels.gemm`, with the units of work of all groups, and no split along k, which is short:

    x = groups (m + rows) (n + columns) / (tile units)      tiles per compute unit
    a = 2 tile units k / (FLOP/s efficiency) + prologue     one tile, through all of k
    t = sqrt((a sqrt(x**2 + 1))**2 + (bytes / bandwidth)**2) + elements / bandwidth + launch

The last bytes are those of narrow formats, whose activations are quantised (per element of m k).
"""

from typing import ClassVar, NamedTuple

import equinox as eqx
import jax.numpy as jnp

from diffgenz.kernels.form import Chip, Form, Number, Timer, Work, parameter
from diffgenz.smooth import Leaf, Scalar


class BatchedShape(NamedTuple):
    """`groups` products (m, k) x (k, n), and the B that all of them move to and from memory."""

    m: Number
    n: Number
    k: Number
    groups: Number
    moved: Number


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
    quantise: Leaf = parameter(0.1)
    row: Leaf = parameter(0.0003, 1.5)

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
            per_input=3 * self.quantise / chip.bandwidth,
            row=self.row * chip.launch,
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
    per_input: Number
    row: Number
    launch: Number

    def __call__(self, shape: BatchedShape) -> Scalar:
        m, n, k, groups, moved = shape
        x = groups * (m + self.rows) * (n + self.columns) * self.per_tile
        a = k * self.per_depth + self.prologue
        moving = moved * self.per_byte
        return jnp.sqrt(a * a * (x * x + 1) + moving * moving) + m * (groups * k * self.per_input + self.row) + self.launch
