"""All-reduce as serving engines do it themselves.

Every rank sends everything to every other while tensors are small; beyond, two passes take over.
For n ranks and t = volume / bandwidth, with all times except the launch in latencies of the wire:

    crowd = 1 + crowding (n**2 - 4)
    flat = launch + (barrier + hop (n - 1)) latency
    one = (n - 1) t crowd / one_shot                 each rank reads all others' tensors and adds
    transfer = 2 (n - 1) / (n - pairing) t crowd / efficiency
    start = (setup + refill (n - 1)) latency t**2 / (t**2 + (switch latency)**2)
    two = second latency + transfer + start          reduce-scatter, one more barrier, all-gather
    time = flat + one two / sqrt(one**2 + two**2)    the cheaper of the two

`collective` says what the terms that both have stand for. One rank takes no time at all.
"""

from typing import ClassVar

from diffgenz.core import xp
from diffgenz.core.smooth import Leaf
from diffgenz.kernels.form import Form, parameter
from diffgenz.kernels.forms.collective import Traffic
from diffgenz.kernels.hardware import Wire
from diffgenz.kernels.shapes import CollectiveShape, Number


class CustomAllReduce(Form):
    """Every rank ends with the sum of all ranks' tensors, in one shot or in two passes."""

    Shape: ClassVar[type] = CollectiveShape
    hardware: ClassVar[type] = Wire
    host_floor: ClassVar[float] = float("inf")
    """Eager launches do wait for the host, but they are a kernel of their own."""

    efficiency: Leaf = parameter(0.8, 0.5, 1.0)
    pairing: Leaf = parameter(0.4, 1.0, 0.95)
    crowding: Leaf = parameter(3e-5, 2.5)
    launch: Leaf = parameter(1.0, 0.3)
    barrier: Leaf = parameter(2.0, 1.0)
    hop: Leaf = parameter(0.1, 0.8)
    one_shot: Leaf = parameter(0.6, 0.7, 1.0)
    second: Leaf = parameter(2.0, 1.0)
    setup: Leaf = parameter(10.0, 1.0)
    refill: Leaf = parameter(2.0, 1.0)
    switch: Leaf = parameter(10.0, 1.5)

    @classmethod
    def work(cls, shape: CollectiveShape) -> Traffic:
        """One pass, since a switch that adds saves the second."""
        return Traffic(shape.volume * xp.minimum(shape.ranks - 1, 1))

    def seconds(self, shape: CollectiveShape, wire: Wire) -> Number:
        n, volume = shape
        others, t = n - 1, volume * (1 / wire.bandwidth)
        crowd = 1 + self.crowding * (n * n - 4)
        one = others * t * (1 / self.one_shot) * crowd
        w = self.switch * wire.latency
        setup = self.setup * wire.latency + others * (self.refill * wire.latency)
        start = setup * t * t / (t * t + w * w)
        transfer = t * others * (2 * crowd) / ((n - self.pairing) * self.efficiency)
        two = self.second * wire.latency + transfer + start
        flat = self.launch * wire.launch + self.barrier * wire.latency
        flat = flat + others * (self.hop * wire.latency)
        return xp.minimum(others, 1) * (flat + one * two / xp.sqrt(one * one + two * two))
