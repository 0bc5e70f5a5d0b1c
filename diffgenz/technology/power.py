"""What an accelerator draws under full load: its thermal design power."""

from diffgenz.core import xp
from diffgenz.core.record import Record, number
from diffgenz.core.smooth import Leaf, Scalar
from diffgenz.technology.chip import Chip
from diffgenz.technology.coefficients import Technology

_WIDTH = 4096.0
"""FLOP in a cycle of one unit to which the energy of a FLOP refers: those of an H100's."""


class Powers(Record):
    """What draws the power.

    Arguments:
        compute: W of arithmetic at the sustained rate.
        leakage: W of the dies whatever happens.
        memory: W of memory at its full bandwidth.
        links: W of links at their full bandwidth in both directions.
    """

    compute: Leaf = number("W")
    leakage: Leaf = number("W")
    memory: Leaf = number("W")
    links: Leaf = number("W")

    @property
    def total(self) -> Scalar:
        """All of it."""
        return self.compute + self.leakage + self.memory + self.links


def powers_of(chip: Chip, technology: Technology, area: Scalar) -> Powers:
    """The powers of an accelerator's parts.

    The energy of a FLOP falls with the FLOP that one unit does in a cycle, which share its control
    and its reads of registers. A clock beyond the nominal one needs more voltage.

    Arguments:
        chip: what is built.
        technology: what each part takes.
        area: mm2 of all dies.
    """
    process = technology.process(chip.process)
    width = chip.flops_per_cycle / chip.units / _WIDTH
    shared = xp.exp(-technology.sharing.value * xp.log(width))
    faster = technology.voltage_share.value
    voltage = (1 - faster) + faster * (chip.clock / chip.nominal_clock) ** 2
    flop = 1e-12 * technology.flop_energy.value * process.energy.value * shared * voltage
    bit = 1e-12 * technology.memory(chip.memory).energy.value
    return Powers(
        compute=flop * chip.sustained_flops,
        leakage=technology.leakage.value * area,
        memory=8 * bit * chip.memory_bandwidth,
        links=16e-12 * technology.link_energy.value * chip.link_bandwidth,
    )
