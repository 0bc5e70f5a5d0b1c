"""All-reduce as serving engines do it themselves: everything to everyone while it is small, two passes beyond, a library's when it is large.

With flat, transfer and start as in `collective`, for n ranks and t = volume / bandwidth:

    one = (n - 1) t / one_shot                         each rank reads all others' tensors and adds
    two = second latency + transfer + start            reduce-scatter and all-gather, with one more barrier
    time = flat + one two / sqrt(one**2 + two**2)      the cheaper of the two
"""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from diffgenz.core.smooth import Leaf
from diffgenz.kernels.form import Form, Timer, parameter
from diffgenz.kernels.forms.collective import Traffic, Wire
from diffgenz.kernels.shapes import CollectiveShape, Number


class CustomAllReduce(Form):
    """Every rank ends with the sum of all ranks' tensors, in one shot or two."""

    Shape: ClassVar[type] = CollectiveShape
    hardware: ClassVar[type] = Wire
    host_floor: ClassVar[float] = float(
        "inf"
    )  # eager launches wait for the host, and are a kernel of their own

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
        return Traffic(shape.volume * jnp.minimum(shape.ranks - 1, 1))

    def on(self, wire: Wire) -> Timer:
        return CustomAllReduceTimer(
            per_byte=1 / wire.bandwidth,
            slowness=2 / self.efficiency,
            one_shot=1 / self.one_shot,
            pairing=self.pairing,
            crowding=self.crowding,
            flat=self.launch * wire.launch + self.barrier * wire.latency,
            hop=self.hop * wire.latency,
            second=self.second * wire.latency,
            setup=self.setup * wire.latency,
            refill=self.refill * wire.latency,
            switch=self.switch * wire.latency,
        )


class CustomAllReduceTimer(eqx.Module):
    """A `CustomAllReduce` on one level of the network."""

    per_byte: Number
    slowness: Number
    one_shot: Number
    pairing: Number
    crowding: Number
    flat: Number
    hop: Number
    second: Number
    setup: Number
    refill: Number
    switch: Number

    def __call__(self, shape: CollectiveShape) -> Number:
        n, volume = shape
        others, t = n - 1, volume * self.per_byte
        crowd = 1 + self.crowding * (n * n - 4)
        one = others * t * self.one_shot * crowd
        start = (self.setup + others * self.refill) * t * t / (t * t + self.switch * self.switch)
        two = self.second + t * others / (n - self.pairing) * self.slowness * crowd + start
        flat = self.flat + others * self.hop
        return jnp.minimum(others, 1) * (flat + one * two / jnp.sqrt(one * one + two * two))
