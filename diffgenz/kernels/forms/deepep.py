"""DeepEP's kernels: dispatch of tokens to the ranks of their experts, and combine of the results.

Wires and SMs work at the same time. Low-latency kernels work expert by expert, normal ones on the
SMs that they are given: either is a number of lanes. The bytes of a rank go to ranks of the same
node (near) and to other nodes (far); its own tokens, each counted once, are `own` bytes. With
t = near / bandwidth:

    fixed = launch + (barrier + expert lanes) latency + far_hop far_latency (1 - 1 / nodes)
    lane = (row tokens + (touch own + copy (near + far)) / CHUNK) latency / lanes
    busy = sqrt((hidden latency)**2 + (t / near_efficiency)**2
                + (far / (far_bandwidth far_efficiency))**2 + lane**2)
    step = rise latency t / (t + onset latency)
    time = fixed + busy + step

A lane has a fixed number of bytes in flight and waits a latency for them, so what it moves in a
second does not follow the bandwidth of the wire. One rank takes no time at all. Both modes and both
directions are one formula with parameters of their own.
"""

from typing import ClassVar, NamedTuple

from diffgenz.core import xp
from diffgenz.core.smooth import Leaf
from diffgenz.kernels.form import Form, parameter
from diffgenz.kernels.hardware import Wires
from diffgenz.kernels.shapes import ExchangeShape, Number

CHUNK = 2.0**14
"""Unit of what one lane moves in a latency, in B."""


class Sent(NamedTuple):
    """The least that a rank sends.

    Arguments:
        near: inside its node, in B.
        far: to other nodes, in B.
    """

    near: Number
    far: Number

    def bound(self, wires: Wires) -> Number:
        """Seconds below which no execution is possible: the slower of two wires at their peaks."""
        return xp.maximum(self.near / wires.bandwidth, self.far / wires.far_bandwidth)


class Exchange(Form):
    """What dispatch and combine share."""

    Shape: ClassVar[type] = ExchangeShape
    hardware: ClassVar[type] = Wires
    host_floor: ClassVar[float] = float("inf")
    """Their fixed cost is a barrier of the ranks, not the host's pace."""

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

    def seconds(self, shape: ExchangeShape, wires: Wires) -> Number:
        ranks, nodes, tokens, own, near, far, lanes = shape
        latency, per_byte = wires.latency, 1 / wires.bandwidth
        fixed = self.launch * wires.launch + self.barrier * latency
        fixed = fixed + self.expert * latency * lanes
        fixed = fixed + self.far_hop * wires.far_latency * (1 - 1 / nodes)
        touching, copying = self.touch * latency / CHUNK, self.copy * latency / CHUNK
        lane = (self.row * latency * tokens + touching * own + copying * (near + far)) / lanes
        hidden = (self.hidden * latency) * (self.hidden * latency)
        inside = near * (per_byte / self.near_efficiency)
        outside = far * (1 / (wires.far_bandwidth * self.far_efficiency))
        busy = xp.sqrt(hidden + inside * inside + outside * outside + lane * lane)
        t = near * per_byte
        step = self.rise * latency * t / (t + self.onset * latency)
        return xp.minimum(ranks - 1, 1) * (fixed + busy + step)


class Dispatch(Exchange):
    """Sends tokens to the ranks of their experts."""


class Combine(Exchange):
    """Sends results back to the ranks of their tokens, and adds them up there."""


class NormalDispatch(Dispatch):
    """`Dispatch` of the normal kernels.

    They agree with the other nodes on what comes before it is sent, which takes several times as
    many hops (H100: 16).
    """

    far_hop: Leaf = parameter(16.0, 0.5)


class NormalCombine(Combine):
    """`Combine` of the normal kernels (H100: 22 hops)."""

    far_hop: Leaf = parameter(22.0, 0.5)
