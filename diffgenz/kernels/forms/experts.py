"""Experts of a mixture: two grouped products, of the busiest of the expert-parallel groups.

    R    = tokens used excess / groups                             rows that it multiplies;  q = R / local,  local = experts / groups
    r    = (1 + q + sqrt((1 - q)**2 + 4 q variation)) / 2          rows of an expert that has any
    A    = R / r                                                   its experts with any row: min(R, local) where rows are dealt out
    share = (r**2 + full**2 / 16) / (r**2 + full**2)               with few rows, tiles are smaller
    x    = (R + padding share A) (columns + edge) / (tile units share)         tiles per compute unit, for either product: u = sqrt(x**2 + 1)
    tc   = (hidden a + prologue) u_up + (width a + prologue) u_down,  a = 2 tile share units / (FLOP/s efficiency)
    tm   = (weights of A experts / memory + R activations) / bandwidth (1 + stall u_up / x_up)
    ts   = launch + expert local + token tokens + sort R / (R + 64)            kernels before, between and after: more of them where rows are many
    tg   = 2 tokens used (hidden gather + up activate) / bandwidth             rows that are gathered and activated, other groups' among them
    t    = sqrt(tc**2 + tm**2) + ts + tg

A is exact where experts' popularity is exponentially distributed (variation 1: r = 1 + q). For other numbers of experts with a row,
`variation_of` gives the variation that stands for them.
"""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from diffgenz.core.smooth import Leaf, hypotenuse, inverse
from diffgenz.kernels.form import Chip, Form, Timer, Work, parameter
from diffgenz.kernels.shapes import ExpertsShape, Number

SMALLEST = 1 / 16
"""The smallest tile's share of a full one."""

MANY = 64.0
"""Rows of which half of the kernels that sort many are seen."""


def variation_of(share: Number, rows: Number) -> Number:
    """The `variation` with which `Experts` counts as many experts with any row as there are.

    Arguments:
        share: of the group's experts that have any row: positive, at most 1 and at most `rows`. rows: of the group, over its experts.
    """
    excess = (rows - share) * (1 - share) / (share * share)
    return 0.5 * (excess + abs(excess))  # never negative, whatever rounding does


def rows_of_active(shape: ExpertsShape) -> tuple[Number, Number]:
    """Rows of the busiest group, and those of each of its experts that have any, on average."""
    s = shape
    rows = s.tokens * s.used * s.excess / s.groups
    q = s.tokens * s.used * s.excess / s.experts
    # the small number keeps the root's derivative finite where rows that are dealt out just fill the experts
    return rows, 0.5 * (1 + q + jnp.sqrt((1 - q) ** 2 + 4 * q * (s.variation + 1e-5)))


class Experts(Form):
    """Grouped products of tokens that were sorted by expert."""

    Shape: ClassVar[type] = ExpertsShape
    host_floor: ClassVar[float] = 40.0  # half a dozen kernels, one after the other

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
        s = shape
        rows, of_active = rows_of_active(s)
        return Work(
            2 * rows * s.hidden * (s.up + s.width),
            rows / of_active * s.hidden * (s.up + s.width) * s.weight_size,
        )

    def on(self, chip: Chip) -> Timer:
        tiles = self.tile * chip.units
        return ExpertsTimer(
            per_tile=1 / tiles,
            per_depth=2 * tiles / (chip.flops * self.compute),
            prologue=self.prologue * chip.launch,
            full=self.full * self.full,
            padding=self.padding,
            edge=self.edge,
            per_byte=1 / (chip.bandwidth * self.memory),
            per_activation=self.activation / chip.bandwidth,
            stall=self.stall,
            sort=self.sort * chip.launch,
            expert=self.expert * chip.launch,
            token=self.token * chip.launch,
            launch=self.launch * chip.launch,
            gather=2 * self.gather / chip.bandwidth,
            activate=2 * self.activate / chip.bandwidth,
        )


class ExpertsTimer(eqx.Module):
    """`Experts` on one accelerator; `full` is squared."""

    per_tile: Number
    per_depth: Number
    prologue: Number
    full: Number
    padding: Number
    edge: Number
    per_byte: Number
    per_activation: Number
    stall: Number
    sort: Number
    expert: Number
    token: Number
    launch: Number
    gather: Number
    activate: Number

    def __call__(self, shape: ExpertsShape) -> Number:
        s = shape
        rows, of_active = rows_of_active(s)
        active, square = rows * inverse(of_active), of_active * of_active
        smaller = (square + self.full) * inverse(square + SMALLEST * self.full)  # 1 / share
        padded = (rows * smaller + self.padding * active) * self.per_tile
        up, down, depth = (
            padded * (s.up + self.edge),
            padded * (s.hidden + self.edge),
            self.per_depth * inverse(smaller),
        )
        one = jnp.ones_like(up)
        waves = hypotenuse(up, one)
        computing = (s.hidden * depth + self.prologue) * waves + (
            s.width * depth + self.prologue
        ) * hypotenuse(down, one)
        weights = active * s.hidden * (s.up + s.width) * s.weight_size
        activations = rows * ((s.hidden + s.width) * s.activation_size + 2 * (s.hidden + s.up))
        moving = (weights * self.per_byte + activations * self.per_activation) * (
            1 + self.stall * waves * inverse(up)
        )
        before = (
            self.launch
            + self.expert * s.experts / s.groups
            + self.token * s.tokens
            + self.sort * rows * inverse(rows + MANY)
        )
        return (
            hypotenuse(computing, moving)
            + before
            + s.tokens * s.used * (s.hidden * self.gather + s.up * self.activate)
        )
