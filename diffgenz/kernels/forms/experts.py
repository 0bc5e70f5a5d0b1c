"""Experts of a mixture: two grouped products, of the busiest of the expert-parallel groups.

    R     = tokens used excess / groups                         rows that the group multiplies
    q     = R / local,  local = experts / groups                rows over experts of the group
    r     = (1 + q + sqrt((1 - q)**2 + 4 q variation)) / 2      rows of an expert that has any
    A     = R / r                                               experts of the group with any row
    share = (r**2 + full**2 / 16) / (r**2 + full**2)            smaller tiles where rows are few
    x     = (R + padding share A) (columns + edge) / (tile units share)
    u     = sqrt(x**2 + 1)
    a     = 2 tile share units / (FLOP/s efficiency)
    tc    = (hidden a + prologue) u_up + (width a + prologue) u_down
    tm    = (weights of A experts / memory + activation bytes of R rows) / bandwidth
            (1 + stall u_up / x_up)
    ts    = launch + expert local + token tokens + sort R / (R + 64)
    tg    = 2 tokens used (hidden gather + up activate) / bandwidth
    t     = sqrt(tc**2 + tm**2) + ts + tg

x is the tiles per compute unit, for either product. ts are the kernels before, between and after,
more of them where rows are many. tg are rows that are gathered and activated, those of the other
groups among them. A is min(R, local) where rows are dealt out (variation 0), and exact where
experts' popularity is exponentially distributed (variation 1: r = 1 + q). For other numbers of
experts with a row, `variation_of` gives the variation that stands for them.
"""

from typing import ClassVar

from diffgenz.core import xp
from diffgenz.core.smooth import Leaf, hypotenuse, inverse
from diffgenz.kernels.form import Form, Work, parameter
from diffgenz.kernels.hardware import Chip
from diffgenz.kernels.shapes import ExpertsShape, Number

SMALLEST = 1 / 16
"""The smallest tile's share of a full one."""

MANY = 64.0
"""Rows at which half of the kernels that sort many rows show."""


def variation_of(share: Number, rows: Number) -> Number:
    """Invert `Experts`' count of active experts.

    The form predicts from `variation`, the squared coefficient of variation of the experts'
    popularity, how many of them receive a row; this returns the variation for which the prediction
    equals an observed count.

    Arguments:
        share: active experts / experts of the group, in (0, 1], at most `rows`.
        rows: rows of the group / experts of the group.
    """
    excess = (rows - share) * (1 - share) / (share * share)
    return 0.5 * (excess + abs(excess))  # rounding must not make it negative


def rows_of_active(shape: ExpertsShape) -> tuple[Number, Number]:
    """Rows of the busiest group, and the mean rows of each of its experts that have any."""
    s = shape
    rows = s.tokens * s.used * s.excess / s.groups
    q = s.tokens * s.used * s.excess / s.experts
    # 1e-5 keeps the root's derivative finite where rows that are dealt out just fill the experts
    return rows, 0.5 * (1 + q + xp.sqrt((1 - q) ** 2 + 4 * q * (s.variation + 1e-5)))


class Experts(Form):
    """Grouped products of tokens that were sorted by expert."""

    Shape: ClassVar[type] = ExpertsShape
    host_floor: ClassVar[float] = 40.0
    """Half a dozen kernels, one after the other."""

    compute: Leaf = parameter(0.7, 0.5, 1.0)
    memory: Leaf = parameter(0.8, 0.5, 1.0)
    launch: Leaf = parameter(10.0, 0.7)
    prologue: Leaf = parameter(0.3)
    tile: Leaf = parameter(6000.0, 0.5)
    full: Leaf = parameter(30.0)
    padding: Leaf = parameter(16.0)
    edge: Leaf = parameter(20.0)
    stall: Leaf = parameter(0.02)
    activation: Leaf = parameter(1.0)
    sort: Leaf = parameter(2.0)
    expert: Leaf = parameter(0.01, 1.5)
    token: Leaf = parameter(0.001, 1.5)
    gather: Leaf = parameter(0.3)
    activate: Leaf = parameter(0.3)

    @classmethod
    def work(cls, shape: ExpertsShape) -> Work:
        """Products of the busiest group's rows; the weights of its active experts read once."""
        s = shape
        rows, of_active = rows_of_active(s)
        return Work(
            2 * rows * s.hidden * (s.up + s.width),
            rows / of_active * s.hidden * (s.up + s.width) * s.weight_size,
        )

    def seconds(self, shape: ExpertsShape, chip: Chip) -> Number:
        s = shape
        rows, of_active = rows_of_active(s)
        active, square = rows * inverse(of_active), of_active * of_active
        full = self.full * self.full
        smaller = (square + full) * inverse(square + SMALLEST * full)  # 1 / share

        tiles = self.tile * chip.units
        padded = (rows * smaller + self.padding * active) * (1 / tiles)
        up, down = padded * (s.up + self.edge), padded * (s.hidden + self.edge)
        one = xp.ones_like(up)
        waves = hypotenuse(up, one)

        depth = 2 * tiles / (chip.flops * self.compute) * inverse(smaller)
        prologue = self.prologue * chip.launch
        computing = (s.hidden * depth + prologue) * waves
        computing = computing + (s.width * depth + prologue) * hypotenuse(down, one)

        weights = active * s.hidden * (s.up + s.width) * s.weight_size
        activations = rows * ((s.hidden + s.width) * s.activation_size + 2 * (s.hidden + s.up))
        moving = weights * (1 / (chip.bandwidth * self.memory))
        moving = moving + activations * (self.activation / chip.bandwidth)
        moving = moving * (1 + self.stall * waves * inverse(up))

        kernels = (
            self.launch * chip.launch
            + self.expert * chip.launch * s.experts / s.groups
            + self.token * chip.launch * s.tokens
            + self.sort * chip.launch * rows * inverse(rows + MANY)
        )
        gather = 2 * self.gather / chip.bandwidth
        activate = 2 * self.activate / chip.bandwidth
        gathering = s.tokens * s.used * (s.hidden * gather + s.up * activate)
        return hypotenuse(computing, moving) + kernels + gathering
