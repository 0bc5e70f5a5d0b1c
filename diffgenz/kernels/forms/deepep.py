"""Dispatch of tokens to the ranks that hold their experts, and combine of the results, as DeepEP does them: wires and SMs work at the same time.

Low-latency kernels work expert by expert, normal ones on the SMs that they are given: either is a number of lanes. For the B to ranks of the same
node (near), to other nodes (far) and of the rank's own tokens (own, each once), with t = near / bandwidth:

    fixed = launch + (barrier + expert lanes) latency + far_hop far_latency (1 - 1 / nodes)
    lane = (row tokens + (touch own + copy (near + far)) / CHUNK) latency / lanes
    busy = sqrt((hidden latency)**2 + (t / near_efficiency)**2 + (far / (far_bandwidth far_efficiency))**2 + lane**2)
    step = rise latency t / (t + onset latency)
    time = fixed + busy + step

A lane has so many B in flight and waits a latency for them: what it moves in a second does not follow the bandwidth of the wire. One rank takes no
time at all. Both modes and both directions are one formula with parameters of their own.
"""

from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from diffgenz.core.smooth import Leaf
from diffgenz.kernels.form import Form, Timer, parameter
from diffgenz.kernels.shapes import ExchangeShape, Number

CHUNK = 2.0**14
"""B: the unit of what one lane moves in a latency."""


class Wires(NamedTuple):
    """Two levels of the network: inside the node, and between nodes.

    Arguments:
        bandwidth, far_bandwidth: B/s per direction and accelerator. latency, far_latency: s per hop. launch: s, of a kernel.
    """

    bandwidth: Number
    latency: Number
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
    hardware: ClassVar[type] = Wires
    host_floor: ClassVar[float] = float(
        "inf"
    )  # their fixed cost is a barrier of the ranks, whoever launched them

    near_efficiency: Leaf = parameter(0.7, 0.7, 1.0)
    far_efficiency: Leaf = parameter(0.85, 0.7, 1.0)
    launch: Leaf = parameter(1.0, 0.3)
    barrier: Leaf = parameter(12.0, 0.8)
    hidden: Leaf = parameter(4.0, 1.0)
    expert: Leaf = parameter(0.01, 1.0)
    far_hop: Leaf = parameter(2.5, 0.8)
    row: Leaf = parameter(0.3, 1.5)
    touch: Leaf = parameter(0.5, 1.5)
    copy: Leaf = parameter(0.5, 1.5)
    rise: Leaf = parameter(4.0, 1.5)
    onset: Leaf = parameter(4.0, 1.5)

    @classmethod
    def work(cls, shape: ExchangeShape) -> Sent:
        return Sent(shape.near, shape.far)

    def on(self, wires: Wires) -> Timer:
        per_byte = 1 / wires.bandwidth
        return ExchangeTimer(
            per_byte=per_byte,
            near=per_byte / self.near_efficiency,
            far=1 / (wires.far_bandwidth * self.far_efficiency),
            fixed=self.launch * wires.launch + self.barrier * wires.latency,
            hidden=(self.hidden * wires.latency) * (self.hidden * wires.latency),
            expert=self.expert * wires.latency,
            far_hop=self.far_hop * wires.far_latency,
            row=self.row * wires.latency,
            touch=self.touch * wires.latency / CHUNK,
            copy=self.copy * wires.latency / CHUNK,
            rise=self.rise * wires.latency,
            onset=self.onset * wires.latency,
        )


class Dispatch(Exchange):
    """Tokens to the ranks of their experts."""


class Combine(Exchange):
    """Results back to the tokens' ranks, and added up there."""


class NormalDispatch(Dispatch):
    """`Dispatch` of the normal kernels, which agree with the other nodes on what comes before it is sent: several times as many hops (H100: 16)."""

    far_hop: Leaf = parameter(16.0, 0.5)


class NormalCombine(Combine):
    """`Combine` of the normal kernels (H100: 22 hops)."""

    far_hop: Leaf = parameter(22.0, 0.5)


class ExchangeTimer(eqx.Module):
    """An `Exchange` on two levels of the network."""

    per_byte: Number
    near: Number
    far: Number
    fixed: Number
    hidden: Number
    expert: Number
    far_hop: Number
    row: Number
    touch: Number
    copy: Number
    rise: Number
    onset: Number

    def __call__(self, shape: ExchangeShape) -> Number:
        ranks, nodes, tokens, own, near, far, lanes = shape
        fixed = self.fixed + self.expert * lanes + self.far_hop * (1 - 1 / nodes)
        lane = (self.row * tokens + self.touch * own + self.copy * (near + far)) / lanes
        inside, outside, t = near * self.near, far * self.far, near * self.per_byte
        busy = jnp.sqrt(self.hidden + inside * inside + outside * outside + lane * lane)
        step = self.rise * t / (t + self.onset)
        return jnp.minimum(ranks - 1, 1) * (fixed + busy + step)
