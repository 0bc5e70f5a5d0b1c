"""Dispatch of tokens to the ranks that hold their experts, and combine of the results, as DeepEP does them: wires and SMs work at the same time.

Low-latency kernels work expert by expert, normal ones on the SMs that they are given: either is a number of lanes. For B to ranks of the same node
(near), B to other nodes (far) and B of the rank's own tokens (own, each once), with t = near / bandwidth:

    fixed = launch + expert lanes + far_hop far_latency (1 - 1 / nodes)
    lane = (row launch tokens + (touch own + copy (near + far)) / bandwidth) / lanes
    busy = sqrt((hidden launch)**2 + (t / near_efficiency)**2 + (far / (far_bandwidth far_efficiency))**2 + lane**2)
    step = rise launch t / (t + onset launch)
    time = fixed + busy + step

One rank takes no time at all. Both modes and both directions are one formula with parameters of their own.
"""

from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from diffgenz.kernels.form import Form, Timer, parameter
from diffgenz.kernels.shapes import ExchangeShape, Number
from diffgenz.smooth import Leaf, Scalar


class Wires(NamedTuple):
    """Two levels of the network: inside the node, and between nodes.

    Arguments:
        bandwidth, far_bandwidth: B/s per direction and accelerator. far_latency: s per hop between nodes. launch: s, of a kernel.
    """

    bandwidth: Number
    far_bandwidth: Number
    far_latency: Number
    launch: Number


class Sent(NamedTuple):
    """The B that a rank sends at least, inside its node and out of it."""

    near: Number
    far: Number

    def bound(self, wires: Wires) -> jax.Array:
        """Seconds below which no execution is possible: the slower of two wires at their peaks."""
        return jnp.maximum(self.near / wires.bandwidth, self.far / wires.far_bandwidth)


class Exchange(Form):
    """What dispatch and combine share."""

    Shape: ClassVar[type] = ExchangeShape
    host_floor: ClassVar[float] = float("inf")  # their fixed cost is a barrier of the ranks, whoever launched them

    near_efficiency: Leaf = parameter(0.7, 0.7, 1.0)
    far_efficiency: Leaf = parameter(0.85, 0.7, 1.0)
    launch: Leaf = parameter(6.0, 0.8)
    hidden: Leaf = parameter(1.0, 1.0)
    expert: Leaf = parameter(0.003, 1.0)
    far_hop: Leaf = parameter(2.5, 0.8)
    row: Leaf = parameter(0.05, 1.5)
    touch: Leaf = parameter(10.0, 1.5)
    copy: Leaf = parameter(5.0, 1.5)
    rise: Leaf = parameter(1.0, 1.5)
    onset: Leaf = parameter(2.0, 1.5)

    @classmethod
    def work(cls, shape: ExchangeShape) -> Sent:
        return Sent(shape.near, shape.far)

    def on(self, wires: Wires) -> Timer:
        per_byte = 1 / wires.bandwidth
        return ExchangeTimer(
            per_byte=per_byte,
            near=per_byte / self.near_efficiency,
            far=1 / (wires.far_bandwidth * self.far_efficiency),
            launch=self.launch * wires.launch,
            hidden=(self.hidden * wires.launch) * (self.hidden * wires.launch),
            expert=self.expert * wires.launch,
            far_hop=self.far_hop * wires.far_latency,
            row=self.row * wires.launch,
            touch=self.touch * per_byte,
            copy=self.copy * per_byte,
            rise=self.rise * wires.launch,
            onset=self.onset * wires.launch,
        )


class Dispatch(Exchange):
    """Tokens to the ranks of their experts."""


class Combine(Exchange):
    """Results back to the tokens' ranks, and added up there."""


class ExchangeTimer(eqx.Module):
    """An `Exchange` on two levels of the network."""

    per_byte: Number
    near: Number
    far: Number
    launch: Number
    hidden: Number
    expert: Number
    far_hop: Number
    row: Number
    touch: Number
    copy: Number
    rise: Number
    onset: Number

    def __call__(self, shape: ExchangeShape) -> Scalar:
        ranks, nodes, tokens, own, near, far, lanes = shape
        fixed = self.launch + self.expert * lanes + self.far_hop * (1 - 1 / nodes)
        lane = (self.row * tokens + self.touch * own + self.copy * (near + far)) / lanes
        inside, outside, t = near * self.near, far * self.far, near * self.per_byte
        busy = jnp.sqrt(self.hidden + inside * inside + outside * outside + lane * lane)
        step = self.rise * t / (t + self.onset)
        return jnp.minimum(ranks - 1, 1) * (fixed + busy + step)
