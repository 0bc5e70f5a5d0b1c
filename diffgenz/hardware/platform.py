"""What a model runs on: accelerators and the network between them.

Every number is a leaf in SI: any of them can be vmapped over, differentiated or replaced
(`platform.replace(...)` checks, `eqx.tree_at` does not).
"""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Self

from diffgenz.core.checks import Condition, at_most
from diffgenz.core.record import Record, label, number
from diffgenz.core.sections import said_of
from diffgenz.core.smooth import Leaf
from diffgenz.hardware.accelerator import Accelerator, MemoryTier
from diffgenz.hardware.design import design_of
from diffgenz.hardware.network import Level
from diffgenz.hardware.spec import Spec
from diffgenz.hardware.specs import read_spec
from diffgenz.hardware.topology import topology_named
from diffgenz.kernels.library import Library, Origin
from diffgenz.kernels.selection import load_kernels, timed_how
from diffgenz.kernels.software import DEFAULT

STATIC_SHARE, COMPUTE_SHARE, MEMORY_SHARE, NETWORK_SHARE = 0.3, 0.4, 0.2, 0.1
"""Shares of TDP drawn when idle, and added by fully used compute, memory and network.

They are those of GenZ's power model (arXiv 2406.01698). Where a file states idle power, the other
three share the rest of TDP in these proportions, and so do two where there is no network.
"""


class Platform(Record):
    """Accelerators and the network between them.

    Arguments:
        accelerator: one of them.
        network: its levels, innermost first; may be empty for a single accelerator.
        accelerators: how many there are.
        notes: what a reader of its estimates should know: numbers that were set.

    Raises:
        InputError: no accelerator, or more of them than the outermost level connects.
    """

    written: ClassVar[str] = 'load_platform("SYSTEM", accelerators)'
    """How people write one, for errors."""

    accelerator: Accelerator
    network: tuple[Level, ...] = ()
    accelerators: Leaf = number(at_least=1, whole="accelerators", structure=True, default=1.0)
    notes: tuple[str, ...] = label(default=(), repr=False)

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
            what = f"{self.accelerator.name} has no network; add a level ([[network]] in its file)"
            yield at_most("accelerators", self.accelerators, 1.0, what)

    @classmethod
    def from_spec(cls, spec: Spec, accelerators: float = 1, fit: str | Path = DEFAULT) -> Self:
        """The platform of an accelerator file.

        Power that the file does not state follows from TDP by the shares of this module. A byte
        takes as many joules on every level of the network.

        Arguments:
            spec: the file, as read.
            accelerators: how many.
            fit: as in `load_platform`.
        """
        tdp = spec.power["tdp"]
        idle = spec.power.get("idle", STATIC_SHARE * tdp)
        shares = COMPUTE_SHARE + MEMORY_SHARE + (NETWORK_SHARE if spec.network else 0.0)
        dynamic = (tdp - idle) / shares  # so that all of it at full use is TDP
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
            kernels=load_kernels(
                Origin(spec.id, spec.vendor, str(fit), spec.like, spec.changed, spec.kind)
            ),
            design=design_of(spec.design_names, spec.design),
            architecture=spec.architecture,
        )
        network = []
        for index, level in enumerate(spec.network):
            with said_of(f"{spec.id}.toml: network[{index}]"):
                topology = topology_named(level.topology, level.dimensions)
            times_inner = level.figures["bandwidth"] / spec.network[0].figures["bandwidth"]
            power = NETWORK_SHARE * dynamic * times_inner
            network.append(Level(level.name, topology, **level.figures, power=power))
        return cls(accelerator, tuple(network), accelerators, _notes(spec, accelerator.kernels))


def _notes(spec: Spec, kernels: Library | None) -> tuple[str, ...]:
    """What was set of an accelerator file, and whose fits time it then."""
    if not spec.settings:
        return ()
    how = timed_how(kernels)
    reused = f"; the fits of {how.removeprefix('like ')} are reused" if "like " in how else ""
    return (f"set {', '.join(spec.settings)}{reused}",)


def load_platform(
    system: str | Path, accelerators: float = 1, fit: str | Path = DEFAULT
) -> Platform:
    """The platform of a shipped accelerator, or of a TOML file.

    Arguments:
        system: an id (see `diffgenz list systems`), or the path of a file.
        accelerators: how many there are.
        fit: what times its kernels. "trtllm", "vllm" or "sglang": those measured of that engine;
            what it lacks is taken from another, or from other GPUs. "like:SYSTEM": the fits of
            another accelerator, on the numbers of this one. The path of a file that `calibrate`
            wrote. "none": the smooth roofline, a bound.

    Raises:
        InputError: an unknown id (the nearest are named), a malformed file, a fit of another
            accelerator, or more accelerators than its network connects.
    """
    return Platform.from_spec(read_spec(system), accelerators, fit)
