"""The network between accelerators: levels, innermost first."""

from diffgenz.core.record import Record, label, number
from diffgenz.core.smooth import Leaf, Scalar
from diffgenz.hardware.topology import Topology
from diffgenz.kernels.hardware import Wire


class Level(Record):
    """One level of the network, as one accelerator sees it.

    A byte that is sent takes power / bandwidth joules.

    Arguments:
        name: what people call the level.
        topology: how the accelerators of the level are wired.
        size: accelerators inside one group of this level, all inner levels included.
        bandwidth: B/s per direction and accelerator, all links of the level together.
        latency: s of one hop.
        efficiency: the share of the bandwidth that transfers reach, in (0, 1].
        power: W that one accelerator draws beside its idle power while it sends at the full
            bandwidth.
        start: s that a collective takes here beside its hops and bytes, where it was not measured:
            between nodes, what proxies on the hosts and libraries other than those inside a node
            add.
    """

    name: str = label()
    topology: Topology
    size: Leaf = number(at_least=1, whole="accelerators", structure=True)
    bandwidth: Leaf = number("B/s", above=0)
    latency: Leaf = number("s")
    efficiency: Leaf = number(above=0, at_most=1, default=1.0)
    power: Leaf = number("W", default=0.0)
    start: Leaf = number("s", default=0.0)

    def wire(self, launch: Scalar | float) -> Wire:
        """The level as collectives see it: at the bandwidth they reach.

        Arguments:
            launch: s that a kernel of theirs takes to launch.
        """
        return Wire(self.bandwidth * self.efficiency, self.latency, launch)
