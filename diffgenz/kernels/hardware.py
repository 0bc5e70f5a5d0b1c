"""Hardware as kernels see it: the few numbers that forms are evaluated on."""

from typing import NamedTuple

from diffgenz.kernels.shapes import Number


class Chip(NamedTuple):
    """An accelerator as one kernel sees it.

    Arguments:
        flops: peak of the kernel's format, in FLOP/s.
        bandwidth: of memory, in B/s.
        launch: latency of a kernel launch, in s.
        units: compute units (streaming multiprocessors).
    """

    flops: Number
    bandwidth: Number
    launch: Number
    units: Number

    def slower(self, flops: Number, bandwidth: Number, launch: Number) -> "Chip":
        """The accelerator with its rates divided and its launch latency multiplied.

        Arguments:
            flops: divides the peak.
            bandwidth: divides the bandwidth.
            launch: multiplies the launch latency.
        """
        return Chip(
            self.flops / flops, self.bandwidth / bandwidth, self.launch * launch, self.units
        )

    def bandwidth_slope(self, seconds: Number, by_flops: Number, by_launch: Number) -> Number:
        """The derivative of a kernel's seconds with respect to the bandwidth, from the others'.

        Forms are homogeneous: half the FLOP/s, half the bandwidth and twice the launch latency take
        twice as long. Therefore (Euler) seconds = launch by_launch - flops by_flops - bandwidth
        by_bandwidth. As a difference, the elasticity with respect to the bandwidth is exact to the
        rounding of 1. (The launch latency may be zero, so that its slope could not be had so.)

        Arguments:
            seconds: of the kernel.
            by_flops: their derivative with respect to `flops`, in s per FLOP/s.
            by_launch: their derivative with respect to `launch`, in s per s.
        """
        return (self.launch * by_launch - self.flops * by_flops - seconds) / self.bandwidth


class Wire(NamedTuple):
    """One level of the network as a collective sees it.

    Arguments:
        bandwidth: per direction and accelerator, in B/s.
        latency: per hop, in s.
        launch: latency of a kernel launch, in s.
    """

    bandwidth: Number
    latency: Number
    launch: Number


class Wires(NamedTuple):
    """Two levels of the network: inside a node, and between nodes.

    Arguments:
        bandwidth: inside the node, per direction and accelerator, in B/s.
        latency: inside the node, per hop, in s.
        far_bandwidth: between nodes, per direction and accelerator, in B/s.
        far_latency: between nodes, per hop, in s.
        launch: latency of a kernel launch, in s.
    """

    bandwidth: Number
    latency: Number
    far_bandwidth: Number
    far_latency: Number
    launch: Number

    @classmethod
    def of(cls, near: Wire, far: Wire) -> "Wires":
        """The two levels `near` (inside the node) and `far` (between nodes)."""
        return cls(near.bandwidth, near.latency, far.bandwidth, far.latency, near.launch)
