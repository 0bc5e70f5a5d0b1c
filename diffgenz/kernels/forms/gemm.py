"""Matrix products: work per compute unit, and one continuous split of it along k.

x tiles of a seconds each wait for every compute unit; splitting along k makes them shorter, at b seconds a split:

    rows = m + padding (m rounded up to 64 - m)
    x = rows (n + columns) / (tile units share)             tiles per compute unit
    a = 2 tile share units k / (FLOP/s efficiency), and a prologue: one tile, through all of k
    b = merge + reduction 8 m n / bandwidth                 one more split
    r = s + (1 - s) b / sqrt(a**2 + b**2)                   1 / the best number of splits; s: the part that is never split
    u = sqrt(x**2 + r**2)                                   bound by throughput, or by the latency of one tile
    u += queue (x + r - u)                                  tiles that wait for those before them
    w = 2 m n k / FLOP/s                                    power limits lower the clocks of long products
    c = a u (1 + throttle w / (w + 500 launches))
    t = sqrt(c**2 + (bytes / (bandwidth efficiency) (1 + stall r / x))**2) + launch

`Gemm` (cuBLAS has a tile for every shape): share = 1, and the prologue adds to a. `QuantisedGemm` (a few tiles in all): with few rows, tiles are
smaller, share = (rows**2 + full**2 / 16) / (rows**2 + full**2), and the prologue overlaps, as sqrt(a**2 + prologue**2). More than 64 rows are padded
to 128 too, more than 128 to 256. Kernels may be slower just above a whole tile than at the next (H100, CUTLASS: m = 257 takes longer than 512), so
paddings may exceed 1.
"""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from diffgenz.core.smooth import Leaf, hypotenuse, inverse
from diffgenz.kernels.form import Chip, Form, Timer, Work, parameter
from diffgenz.kernels.shapes import GemmShape, Number

STEP = 64.0
"""Rows of the smallest tile that tensor cores fill."""

SMALLEST = 1 / 16
"""The smallest tile's share of a full one."""

LONG = 500.0
"""Launches (a millisecond, about) after which power limits, not boost clocks, set the pace."""


class Gemm(Form):
    """Products whose operands tensor cores read as they are."""

    Shape: ClassVar[type] = GemmShape

    compute: Leaf = parameter(0.85, 0.5, 1.0)
    memory: Leaf = parameter(0.9, 0.5, 1.0)
    launch: Leaf = parameter(1.0, 0.3)
    prologue: Leaf = parameter(0.1)
    tile: Leaf = parameter(6000.0, 0.5)
    padding: Leaf = parameter(0.3)
    columns: Leaf = parameter(5.0)
    merge: Leaf = parameter(2.0)
    reduction: Leaf = parameter(10.0)
    unsplit: Leaf = parameter(0.03, 1.0, 1.0)
    queue: Leaf = parameter(0.3, 1.0, 1.0)
    stall: Leaf = parameter(0.02)
    throttle: Leaf = parameter(0.1)

    @classmethod
    def work(cls, shape: GemmShape) -> Work:
        return Work(2 * shape.m * shape.n * shape.k, shape.moved)

    def on(self, chip: Chip) -> Timer:
        product = self._product(chip)

        def timer(shape: GemmShape) -> Number:
            rows = product.padded(shape.m)
            return product(
                shape, product.tiles(rows, shape.n), shape.k * product.per_depth + product.prologue
            )

        return timer

    def _product(self, chip: Chip) -> "Product":
        tiles = self.tile * chip.units
        return Product(
            padding=self.padding,
            columns=self.columns,
            per_tile=1 / tiles,
            per_depth=2 * tiles / (chip.flops * self.compute),
            prologue=self.prologue * chip.launch,
            merge=self.merge * chip.launch,
            per_output=8 * self.reduction / chip.bandwidth,
            unsplit=self.unsplit,
            queue=self.queue,
            per_product=2 / chip.flops,
            throttle=self.throttle,
            long=LONG * chip.launch,
            per_byte=1 / (chip.bandwidth * self.memory),
            stall=self.stall,
            launch=self.launch * chip.launch,
        )


class QuantisedGemm(Gemm):
    """Products of narrow formats: activations are quantised (per element of m k and per row), outputs scaled (per element of m n)."""

    padding_128: Leaf = parameter(0.3)
    padding_256: Leaf = parameter(0.1)
    full: Leaf = parameter(100.0)
    quantise: Leaf = parameter(0.3)
    scale: Leaf = parameter(0.3)
    row: Leaf = parameter(0.001, 1.5)

    def on(self, chip: Chip) -> Timer:
        product, full = self._product(chip), self.full * self.full
        per_input, per_output, per_row = (
            3 * self.quantise / chip.bandwidth,
            2 * self.scale / chip.bandwidth,
            self.row * chip.launch,
        )

        def timer(shape: GemmShape) -> Number:
            m = shape.m
            to_64, to_128, to_256 = (_rounded_up(m, step) for step in (STEP, 2 * STEP, 4 * STEP))
            rows = product.padded(m)
            rows = rows + self.padding_128 * jnp.where(m > STEP, to_128 - to_64, 0.0)
            rows = rows + self.padding_256 * jnp.where(m > 2 * STEP, to_256 - to_128, 0.0)
            square = rows * rows
            small, large = square + SMALLEST * full, square + full
            x = product.tiles(rows, shape.n) * large * inverse(small)
            a = hypotenuse(shape.k * product.per_depth * small * inverse(large), product.prologue)
            return product(shape, x, a) + m * (shape.k * per_input + shape.n * per_output + per_row)

        return timer


def _rounded_up(m: Number, step: float) -> Number:
    return step * jnp.ceil(m * (1 / step))


class Product(eqx.Module):
    """A `Gemm` on one accelerator, given the tiles per compute unit and the seconds of one."""

    padding: Number
    columns: Number
    per_tile: Number
    per_depth: Number
    prologue: Number
    merge: Number
    per_output: Number
    unsplit: Number
    queue: Number
    per_product: Number
    throttle: Number
    long: Number
    per_byte: Number
    stall: Number
    launch: Number

    def padded(self, m: Number) -> Number:
        """Rows that are worked on."""
        return m + self.padding * (_rounded_up(m, STEP) - m)

    def tiles(self, rows: Number, n: Number) -> Number:
        """Full tiles per compute unit."""
        return rows * (n + self.columns) * self.per_tile

    def __call__(self, shape: GemmShape, x: Number, a: Number) -> Number:
        m, n, k, moved = shape
        b = self.merge + m * n * self.per_output
        r = self.unsplit + (1 - self.unsplit) * b * inverse(hypotenuse(a, b))
        u = hypotenuse(x, r)
        u = u + self.queue * (x + r - u)
        w = m * n * k * self.per_product
        computing = a * u * (1 + self.throttle * w * inverse(w + self.long))
        return (
            hypotenuse(computing, moved * self.per_byte * (1 + self.stall * r * inverse(x)))
            + self.launch
        )
