"""What an accelerator costs its maker: good dies, memory, packaging, test."""

from diffgenz.core import xp
from diffgenz.core.record import Record, number
from diffgenz.core.smooth import Leaf, Scalar
from diffgenz.technology.area import Areas
from diffgenz.technology.chip import Chip
from diffgenz.technology.coefficients import Process, Technology

_WAFER = 70_686.0
"""mm2 of a wafer of 300 mm."""

_RADIUS = 150.0
"""mm of a wafer of 300 mm."""

_CENT = 1e-2
"""mm2 are so many cm2."""


class Costs(Record):
    """What it costs its maker.

    Arguments:
        dies: USD of good dies.
        memory: USD of stacks.
        packaging: USD of the interposer or substrate, and of what is lost in assembly.
        test: USD of test.
        module: USD of everything else.
    """

    dies: Leaf = number("USD")
    memory: Leaf = number("USD")
    packaging: Leaf = number("USD")
    test: Leaf = number("USD")
    module: Leaf = number("USD")

    @property
    def total(self) -> Scalar:
        """All of it."""
        return self.dies + self.memory + self.packaging + self.test + self.module


def die_yield(area: Scalar, process: Process, technology: Technology) -> Scalar:
    """The part of dies that work: exp(-area x defects x critical share), of Poisson's law.

    Arguments:
        area: mm2 of one die.
        process: its process.
        technology: says in which part of a die a defect costs the die.
    """
    return xp.exp(-_CENT * area * process.defects.value * technology.critical_share.value)


def dies_of(chip: Chip, areas: Areas, technology: Technology) -> tuple[Scalar, Scalar]:
    """The share of good dies of all kinds together, and USD of good dies for one accelerator.

    Arguments:
        chip: what is built.
        areas: of its parts.
        technology: wafers, defects.

    Returns:
        mean yield, weighted with area, and USD.
    """
    inner = technology.process(chip.process)
    if not chip.io_process:
        area = areas.total / chip.compute_dies
        good = die_yield(area, inner, technology)
        return good, chip.compute_dies * _of_wafer(area, inner) / good
    outer = technology.process(chip.io_process)
    upper, lower = areas.compute / chip.compute_dies, areas.rest / chip.io_dies
    good = die_yield(upper, inner, technology), die_yield(lower, outer, technology)
    cost = chip.compute_dies * _of_wafer(upper, inner) / good[0]
    cost = cost + chip.io_dies * _of_wafer(lower, outer) / good[1]
    mean = (good[0] * areas.compute + good[1] * areas.rest) / areas.total
    return mean, cost


def _of_wafer(area: Scalar, process: Process) -> Scalar:
    """USD of the wafer that a die takes: its area and what is lost at the rim.

    So many dies as pi r^2 / A - pi 2 r / sqrt(2 A), the usual count of dies of area A on a wafer of
    radius r, take A / (1 - x) each, with x = sqrt(2 A) / r. Its series to the third power of x is
    within 1 % of that up to 900 mm2, and convex in logarithms for any area.

    Arguments:
        area: mm2 of one die.
        process: its process.
    """
    lost = xp.sqrt(2 * area) / _RADIUS
    taken = area * (1 + lost + lost**2 + lost**3)
    return process.wafer_price.value * taken / _WAFER


def costs_of(
    chip: Chip, technology: Technology, areas: Areas, stacks: Scalar, dies: Scalar
) -> Costs:
    """The costs of an accelerator's parts.

    Arguments:
        chip: what is built.
        technology: what each part costs.
        areas: of its parts.
        stacks: in use.
        dies: USD of good dies.
    """
    memory = technology.memory(chip.memory)
    bottom = areas.rest if chip.io_process else areas.total
    gigabytes = 1e-9 * chip.memory_capacity
    stacked = memory.price.value * gigabytes
    interposer = bottom + memory.footprint.value * stacks * chip.spare_stacks
    packaging = memory.packaging.value * interposer
    return Costs(
        dies=dies,
        memory=stacked,
        packaging=packaging,
        test=technology.test_share.value * (dies + stacked + packaging),
        module=technology.module_cost.value + xp.zeros(()),
    )
