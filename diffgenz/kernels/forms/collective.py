"""Collectives among ranks that one level of the network connects.

Their time is a fixed cost, a short step, a transfer and a slow start. Small messages take a flat
time, which rises by a step as the protocol or the number of channels changes; for larger ones
libraries move to a protocol of full bandwidth that takes longer to start. For n ranks and
t = volume / bandwidth, with all times except the launch in latencies of the wire:

    flat = launch + (barrier + passes hop (n - 1)) latency
    transfer = passes (n - 1) / (n - pairing) t / efficiency (1 + crowding (n**2 - 4))
    step = rise flat t / (t + onset latency)
    start = (setup + passes refill (n - 1)) latency t**2 / (t**2 + (switch n latency)**2)
    time = flat + transfer + step + start

All-reduce takes two passes (reduce-scatter, all-gather), the others take one. The factor
(n - 1) / (n - pairing) stands for the textbook's (n - 1) / n, because two ranks reach less
bandwidth than eight. Crowding is what a bus shared by all ranks costs (PCIe); on a switch it is
nothing. One rank takes no time at all.
"""

from typing import ClassVar, NamedTuple

from diffgenz.core import xp
from diffgenz.core.smooth import Leaf
from diffgenz.kernels.form import Form, parameter
from diffgenz.kernels.hardware import Wire
from diffgenz.kernels.shapes import CollectiveShape, Number


class Traffic(NamedTuple):
    """The least traffic of one rank.

    Arguments:
        sent: in B.
    """

    sent: Number

    def bound(self, wire: Wire) -> Number:
        """Seconds below which no execution is possible: the wire at its peak."""
        return xp.asarray(self.sent / wire.bandwidth)


class Collective(Form):
    """What all collectives share."""

    Shape: ClassVar[type] = CollectiveShape
    hardware: ClassVar[type] = Wire
    host_floor: ClassVar[float] = float("inf")
    """Their fixed cost is a barrier of the ranks, not the host's pace."""
    passes: ClassVar[int] = 1
    """How often the volume crosses the wires."""

    efficiency: Leaf = parameter(0.8, 0.5, 1.0)
    pairing: Leaf = parameter(0.6, 1.0, 0.95)
    crowding: Leaf = parameter(3e-5, 2.5)
    launch: Leaf = parameter(1.0, 0.3)
    barrier: Leaf = parameter(4.0, 0.8)
    hop: Leaf = parameter(1.0, 0.5)
    rise: Leaf = parameter(0.25, 1.0)
    onset: Leaf = parameter(0.05, 1.5)
    setup: Leaf = parameter(12.0, 0.8)
    refill: Leaf = parameter(1.0, 1.0)
    switch: Leaf = parameter(1.5, 1.0)

    @classmethod
    def work(cls, shape: CollectiveShape) -> Traffic:
        return Traffic(shape.volume * (1 - 1 / shape.ranks))

    def seconds(self, shape: CollectiveShape, wire: Wire) -> Number:
        n, volume = shape
        others, t = n - 1, volume * (1 / wire.bandwidth)
        flat = self.launch * wire.launch + self.barrier * wire.latency
        flat = flat + others * (self.passes * self.hop * wire.latency)
        crowd = self.passes * (1 + self.crowding * (n * n - 4))
        transfer = t * others * crowd / ((n - self.pairing) * self.efficiency)
        step = self.rise * flat * t / (t + self.onset * wire.latency)
        w = n * (self.switch * wire.latency)
        setup = self.setup * wire.latency + others * (self.passes * self.refill * wire.latency)
        start = setup * t * t / (t * t + w * w)
        return xp.minimum(others, 1) * (flat + transfer + step + start)


class AllGather(Collective):
    """Every rank ends with the parts of all ranks. Reduce-scatter is its mirror image."""


class AllReduce(Collective):
    """Every rank ends with the sum of all ranks' tensors."""

    passes: ClassVar[int] = 2

    @classmethod
    def work(cls, shape: CollectiveShape) -> Traffic:
        """One pass, since a switch that adds saves the second."""
        return Traffic(shape.volume * xp.minimum(shape.ranks - 1, 1))


class AllToAll(Collective):
    """Every rank sends each other rank its own part, all at once: hops overlap."""

    hop: Leaf = parameter(0.3, 0.5)
    refill: Leaf = parameter(0.3, 1.0)
