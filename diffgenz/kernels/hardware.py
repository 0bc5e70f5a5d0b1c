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
