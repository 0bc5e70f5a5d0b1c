"""Matrix products: work per compute unit, and one continuous split of it along k.

x tiles of a seconds each wait for every compute unit. Splitting along k makes them shorter, at b
seconds a split:

    rows = m + padding (m rounded up to 64 - m)
    x = rows (n + columns) / (tile units share)         tiles per compute unit
    a = 2 tile share units k / (FLOP/s efficiency)      one tile, through all of k; and a prologue
    b = merge + reduction 8 m n / bandwidth             one more split
    r = s + (1 - s) b / sqrt(a**2 + b**2)               1 / the best number of splits
    u = sqrt(x**2 + r**2)                               bound by throughput or one tile's latency
    u += queue (x + r - u)                              tiles that wait for those before them
    w = 2 m n k / FLOP/s                                power limits slow down long products
    c = a u (1 + throttle w / (w + 500 launches))
    t = sqrt(c**2 + (bytes / (bandwidth efficiency) (1 + stall r / x))**2) + launch

s is the part that is never split. In `Gemm` (cuBLAS has a tile for every shape), share is 1, and
the prologue adds to a. In `QuantisedGemm` (a few tiles in all), tiles are smaller where rows are
few, share = (rows**2 + full**2 / 16) / (rows**2 + full**2), and the prologue overlaps, as
sqrt(a**2 + prologue**2). More than 64 rows are padded to 128 too, more than 128 to 256. Kernels may
be slower just above a whole tile than at the next (H100, CUTLASS: m = 257 takes longer than 512),
so paddings may exceed 1.
"""

from typing import ClassVar

from diffgenz.core import xp
from diffgenz.core.smooth import Leaf, hypotenuse, inverse
from diffgenz.kernels.form import Form, Work, parameter
from diffgenz.kernels.hardware import Chip
from diffgenz.kernels.shapes import GemmShape, Number

STEP = 64.0
"""Rows of the smallest tile that tensor cores fill."""

SMALLEST = 1 / 16
"""The smallest tile's share of a full one."""

LONG = 500.0
"""Launches (about a millisecond) after which power limits set the pace instead of boost clocks."""


class Gemm(Form):
    """Products whose operands tensor cores read as they are."""

    Shape: ClassVar[type] = GemmShape
    steady: ClassVar[dict[str, float]] = {"padding": 1.0}
    """Fewer rows than the smallest tile has take as long as a whole one, neither more nor less."""

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

    def seconds(self, shape: GemmShape, chip: Chip) -> Number:
        x = self._tiles(self._padded(shape.m), shape.n, chip)
        a = self._through(shape.k, chip) + self.prologue * chip.launch
        return self._product(shape, chip, x, a)

    def _padded(self, m: Number) -> Number:
        """Rows that are worked on."""
        return m + self.padding * (self._to(STEP, m) - m)

    def _to(self, step: float, m: Number) -> Number:
        """m, rounded up to whole steps."""
        return step * self.rounded_up(m * (1 / step))

    def _tiles(self, rows: Number, n: Number, chip: Chip) -> Number:
        """Full tiles per compute unit."""
        return rows * (n + self.columns) * (1 / (self.tile * chip.units))

    def _through(self, k: Number, chip: Chip) -> Number:
        """Seconds of one full tile, through all of k."""
        return k * (2 * (self.tile * chip.units) / (chip.flops * self.compute))

    def _product(self, shape: GemmShape, chip: Chip, x: Number, a: Number) -> Number:
        """Seconds, for `x` tiles per compute unit that take `a` seconds each."""
        m, n, k, moved = shape
        b = self.merge * chip.launch + m * n * (8 * self.reduction / chip.bandwidth)
        c, w = hypotenuse(a, b), m * n * k * (2 / chip.flops)
        long = w + LONG * chip.launch
        y = inverse(c * (x * long))  # one reciprocal for three numbers
        r = self.unsplit + (1 - self.unsplit) * b * (y * (x * long))
        u = hypotenuse(x, r)
        u = u + self.queue * (x + r - u)
        computing = a * u * (1 + self.throttle * w * (y * (x * c)))
        moving = moved * (1 / (chip.bandwidth * self.memory))
        moving = moving * (1 + self.stall * r * (y * (c * long)))
        return hypotenuse(computing, moving) + self.launch * chip.launch


class QuantisedGemm(Gemm):
    """Products of narrow formats.

    Activations are quantised (per element of m k and per row), and outputs scaled (per element of
    m n).
    """

    padding_128: Leaf = parameter(0.3)
    padding_256: Leaf = parameter(0.1)
    full: Leaf = parameter(100.0)
    quantise: Leaf = parameter(0.3)
    scale: Leaf = parameter(0.3)
    row: Leaf = parameter(0.001, 1.5)

    def seconds(self, shape: GemmShape, chip: Chip) -> Number:
        m, n, k, _ = shape
        to_64, to_128, to_256 = (self._to(step, m) for step in (STEP, 2 * STEP, 4 * STEP))
        rows = self._padded(m)
        rows = rows + self.padding_128 * self._above(STEP, m, to_128 - to_64)
        rows = rows + self.padding_256 * self._above(2 * STEP, m, to_256 - to_128)

        full = self.full * self.full
        square = rows * rows
        small, large = square + SMALLEST * full, square + full  # share = small / large
        x = self._tiles(rows, n, chip) * large * inverse(small)
        a = self._through(k, chip) * small * inverse(large)
        a = hypotenuse(a, self.prologue * chip.launch)

        quantising = k * (3 * self.quantise / chip.bandwidth)
        scaling = n * (2 * self.scale / chip.bandwidth)
        per_row = quantising + scaling + self.row * chip.launch
        return self._product(shape, chip, x, a) + m * per_row

    def _above(self, limit: float, m: Number, x: Number) -> Number:
        """`x` for more than `limit` rows, else 0; a smooth form passes from one to the other."""
        if not self.smooth:
            return xp.where(m > limit, x, 0.0)
        square = m * m
        fourth = square * square
        return x * (fourth * inverse(fourth + (2 * limit) ** 4))
