"""What a model runs on: an accelerator, the levels of its network, and how many of them there are.

Every number is a leaf in SI: any of them can be vmapped over, differentiated or replaced (`platform.replace(...)` checks, `eqx.tree_at` does not).
"""

from itertools import pairwise
from pathlib import Path
from typing import Self

import equinox as eqx

from diffgenz.core.checks import check, check_at_most, check_whole
from diffgenz.core.errors import InputError
from diffgenz.core.record import Record
from diffgenz.core.smooth import Leaf, as_leaf
from diffgenz.hardware.specs import Spec, read_spec
from diffgenz.hardware.topology import Topology, topology_named
from diffgenz.kernels.fits import load_kernels
from diffgenz.kernels.library import Library
from diffgenz.kernels.software import DEFAULT, NONE

STATIC_SHARE, COMPUTE_SHARE, MEMORY_SHARE, NETWORK_SHARE = 0.3, 0.4, 0.2, 0.1
"""Shares of TDP drawn when idle, and added by fully used compute, memory and network (GenZ, arXiv 2406.01698, its power model).
Where a file states idle power, the other three share the rest of TDP in these proportions."""


class MemoryTier(Record):
    """Slower memory behind the main one: capacity in B and bandwidth in B/s per accelerator."""

    name: str = eqx.field(static=True)
    capacity: Leaf = eqx.field(converter=as_leaf)
    bandwidth: Leaf = eqx.field(converter=as_leaf)

    def __check_init__(self):
        check("capacity", self.capacity, exclusive=True)
        check("bandwidth", self.bandwidth, exclusive=True)


class Accelerator(Record):
    """One accelerator: its peaks, and how much of them is reached.

    Arguments:
        name: what people call it.
        peak_flops: FLOP/s, dense, per number format.
        memory_bandwidth: B/s.
        memory_capacity: B.
        memory_reserve: B kept by the runtime (context, workspaces, communication buffers).
        launch_latency: s added to every kernel.
        idle_power: W, drawn whatever it does.
        energy_per_flop: J/FLOP per number format.
        energy_per_byte: J/B of memory traffic.
        price: USD/s, or None where no public price exists.
        compute_efficiency, memory_efficiency: the share of the peaks that kernels reach, in (0, 1].
        tiers: slower memories, nearest first.
        compute_units: streaming multiprocessors, cores or the like; kernel models need it.
        kernels: fitted kernel models; None: the smooth roofline, a bound.

    Raises:
        InputError: a value that is zero, negative, infinite or NaN.
    """

    name: str = eqx.field(static=True)
    peak_flops: dict[str, Leaf] = eqx.field(
        converter=lambda peaks: {key: as_leaf(value) for key, value in peaks.items()}
    )
    memory_bandwidth: Leaf = eqx.field(converter=as_leaf)
    memory_capacity: Leaf = eqx.field(converter=as_leaf)
    memory_reserve: Leaf = eqx.field(converter=as_leaf, default=0.0)
    launch_latency: Leaf = eqx.field(converter=as_leaf, default=0.0)
    idle_power: Leaf = eqx.field(converter=as_leaf, default=0.0)
    energy_per_flop: dict[str, Leaf] = eqx.field(
        converter=lambda energies: {key: as_leaf(value) for key, value in energies.items()},
        default_factory=dict,
    )
    energy_per_byte: Leaf = eqx.field(converter=as_leaf, default=0.0)
    price: Leaf | None = eqx.field(
        converter=lambda price: None if price is None else as_leaf(price), default=None
    )
    compute_efficiency: Leaf = eqx.field(converter=as_leaf, default=1.0)
    memory_efficiency: Leaf = eqx.field(converter=as_leaf, default=1.0)
    tiers: tuple[MemoryTier, ...] = ()
    compute_units: Leaf | None = eqx.field(
        converter=lambda units: None if units is None else as_leaf(units), default=None
    )
    kernels: Library | None = None

    def __check_init__(self):
        for key, peak in self.peak_flops.items():
            check(f"peak_flops[{key}]", peak, exclusive=True)
        for field in ("memory_bandwidth", "memory_capacity"):
            check(field, getattr(self, field), exclusive=True)
        for field in ("memory_reserve", "launch_latency", "idle_power", "energy_per_byte"):
            check(field, getattr(self, field))
        for key, energy in self.energy_per_flop.items():
            check(f"energy_per_flop[{key}]", energy)
        for field in ("compute_efficiency", "memory_efficiency"):
            check(field, getattr(self, field), maximum=1.0, exclusive=True)
        if self.price is not None:
            check("price", self.price)
        if self.compute_units is not None:
            check("compute_units", self.compute_units, minimum=1)
        elif self.kernels is not None:
            raise InputError(
                f"compute_units: {self.name} states none, and kernel models need them; set Accelerator.compute_units, or kernels=None"
            )

    def peak(self, format: str) -> Leaf:
        """FLOP/s at which `format` (a key of `peak_flops`) is multiplied.

        Raises:
            InputError: the accelerator does not have that format.
        """
        if format not in self.peak_flops:
            have = ", ".join(sorted(self.peak_flops))
            remedy = "keep the weights narrow but compute wide (activations in one of these)"
            raise InputError(
                f"precision: {self.name} has no {format} arithmetic; it has {have}; {remedy}, or set dtype to one of them"
            )
        return self.peak_flops[format]

    def flop_energy(self, format: str) -> Leaf | float:
        """J/FLOP in `format`; 0 where the accelerator states none."""
        return self.energy_per_flop.get(format, 0.0)

    @property
    def ridge_point(self) -> dict[str, Leaf]:
        """Arithmetic intensity, in FLOP/B, at which compute and memory balance, per format."""
        return {key: peak / self.memory_bandwidth for key, peak in self.peak_flops.items()}


