"""One accelerator: its arithmetic, memory, power and price, where every number is a leaf in SI."""

from collections.abc import Iterable

import equinox as eqx

from diffgenz.core.checks import Condition
from diffgenz.core.errors import InputError
from diffgenz.core.record import Record, label, number
from diffgenz.core.smooth import Leaf
from diffgenz.hardware.design import Design
from diffgenz.kernels.hardware import Chip
from diffgenz.kernels.library import Library


class MemoryTier(Record):
    """Slower memory behind the main one.

    Arguments:
        name: what people call the memory.
        capacity: B for each accelerator.
        bandwidth: B/s for each accelerator.
    """

    name: str = label()
    capacity: Leaf = number("B", above=0)
    bandwidth: Leaf = number("B/s", above=0)


class Accelerator(Record):
    """One accelerator: its peaks, how much of them is reached, and what it draws.

    Energy follows from power. Arithmetic at its peak draws `compute_power` in every format, so that
    one FLOP takes compute_power / peak_flops joules. A byte takes memory_power / memory_bandwidth.

    Arguments:
        name: what people call the accelerator.
        peak_flops: FLOP/s, dense, per number format.
        memory_bandwidth: B/s.
        memory_capacity: B.
        memory_reserve: B kept by the runtime (context, workspaces, communication buffers).
        launch_latency: s added to every kernel.
        idle_power: W drawn at all times.
        compute_power: W drawn beside that while arithmetic runs at its peak.
        memory_power: W drawn beside that while memory moves bytes at its full bandwidth.
        price: USD/s, or None where no public price exists.
        compute_efficiency: the share of `peak_flops` that kernels reach, in (0, 1].
        memory_efficiency: the share of `memory_bandwidth` that kernels reach, in (0, 1].
        tiers: slower memories, nearest first.
        compute_units: streaming multiprocessors, cores or similar units; fitted kernels need the
            number.
        kernels: fitted kernels; None: the smooth roofline times all kernels, which is a bound.
        design: how it is built, for its area, TDP and cost (`technology_of`); None where its file
            does not say. No estimate depends on it.
        architecture: what compilers call it, such as "sm_100" or "gfx942"; "" where its file does
            not say. Engines choose kernels by it, and how they keep weights (`padded_experts`).

    Raises:
        InputError: a value out of range, or fitted kernels without compute units.
    """

    name: str = label()
    peak_flops: dict[str, Leaf] = number("FLOP/s", above=0)
    memory_bandwidth: Leaf = number("B/s", above=0)
    memory_capacity: Leaf = number("B", above=0)
    memory_reserve: Leaf = number("B", default=0.0)
    launch_latency: Leaf = number("s", default=0.0)
    idle_power: Leaf = number("W", default=0.0)
    compute_power: Leaf = number("W", default=0.0)
    memory_power: Leaf = number("W", default=0.0)
    price: Leaf | None = number("USD/s", default=None)
    compute_efficiency: Leaf = number(above=0, at_most=1, default=1.0)
    memory_efficiency: Leaf = number(above=0, at_most=1, default=1.0)
    tiers: tuple[MemoryTier, ...] = ()
    compute_units: Leaf | None = number(at_least=1, default=None)
    kernels: Library | None = None
    design: Design | None = label(default=None, repr=False)
    architecture: str = eqx.field(static=True, default="", repr=False)

    def conditions(self) -> Iterable[Condition]:
        if self.kernels is not None and self.compute_units is None:
            raise InputError(
                f"compute_units: {self.name} states none, and kernel models need them; "
                "set Accelerator.compute_units, or kernels=None"
            )
        return ()

    def peak(self, format: str) -> Leaf:
        """FLOP/s at which a format is multiplied.

        Arguments:
            format: a key of `peak_flops`.

        Raises:
            InputError: the accelerator does not have that format.
        """
        if format not in self.peak_flops:
            have = ", ".join(sorted(self.peak_flops))
            remedy = "keep the weights narrow but compute wide (activations in one of these)"
            raise InputError(
                f"precision: {self.name} has no {format} arithmetic; it has {have}; {remedy}, "
                "or set dtype to one of them"
            )
        return self.peak_flops[format]

    def chip(self, peak: Leaf) -> Chip:
        """The accelerator as kernels see it: at the rates they reach.

        Arguments:
            peak: FLOP/s of the format that they multiply.

        Raises:
            InputError: the accelerator states no compute units.
        """
        if self.compute_units is None:
            raise InputError(f"compute_units: {self.name} states none, and kernel models need them")
        return Chip(
            peak * self.compute_efficiency,
            self.memory_bandwidth * self.memory_efficiency,
            self.launch_latency,
            self.compute_units,
        )

    @property
    def ridge_point(self) -> dict[str, Leaf]:
        """The arithmetic intensity in FLOP/B at which compute and memory balance, per format."""
        return {key: peak / self.memory_bandwidth for key, peak in self.peak_flops.items()}
