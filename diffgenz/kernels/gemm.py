"""Matrix products: work per compute unit, and one continuous split of it along k.

x units of work of a seconds each wait for every compute unit; splitting along k makes them shorter, at b seconds a split:

    x = (m + rows) (n + columns) / (tile units)             tiles per compute unit
    a = 2 tile units k / (FLOP/s efficiency) + prologue     one tile, through all of k
    b = merge + reduction 8 m n / bandwidth                 one more split
    r = (b + s a) / (a + b)                                 1 / the best number of splits
    u = sqrt(x**2 + r**2)                                   bound by throughput, or by the latency of one tile
    t = sqrt((a u)**2 + (bytes / bandwidth (1 + stall u / x))**2) + launch
"""

from typing import ClassVar

import equinox as eqx

from diffgenz.kernels.form import Chip, Form, Timer, Work, parameter
from diffgenz.kernels.shapes import GemmShape, Number
from diffgenz.smooth import Leaf, Scalar, hypotenuse, inverse


class Gemm(Form):
    """Products whose operands tensor cores read as they are."""

    Shape: ClassVar[type] = GemmShape

    compute: Leaf = parameter(0.85, 0.5, 1.0)
    memory: Leaf = parameter(0.9, 0.5, 1.0)
    launch: Leaf = parameter(1.0, 0.3)
    prologue: Leaf = parameter(0.1)
    tile: Leaf = parameter(6000.0, 0.5)
    rows: Leaf = parameter(5.0)
    columns: Leaf = parameter(5.0)
    merge: Leaf = parameter(2.0)
    reduction: Leaf = parameter(10.0)
    stall: Leaf = parameter(0.02)
    unsplit: Leaf = parameter(0.01)

    @classmethod
    def work(cls, shape: GemmShape) -> Work:
        return Work(2 * shape.m * shape.n * shape.k, shape.moved)

    def on(self, chip: Chip) -> Timer:
        tiles = self.tile * chip.units
        return GemmTimer(
            per_tile=1 / tiles,
            per_depth=2 * tiles / (chip.flops * self.compute),
            prologue=self.prologue * chip.launch,
            rows=self.rows,
            columns=self.columns,
            merge=self.merge * chip.launch,
            per_output=8 * self.reduction / chip.bandwidth,
            per_byte=1 / (chip.bandwidth * self.memory),
            stall=self.stall,
            unsplit=self.unsplit,
            launch=self.launch * chip.launch,
        )


class QuantisedGemm(Gemm):
    """Products of narrow formats: activations are quantised (per element of m k and per row), outputs scaled (per element of m n)."""

    quantise: Leaf = parameter(0.3)
    scale: Leaf = parameter(0.3)
    row: Leaf = parameter(0.001, 1.5)

    def on(self, chip: Chip) -> Timer:
        per_input, per_output = 3 * self.quantise / chip.bandwidth, 2 * self.scale / chip.bandwidth
        product = super().on(chip)
        return lambda shape: product(shape) + shape.m * (shape.k * per_input + shape.n * per_output + self.row * chip.launch)


class GemmTimer(eqx.Module):
    """A `Gemm` on one accelerator."""

    per_tile: Number
    per_depth: Number
    prologue: Number
    rows: Number
    columns: Number
    merge: Number
    per_output: Number
    per_byte: Number
    stall: Number
    unsplit: Number
    launch: Number

    def __call__(self, shape: GemmShape) -> Scalar:
        m, n, k, moved = shape
        x = (m + self.rows) * (n + self.columns) * self.per_tile
        a = k * self.per_depth + self.prologue
        b = self.merge + m * n * self.per_output
        r = (b + self.unsplit * a) * inverse(a + b)
        u = hypotenuse(x, r)
        return hypotenuse(a * u, moved * self.per_byte * (1 + self.stall * u * inverse(x))) + self.launch