class Level(Record):
    """One level of the network, as one accelerator sees it.

    Arguments:
        name: what people call it.
        topology: how the accelerators of the level are wired.
        size: accelerators inside one group of this level, all inner levels included.
        bandwidth: B/s per direction and accelerator, all its links of the level together.
        latency: s of one hop.
        efficiency: the share of the bandwidth that transfers reach, in (0, 1].
        energy_per_byte: J/B sent.
    """

    name: str = eqx.field(static=True)
    topology: Topology
    size: Leaf = eqx.field(converter=as_leaf)
    bandwidth: Leaf = eqx.field(converter=as_leaf)
    latency: Leaf = eqx.field(converter=as_leaf)
    efficiency: Leaf = eqx.field(converter=as_leaf, default=1.0)
    energy_per_byte: Leaf = eqx.field(converter=as_leaf, default=0.0)

    def __check_init__(self):
        check("size", self.size, minimum=1)
        check_whole("size", self.size, "accelerators")
        check("bandwidth", self.bandwidth, exclusive=True)
        check("latency", self.latency)
        check("efficiency", self.efficiency, maximum=1.0, exclusive=True)
        check("energy_per_byte", self.energy_per_byte)


class Platform(Record):
    """Accelerators and the network between them.

    Arguments:
        accelerator: one of them.
        network: its levels, innermost first; may be empty for a single accelerator.
        accelerators: how many there are.

    Raises:
        InputError: no accelerator, or more of them than the outermost level connects.
    """

    accelerator: Accelerator
    network: tuple[Level, ...] = ()
    accelerators: Leaf = eqx.field(converter=as_leaf, default=1.0)

    def __check_init__(self):
        check("accelerators", self.accelerators, minimum=1)
        check_whole("accelerators", self.accelerators, "accelerators")
        for inner, outer in pairwise(self.network):
            check_at_most(
                "size",
                inner.size,
                outer.size,
                f"that of {outer.name}; network levels go outwards, and a size counts all inside",
            )
        if not self.network:
            check(
                "accelerators",
                self.accelerators,
                minimum=1,
                maximum=1,
                remedy="give the platform a network to have more than one",
            )
        else:
            outermost = self.network[-1]
            check_at_most(
                "accelerators",
                self.accelerators,
                outermost.size,
                f"what {outermost.name} connects; add an outer network level",
            )

    @classmethod
    def from_spec(cls, spec: Spec, accelerators: float = 1, fit: str | Path = NONE) -> Self:
        """The platform of an accelerator file. Energies not stated there follow from TDP by the shares of this module.

        Arguments:
            fit: as in `load_platform`.
        """
        tdp = spec.power["tdp"]
        idle = spec.power.get("idle", STATIC_SHARE * tdp)
        dynamic = (tdp - idle) / (1 - STATIC_SHARE)  # so that all of it at full use is TDP
        accelerator = Accelerator(
            name=spec.name,
            peak_flops=spec.peak_flops,
            memory_bandwidth=spec.memory["bandwidth"],
            memory_capacity=spec.memory["capacity"],
            memory_reserve=spec.memory["reserve"],
            launch_latency=spec.execution["launch_latency"],
            idle_power=idle,
            energy_per_flop={
                key: COMPUTE_SHARE * dynamic / peak for key, peak in spec.peak_flops.items()
            },
            energy_per_byte=MEMORY_SHARE * dynamic / spec.memory["bandwidth"],
            price=spec.price.get("per_hour"),
            tiers=tuple(MemoryTier(name, **figures) for name, figures in spec.memory_tiers),
            compute_units=spec.execution.get("compute_units"),
            kernels=load_kernels(spec.id, spec.vendor, fit),
        )
        network = tuple(
            Level(
                name=level.name,
                topology=topology_named(level.topology, level.dimensions),
                size=level.figures["size"],
                bandwidth=level.figures["bandwidth"],
                latency=level.figures["latency"],
                energy_per_byte=NETWORK_SHARE * dynamic / spec.network[0].figures["bandwidth"],
            )
            for level in spec.network
        )
        return cls(accelerator, network, accelerators)


def load_platform(
    system: str | Path, accelerators: float = 1, fit: str | Path = DEFAULT
) -> Platform:
    """A platform of `accelerators` times the shipped accelerator `system` (see `diffgenz list systems`), or of the TOML file at that path.

    Arguments:
        fit: what times its kernels: measured ones of a serving engine ("trtllm", "vllm" or "sglang"; what it lacks is taken from another, or
            from other GPUs), a file that `calibrate` wrote, or "none" for the smooth roofline, a bound.

    Raises:
        InputError: an unknown id (the nearest are named), a malformed file, a fit of another accelerator, or more accelerators than its
            network connects.
    """
    return Platform.from_spec(read_spec(system), accelerators, fit)
