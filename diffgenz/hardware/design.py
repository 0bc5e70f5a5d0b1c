"""How an accelerator is built: what its area, power and cost follow from, beside its speeds.

Accelerator files state it in a table `[design]` (hw_specs/README.md). Nothing here imports JAX, and
no estimate depends on it.
"""

from dataclasses import dataclass
from typing import Any

TEXTS = ("process", "io_process", "memory")
"""Keys of `[design]` that are names."""

NEEDED = ("process", "memory", "stack", "clock")
"""Keys that `[design]` must have."""

FIGURES = {
    "clock": "Hz",
    "units": "1",
    "fp64": "FLOP/s",
    "unit_sram": "B",
    "compute_sram": "B",
    "cache": "B",
    "stack": "B",
    "stacks": "1",
    "stack_sites": "1",
    "compute_dies": "1",
    "io_dies": "1",
    "die_to_die": "B/s",
    "sustained_share": "1",
    "die_area": "mm2",
    "unit_cost": "USD",
}
"""Keys of `[design]` that are numbers, and their units."""

_RATIOS = ("units", "stacks", "stack_sites")
"""Numbers that are kept as the ratio of what is on the die to what is in use."""

SETTABLE = {key: unit for key, unit in FIGURES.items() if key not in _RATIOS} | {
    "spare_units": "1",
    "spare_stacks": "1",
}
"""The numbers of a design as `Design` has them, and their units."""


@dataclass(frozen=True)
class Design:
    """How an accelerator is built.

    Arguments:
        process: of the dies that compute: "N7", "N5", ... (`Technology.processes`).
        memory: what its stacks are: "HBM3", "GDDR6", ... (`Technology.memories`).
        stack: B of one stack, or of one device of GDDR.
        clock: Hz at which it reaches its peaks.
        io_process: of the dies below or beside them with cache, memory and links; "" where the
            computing dies have these.
        spare_units: compute units on the dies / those in use, at least 1.
        fp64: FLOP/s of 64-bit products, whose multipliers are the largest; 0 where there are none.
        unit_sram: B of registers and local memory in one compute unit.
        compute_sram: B of shared SRAM on the computing dies of an accelerator that has dies of
            `io_process`.
        cache: B of the last-level SRAM on the die, of which less may be in use.
        spare_stacks: stacks that the die has interfaces for / those in use, at least 1.
        compute_dies: how many dies compute.
        io_dies: how many dies of `io_process` there are.
        die_to_die: B/s between dies, both directions together.
        sustained_share: the part of the peak of 16-bit arithmetic that large matrix products reach
            within the power limit; None where nobody measured it.
        stacks: how many stacks it has, as published; None where it is not.
        die_area: mm2 of all dies together, as published; None where it is not.
        unit_cost: USD that one costs its maker, as estimated by others; None where nobody did.
    """

    process: str
    memory: str
    stack: float
    clock: float
    io_process: str = ""
    spare_units: float = 1.0
    fp64: float = 0.0
    unit_sram: float = 0.0
    compute_sram: float = 0.0
    cache: float = 0.0
    spare_stacks: float = 1.0
    compute_dies: float = 1.0
    io_dies: float = 0.0
    die_to_die: float = 0.0
    sustained_share: float | None = None
    stacks: float | None = None
    die_area: float | None = None
    unit_cost: float | None = None


def design_of(names: dict[str, str], figures: dict[str, float]) -> Design | None:
    """The design that a file states; None where it states none.

    Arguments:
        names: of its processes and memory; empty where the file has no design.
        figures: its numbers, by the names of fields.
    """
    stated: dict[str, Any] = {**names, **figures}
    return Design(**stated) if names else None


def ratios(figures: dict[str, float], compute_units: float | None) -> dict[str, float]:
    """The numbers of a file as `Design` has them: spares as ratios.

    Arguments:
        figures: of `[design]`, in SI.
        compute_units: in use, where the file states them.
    """
    kept = {key: value for key, value in figures.items() if key not in ("units", "stack_sites")}
    if "units" in figures and compute_units:
        kept["spare_units"] = figures["units"] / compute_units
    if "stack_sites" in figures and "stacks" in figures:
        kept["spare_stacks"] = figures["stack_sites"] / figures["stacks"]
    return kept


def as_written(figures: dict[str, float], compute_units: float | None) -> dict[str, float]:
    """The numbers of a design as a file has them; what is published of one product is left out.

    These are its stacks (and with them their spare sites), die area and unit cost, which are no
    longer those of an accelerator with other numbers.

    Arguments:
        figures: as `Design` has them.
        compute_units: in use, where they are known.
    """
    own = ("spare_units", "spare_stacks", "stacks", "die_area", "unit_cost")
    kept = {key: value for key, value in figures.items() if key not in own}
    if "spare_units" in figures and compute_units:
        kept["units"] = figures["spare_units"] * compute_units
    return kept
