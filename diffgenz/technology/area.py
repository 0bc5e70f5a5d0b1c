"""How much die an accelerator takes, how many stacks, and how much die edge."""

from diffgenz.core import xp
from diffgenz.core.record import Record, number
from diffgenz.core.smooth import SHARPNESS, Leaf, Scalar, smooth_max
from diffgenz.technology.chip import Chip
from diffgenz.technology.coefficients import Process, Technology

N5_CELL = 0.021
"""um2 of an SRAM cell in N5 (TSMC at IEDM 2022, by WikiChip), to which SRAM areas refer."""

_ALMOST = 1e-3
"""Stacks that nobody adds one for: 192 GiB are eight stacks of 24, in float32 too."""


class Areas(Record):
    """What takes up the dies, all of them together.

    Arguments:
        arithmetic: mm2 of multipliers of 16 and of 64 bits.
        units: mm2 of compute units beside it.
        sram: mm2 of registers and local memory.
        cache: mm2 of shared SRAM.
        memory: mm2 of the interfaces and controllers of stacks.
        links: mm2 of those of links.
        between_dies: mm2 of links between dies.
        other: mm2 of everything else.
    """

    arithmetic: Leaf = number("mm2")
    units: Leaf = number("mm2")
    sram: Leaf = number("mm2")
    cache: Leaf = number("mm2")
    memory: Leaf = number("mm2")
    links: Leaf = number("mm2")
    between_dies: Leaf = number("mm2")
    other: Leaf = number("mm2")

    @property
    def compute(self) -> Scalar:
        """What always is on the dies that compute."""
        return self.arithmetic + self.units + self.sram

    @property
    def rest(self) -> Scalar:
        """What may be on dies of a process of its own."""
        return self.cache + self.memory + self.links + self.between_dies + self.other

    @property
    def total(self) -> Scalar:
        """All of it."""
        return self.compute + self.rest


def stacks_of(chip: Chip, technology: Technology, sharpness: float = SHARPNESS) -> Scalar:
    """Stacks that capacity and bandwidth need: the smooth maximum of both, not a whole number.

    Arguments:
        chip: what is built.
        technology: what a stack delivers.
        sharpness: of the maximum (`core.smooth`).
    """
    gigabytes_per_second = technology.memory(chip.memory).bandwidth.value
    by_bandwidth = 1e-9 * chip.memory_bandwidth / gigabytes_per_second
    return smooth_max(chip.memory_capacity / chip.stack, by_bandwidth, sharpness)


def whole_stacks(chip: Chip, technology: Technology) -> Scalar:
    """Stacks that an accelerator must have: the least whole number that does."""
    return xp.ceil(stacks_of(chip, technology, float("inf")) - _ALMOST)


def areas_of(chip: Chip, technology: Technology, stacks: Scalar) -> Areas:
    """The areas of an accelerator's parts.

    Logic shrinks with the density of its process, SRAM with its cell, interfaces not at all.

    Arguments:
        chip: what is built.
        technology: what each part takes.
        stacks: in use.
    """
    memory, process = technology.memory(chip.memory), technology.process(chip.process)
    outer = technology.process(chip.io_process) if chip.io_process else process
    shrunk, outer_shrunk = 1 / process.density.value, 1 / outer.density.value
    links = 1e-9 * chip.link_bandwidth
    cell, outer_cell = _cell(process), _cell(outer)
    shared = chip.compute_sram * cell + chip.cache * outer_cell
    sites = stacks * chip.spare_stacks
    of_site = memory.phy_area.value + memory.logic_area.value * outer_shrunk
    of_sixteen = 1e-3 * technology.matrix_area.value * chip.flops_per_cycle
    doubles = chip.fp64_flops * chip.spare_units / chip.clock
    of_double = 1e-3 * technology.fp64_area.value * doubles
    of_link = technology.link_phy_area.value + technology.link_logic_area.value * outer_shrunk
    return Areas(
        arithmetic=shrunk * (of_sixteen + of_double),
        units=technology.unit_area.value * chip.units * shrunk,
        sram=1e-6 * technology.unit_sram_area.value * chip.unit_sram * chip.units * cell,
        cache=1e-6 * technology.cache_area.value * shared,
        memory=sites * of_site,
        links=links * of_link,
        between_dies=1e-12 * technology.die_to_die_area.value * chip.die_to_die,
        other=technology.other_area.value + xp.zeros(()),
    )


def _cell(process: Process) -> Scalar:
    """An SRAM cell relative to that of N5."""
    return process.sram_cell.value / N5_CELL


def edge_needed(chip: Chip, technology: Technology, stacks: Scalar) -> Scalar:
    """mm of die edge that stacks, links and the rest need."""
    of_stacks = technology.memory(chip.memory).edge.value * stacks * chip.spare_stacks
    of_links = technology.link_edge.value * 1e-11 * chip.link_bandwidth
    return of_stacks + of_links + technology.other_edge.value


def edge_of(chip: Chip, areas: Areas) -> Scalar:
    """mm of die edge that there is: the outline of a square of all dies at the package's bottom.

    Dies that compute stand on those of `io_process` where there are such.
    """
    bottom = areas.rest if chip.io_process else areas.total
    return 4 * xp.sqrt(bottom)
