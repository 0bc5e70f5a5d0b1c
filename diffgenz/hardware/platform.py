"""What a model runs on: accelerators and the network between them.

Every number is a leaf in SI. Any of them can be vmapped over, differentiated or replaced:
`platform.replace(...)` checks the new value, `eqx.tree_at` does not.
"""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Self

from diffgenz.core.checks import Condition, at_most
from diffgenz.core.record import Record, number
from diffgenz.core.smooth import Leaf
from diffgenz.hardware.accelerator import Accelerator, MemoryTier
from diffgenz.hardware.network import Level
from diffgenz.hardware.specs import NetworkSpec, Spec, read_spec
from diffgenz.hardware.topology import topology_named
from diffgenz.kernels.fits import load_kernels
from diffgenz.kernels.software import DEFAULT

STATIC_SHARE, COMPUTE_SHARE, MEMORY_SHARE, NETWORK_SHARE = 0.3, 0.4, 0.2, 0.1
"""Shares of TDP drawn when idle, and added by fully used compute, memory and network.

They are those of GenZ's power model (arXiv 2406.01698). Where a file states idle power, the other
three share the rest of TDP in these proportions."""


class Platform(Record):
    """Accelerators and the network between them.

    Arguments:
        accelerator: one of them; all are alike.
        network: the levels of the network, innermost first; empty for a single accelerator.
        accelerators: how many there are, at least 1.

    Raises:
        InputError: fewer accelerators than one, more of them than the outermost level connects, or
            a level that is larger than the next one outwards.
    """

    accelerator: Accelerator
    network: tuple[Level, ...] = ()
    accelerators: Leaf = number(at_least=1, whole="accelerators", structure=True, default=1.0)

    def conditions(self) -> Iterable[Condition]:
        for inner, outer in pairwise(self.network):
            yield at_most(
                "size",
                inner.size,
                outer.size,
                f"that of {outer.name}; network levels go outwards, and a size counts all inside",
            )
        if self.network:
            outermost = self.network[-1]
            what = f"what {outermost.name} connects; add an outer network level"
            yield at_most("accelerators", self.accelerators, outermost.size, what)
        else:
            what = "an accelerator without a network; give the platform one to have more"
            yield at_most("accelerators", self.accelerators, 1.0, what)

    @classmethod
    def from_spec(cls, spec: Spec, accelerators: float = 1, fit: str | Path = DEFAULT) -> Self:
        """The platform of an accelerator file.

        Power that the file does not state follows from TDP by the shares of this module. A byte
        takes equally many joules on every level of the network.

        Arguments:
            spec: the file, as read.
            accelerators: how many there are.
            fit: what times the kernels, as in `load_platform`.
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
            compute_power=COMPUTE_SHARE * dynamic,
            memory_power=MEMORY_SHARE * dynamic,
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
                power=_relative(level, spec) * NETWORK_SHARE * dynamic,
            )
            for level in spec.network
        )
        return cls(accelerator, network, accelerators)


def _relative(level: NetworkSpec, spec: Spec) -> float:
    """The bandwidth of a level over that of the innermost level.

    With power in this ratio, a byte costs the same energy on both.
    """
    return level.figures["bandwidth"] / spec.network[0].figures["bandwidth"]


def load_platform(
    system: str | Path, accelerators: float = 1, fit: str | Path = DEFAULT
) -> Platform:
    """The platform of a shipped accelerator, or of a TOML file.

    Arguments:
        system: an id (see `diffgenz list systems`), or the path of a file.
        accelerators: how many there are.
        fit: what times the kernels. "trtllm", "vllm" or "sglang": fits to the kernels of that
            engine, where those it lacks are taken from another engine or from other GPUs. A path:
            the file that `calibrate` wrote there. "none": the smooth roofline, a bound.

    Raises:
        InputError: an unknown id (the nearest are named), a malformed file, a fit of another
            accelerator, or more accelerators than its network connects.
    """
    return Platform.from_spec(read_spec(system), accelerators, fit)
