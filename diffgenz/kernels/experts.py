"""Experts of a mixture: two grouped products, of the busiest of the expert-parallel groups.

    mean = tokens used / groups                                    rows that a group multiplies on average
    s    = crowding sqrt(v (1 + v / 6)) z(groups),  v = variation / local          local = experts / groups
    R    = mean excess (1 + s (most - 1) / (most - 1 + s))         rows on the busiest, at least one and at most `most` times the mean
    q    = R / local,  A = 2 R / (1 + q + sqrt((1 - q)**2 + 4 q idle variation))          its experts with any row: min(R, local) where balanced
    x    = (R + padding A) (columns + edge) / (tile units)         work per compute unit, for either product: u = sqrt(x**2 + 1)
    tc   = (hidden a + prologue) u_up + (width a + prologue) u_down,  a = 2 tile units / (FLOP/s efficiency)
    tm   = (weights of A experts / memory + R activations) / bandwidth (1 + stall u_up / x_up)
    t    = sqrt(tc**2 + tm**2) + launch + expert local + token tokens

z is the expected maximum of `groups` normal numbers, as a rational function of sqrt(groups) that is right within 1.1 % up to 256.
"""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from diffgenz.kernels.form import Chip, Form, Timer, Work, parameter
from diffgenz.kernels.shapes import ExpertsShape, Number
from diffgenz.smooth import Leaf


class Experts(Form):
    """Grouped products of tokens that were sorted by expert."""

    Shape: ClassVar[type] = ExpertsShape
    host_floor: ClassVar[float] = 40.0  # half a dozen kernels, one after the other

    compute: Leaf = parameter(0.7, 0.5, 1.0)
    memory: Leaf = parameter(0.8, 0.5, 1.0)
    launch: Leaf = parameter(10.0, 0.7)
    prologue: Leaf = parameter(0.3)
    tile: Leaf = parameter(6000.0, 0.5)
    padding: Leaf = parameter(16.0)
    edge: Leaf = parameter(20.0)
    stall: Leaf = parameter(0.02)
    activation: Leaf = parameter(1.0)
    crowding: Leaf = parameter(1.4, 0.3)
    idle: Leaf = parameter(0.2, 0.5)
    expert: Leaf = parameter(0.01, 1.5)
    token: Leaf = parameter(0.001, 1.5)

    @classmethod
    def work(cls, shape: ExpertsShape) -> Work:
        s = shape
        local, rows = s.experts / s.groups, s.tokens * s.used * s.excess / s.groups
        active = jnp.minimum(rows, local / (1 + s.variation))
        return Work(2 * rows * s.hidden * (s.up + s.width), active * s.hidden * (s.up + s.width) * s.weight_size)

    def on(self, chip: Chip) -> Timer:
        tiles = self.tile * chip.units
        return ExpertsTimer(
            per_tile=1 / tiles,
            per_depth=2 * tiles / (chip.flops * self.compute),
            prologue=self.prologue * chip.launch,
            padding=self.padding,
            edge=self.edge,
            per_byte=1 / (chip.bandwidth * self.memory),
            per_activation=self.activation / chip.bandwidth,
            stall=self.stall,
            crowding=self.crowding,
            idle=self.idle,
            expert=self.expert * chip.launch,
            token=self.token * chip.launch,
            launch=self.launch * chip.launch,
        )


class ExpertsTimer(eqx.Module):
    """`Experts` on one accelerator."""

    per_tile: Number
    per_depth: Number
    prologue: Number
    padding: Number
    edge: Number
    per_byte: Number
    per_activation: Number
    stall: Number
    crowding: Number
    idle: Number
    expert: Number
    token: Number
    launch: Number

    def __call__(self, shape: ExpertsShape) -> Number:
        s = shape
        local = s.experts / s.groups
        rows, active = self.busiest(shape, local)
        padded = (rows + self.padding * active) * self.per_tile
        up, down = padded * (s.up + self.edge), padded * (s.hidden + self.edge)
        waves = jnp.sqrt(up * up + 1)
        computing = (s.hidden * self.per_depth + self.prologue) * waves + (s.width * self.per_depth + self.prologue) * jnp.sqrt(down * down + 1)
        weights = active * s.hidden * (s.up + s.width) * s.weight_size
        activations = rows * ((s.hidden + s.width) * s.activation_size + 2 * (s.hidden + s.up))
        moving = (weights * self.per_byte + activations * self.per_activation) * (1 + self.stall * waves / up)
        return jnp.sqrt(computing * computing + moving * moving) + self.launch + self.expert * local + self.token * s.tokens

    def busiest(self, shape: ExpertsShape, local: Number) -> tuple[Number, Number]:
        """Rows of the busiest group, and its experts that have any."""
        s = shape
        mean, root, share = s.tokens * s.used / s.groups, jnp.sqrt(s.groups), s.variation / local
        z = (root - 1) * (2.506 + 0.0395 * root) / (root + 0.512)
        spread = self.crowding * z * jnp.sqrt(share * (1 + share / 6) + 1e-12)
        room = s.groups * jnp.minimum(1.0, local / s.used) - 1
        rows = jnp.maximum(mean * s.excess * (1 + spread * room / (room + spread + 1e-6)), 1.0)
        q = rows / local
        # the small number keeps the root's derivative finite where balanced rows just fill the experts
        return rows, 2 * rows / (1 + q + jnp.sqrt((1 - q) ** 2 + 4 * q * (self.idle * s.variation + 1e-4)))


class FusedExperts(Experts):
    """Kernels that gather and activate the rows of all groups' experts, their own or not (Triton's)."""

    gather: Leaf = parameter(0.3)
    activate: Leaf = parameter(0.3)

    def on(self, chip: Chip) -> Timer:
        gather, activate = 2 * self.gather / chip.bandwidth, 2 * self.activate / chip.bandwidth
        products = super().on(chip)
        return lambda shape: products(shape) + shape.tokens * shape.used * (shape.hidden * gather + shape.up * activate)
