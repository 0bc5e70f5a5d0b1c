"""What is built: the numbers of an accelerator that its area, power and cost follow from."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx

from diffgenz.core import xp
from diffgenz.core.checks import demand
from diffgenz.core.errors import InputError
from diffgenz.core.record import Record, number
from diffgenz.core.smooth import Leaf, Scalar
from diffgenz.hardware.design import Design
from diffgenz.hardware.platform import Platform
from diffgenz.technology.coefficients import Technology

_NARROW = {"bf16": 1, "fp16": 1, "fp8": 2, "int8": 2, "mxfp4": 4, "nvfp4": 4, "int4": 4}
"""Formats of at most 16 bits, and how many of their products share the multiplier of one of 16.

(fp6 is left out: chips run it on the multipliers of fp8, or of fp4, as they please.)"""

_SHARPNESS = 8
"""The power of the mean over formats: nearly the largest, and no more than it."""


class Chip(Record):
    """One accelerator as it is built. Every number is a leaf.

    Arguments:
        process: of the dies that compute, a key of `Technology.processes`.
        memory: a key of `Technology.memories`.
        peak_flops: FLOP/s of dense 16-bit matrix products; `sixteen_bit` makes them of the peaks of
            several formats.
        sustained_flops: FLOP/s of the same that large products reach within the power limit.
        memory_bandwidth: B/s.
        memory_capacity: B.
        link_bandwidth: B/s in each direction, to other accelerators.
        stack: B of one stack.
        clock: Hz at which the peak is reached.
        nominal_clock: Hz for which the process's energy holds; another clock takes another voltage.
        compute_units: in use.
        spare_units: units on the dies / those in use, at least 1.
        fp64_flops: FLOP/s of 64-bit products.
        unit_sram: B of registers and local memory in one unit.
        compute_sram: B of shared SRAM on the computing dies, beside `cache`.
        cache: B of last-level SRAM.
        spare_stacks: stacks that there are interfaces for / those in use, at least 1.
        compute_dies: dies of `process`, at least 1.
        io_dies: dies of `io_process`.
        die_to_die: B/s between dies, both directions together.
        io_process: of the dies with cache, memory interfaces and links; "": the computing dies.
    """

    process: str = eqx.field(static=True)
    memory: str = eqx.field(static=True)
    peak_flops: Leaf = number("FLOP/s", above=0)
    sustained_flops: Leaf = number("FLOP/s", above=0)
    memory_bandwidth: Leaf = number("B/s", above=0)
    memory_capacity: Leaf = number("B", above=0)
    link_bandwidth: Leaf = number("B/s")
    stack: Leaf = number("B", above=0)
    clock: Leaf = number("Hz", above=0)
    nominal_clock: Leaf = number("Hz", above=0)
    compute_units: Leaf = number(above=0)
    spare_units: Leaf = number(at_least=1, default=1.0)
    fp64_flops: Leaf = number("FLOP/s", default=0.0)
    unit_sram: Leaf = number("B", default=0.0)
    compute_sram: Leaf = number("B", default=0.0)
    cache: Leaf = number("B", default=0.0)
    spare_stacks: Leaf = number(at_least=1, default=1.0)
    compute_dies: Leaf = number(at_least=1, default=1.0)
    io_dies: Leaf = number(default=0.0)
    die_to_die: Leaf = number("B/s", default=0.0)
    io_process: str = eqx.field(static=True, default="")

    @property
    def flops_per_cycle(self) -> Scalar:
        """FLOP in a cycle of all units on the dies, spare ones included."""
        return self.peak_flops * self.spare_units / self.clock

    @property
    def units(self) -> Scalar:
        """Compute units on the dies, spare ones included."""
        return self.compute_units * self.spare_units


def sixteen_bit(peaks: Mapping[str, Leaf]) -> Scalar:
    """The 16-bit peak that the multipliers of several formats amount to, in FLOP/s.

    A multiplier of 16 bits does two products of 8, or four of 4. The formats' peaks, each brought
    to 16 bits, go into a mean of the 8th power: it is the peak of any of them where all agree, near
    to the largest where they do not, and convex in logarithms.

    Arguments:
        peaks: FLOP/s by format, as `Accelerator.peak_flops`.

    Raises:
        InputError: no format has 16 bits or less.
    """
    each = [peak / _NARROW[name] for name, peak in peaks.items() if name in _NARROW]
    if not each:
        raise InputError(
            f"peak_flops: of {', '.join(peaks) or 'no format'} none has 16 bits or less, and area "
            "and power follow from these; add the peak of bf16 or fp16"
        )
    largest = each[0]
    for one in each[1:]:
        largest = xp.maximum(largest, one)
    scale = xp.stop_gradient(largest)
    total = sum(((one / scale) ** _SHARPNESS for one in each), start=xp.zeros(()))
    return scale * xp.exp(xp.log(total / len(each)) / _SHARPNESS)


def stated_design(platform: Platform) -> Design:
    """How the accelerator of a platform is built.

    Raises:
        InputError: its file does not say.
    """
    demand("platform", platform, Platform, 'load_platform("h100_sxm")')
    design = platform.accelerator.design
    if design is None:
        raise InputError(
            f"design: the file of {platform.accelerator.name} does not say how it is built; add a "
            "table [design] with process, memory, stack and clock to it "
            "(`diffgenz list systems --schema`)"
        )
    return design


def chip_of(platform: Platform, technology: Technology, design: Design | None = None) -> Chip:
    """The chip of a platform: its numbers, and how its file says that it is built.

    Arguments:
        platform: its accelerator and innermost network level are read.
        technology: says which part of the peak is sustained where the design does not.
        design: in place of the accelerator's own.

    Raises:
        InputError: there is no design, or no format of 16 bits or less.
    """
    design = stated_design(platform) if design is None else design
    accelerator = platform.accelerator
    peak = sixteen_bit(accelerator.peak_flops)
    wide: Any = accelerator.peak_flops.get("bf16", accelerator.peak_flops.get("fp16", peak))
    share = design.sustained_share
    share = technology.sustained_share.value if share is None else share
    units = accelerator.compute_units
    return Chip(
        process=design.process,
        memory=design.memory,
        peak_flops=peak,
        sustained_flops=wide * share,
        memory_bandwidth=accelerator.memory_bandwidth,
        memory_capacity=accelerator.memory_capacity,
        link_bandwidth=platform.network[0].bandwidth if platform.network else 0.0,
        stack=design.stack,
        clock=design.clock,
        nominal_clock=design.clock,
        compute_units=1.0 if units is None else units,
        spare_units=design.spare_units,
        fp64_flops=design.fp64,
        unit_sram=design.unit_sram,
        compute_sram=design.compute_sram,
        cache=design.cache,
        spare_stacks=design.spare_stacks,
        compute_dies=design.compute_dies,
        io_dies=design.io_dies,
        die_to_die=design.die_to_die,
        io_process=design.io_process,
    )
