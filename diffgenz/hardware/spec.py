"""One accelerator in plain SI numbers, as its file states it, and the unit of each of them.

Nothing here imports JAX, so that `diffgenz list` is quick.
"""

from dataclasses import dataclass, field

from diffgenz.core.formats import PEAKS
from diffgenz.hardware import design
from diffgenz.kernels.kind import Kind

Figures = dict[str, float]
"""Numbers in SI by their keys."""

UNSOURCED = "no source given in the file"
"""The source of a figure that is written without one."""

MEMORY = {"capacity": "B", "bandwidth": "B/s", "reserve": "B"}
"""The unit of each number of main memory."""

TIER = {"capacity": "B", "bandwidth": "B/s"}
"""The unit of each number of a tier of slower memory."""

ON_CHIP = {"capacity": "B", "bandwidth": "B/s"}
"""The unit of each number of on-chip memory."""

EXECUTION = {"compute_units": "1", "launch_latency": "s"}
"""The unit of each number of how kernels are launched and run."""

POWER = {"tdp": "W", "idle": "W"}
"""The unit of each number of power."""

PRICE = {"per_hour": "USD/s"}
"""The unit of the price: files say it per hour."""

LEVEL = {"size": "1", "bandwidth": "B/s", "latency": "s", "start": "s"}
"""The unit of each number of a network level."""

FIGURES = {
    "peak_flops": dict.fromkeys(PEAKS, "FLOP/s"),
    "memory": MEMORY,
    "execution": EXECUTION,
    "power": POWER,
    "price": PRICE,
    "design": design.SETTABLE,
}
"""The unit of each number of an accelerator that may be set, by table and key."""

MAY_BE_ZERO = {"reserve", "idle", "latency", "launch_latency", "start"}
"""Keys of numbers that may be zero."""


@dataclass(frozen=True)
class NetworkSpec:
    """One level of the network.

    Arguments:
        name: what people call it.
        topology: the name of its wiring, see `hardware.topology.TOPOLOGIES`.
        dimensions: of a torus.
        figures: accelerators in it ("size"), B/s per direction and accelerator ("bandwidth"), s per
            hop ("latency"), and, where it is known, s per collective ("start").
    """

    name: str
    topology: str
    dimensions: int
    figures: Figures


@dataclass(frozen=True)
class Spec:
    """One accelerator file in SI.

    Arguments:
        id: the name of the file.
        name: what people call the accelerator.
        vendor: who makes it.
        peak_flops: FLOP/s per number format.
        memory: capacity, bandwidth and what the runtime reserves.
        execution: compute units and launch latency.
        power: TDP and, where it is known, idle power.
        network: its levels, innermost first; empty for a single accelerator.
        price: USD/s, where there is a public one.
        on_chip: capacity and bandwidth of on-chip memory, where they are known.
        memory_tiers: name and figures of slower memories, nearest first.
        design: the numbers of how it is built, as `hardware.design.Design` has them.
        design_names: the names of the same: its processes and memory; empty where the file does
            not say how it is built.
        sources: the text of each figure's source, by "memory.bandwidth" and the like.
        like: the accelerator whose fitted kernels time it, "transferred" or "none"; "" where the
            file says nothing.
        changed: whether it has other figures than the shipped file of the same id.
        settings: what was changed of the file (`hardware.settings`), for people.
        architecture: what compilers call it ("sm_100"); "" where the file says nothing.
        memory_type: of its main memory ("GDDR6"); "" where the file says nothing.
    """

    id: str
    name: str
    vendor: str
    peak_flops: Figures
    memory: Figures
    execution: Figures
    power: Figures
    network: tuple[NetworkSpec, ...]
    price: Figures = field(default_factory=dict)
    on_chip: Figures = field(default_factory=dict)
    memory_tiers: tuple[tuple[str, Figures], ...] = ()
    design: Figures = field(default_factory=dict)
    design_names: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    like: str = ""
    changed: bool = False
    settings: tuple[str, ...] = ()
    architecture: str = ""
    memory_type: str = ""

    @property
    def kind(self) -> Kind:
        """What it has in common with relatives."""
        innermost = self.network[0].name if self.network else ""
        return Kind.of(self.architecture, self.memory_type, innermost)
