"""The coefficients of technology: each a number with its prior, its deviation, unit and source.

A coefficient is positive, and what is known of it is normal in its logarithm: a prior width of 0.5
says that it is within a factor of exp(0.5) = 1.65 two times out of three.
"""

import numpy as np

from diffgenz.core.errors import unknown
from diffgenz.core.record import Record, label, number
from diffgenz.core.smooth import Leaf


class Coefficient(Record):
    """One coefficient.

    Arguments:
        value: in `unit`; what formulas take.
        prior: the value before any chip was looked at.
        width: the standard deviation of the logarithm before any chip was looked at; 0 where the
            value holds by definition.
        deviation: the standard deviation of the logarithm of `value`, after the fit.
        unit: for people.
        source: where the prior is from.
    """

    value: Leaf = number(above=0)
    prior: Leaf = number(above=0)
    width: Leaf = number()
    deviation: Leaf = number()
    unit: str = label()
    source: str = label()

    def __repr__(self) -> str:
        """Its value and unit, and within which factor it is known."""
        if not isinstance(self.value, np.floating | float):
            return f"Coefficient(<{self.unit}>)"
        return f"{float(self.value):.4g} {self.unit} (+- {100 * float(self.deviation):.0f} %)"


class Process(Record):
    """What a process of a foundry takes.

    Arguments:
        density: of logic, relative to that of N5.
        sram_cell: um2 of an SRAM cell.
        energy: of switching at the same speed, relative to that of N5.
        wafer_price: USD of a 300 mm wafer.
        defects: defects per cm2.
    """

    density: Coefficient
    sram_cell: Coefficient
    energy: Coefficient
    wafer_price: Coefficient
    defects: Coefficient


class Memory(Record):
    """What a stack of memory takes, or a 32-bit device of GDDR.

    Arguments:
        bandwidth: GB/s of one stack.
        phy_area: mm2 of die for the interface of one, in any process.
        logic_area: mm2 of die for the controller of one, in N5.
        edge: mm of die edge for the interface of one.
        energy: pJ to move a bit, with both ends and the array.
        price: USD for a GB.
        footprint: mm2 of the interposer for one; of GDDR, which has none, next to nothing.
        packaging: USD for a mm2 of interposer or substrate, with what is lost in assembly.
    """

    bandwidth: Coefficient
    phy_area: Coefficient
    logic_area: Coefficient
    edge: Coefficient
    energy: Coefficient
    price: Coefficient
    footprint: Coefficient
    packaging: Coefficient


class Technology(Record):
    """What each part of an accelerator takes: all that its area, power and cost depend on.

    Arguments:
        matrix_area: mm2 in N5 of arithmetic, for 1000 FLOP in a cycle at 16 bits.
        fp64_area: mm2 in N5 of arithmetic, for 1000 FLOP in a cycle at 64 bits.
        unit_area: mm2 in N5 of one compute unit, beside its arithmetic and SRAM.
        unit_sram_area: mm2 in N5 for a MB of registers and local memory.
        cache_area: mm2 in N5 for a MB of shared SRAM.
        other_area: mm2 of each accelerator in any process: PCIe, video, fuses, test.
        link_phy_area: mm2 for each GB/s in a direction of links, in any process.
        link_logic_area: mm2 in N5 for each GB/s of links.
        die_to_die_area: mm2 for each TB/s between dies, both directions together.
        link_edge: mm of die edge for each 100 GB/s of links.
        other_edge: mm of die edge of everything else.
        flop_energy: pJ of one FLOP at 16 bits in N5, chip and package, at 4096 FLOP in a cycle of
            a unit.
        sharing: by which power of the FLOP in a cycle of a unit the energy of one falls.
        voltage_share: the part of the energy of a FLOP that grows with the square of the clock.
        leakage: W/mm2 drawn whatever happens.
        link_energy: pJ to move a bit over a link, both ends.
        sustained_share: the part of the 16-bit peak that large matrix products reach within the
            power limit, for chips of which nobody measured it.
        critical_share: the part of a die in which a defect costs the die.
        test_share: test and losses in assembly as a share of everything that is packaged.
        module_cost: USD of everything else: substrate, board, regulators, cooling.
        markup: price / unit cost.
        processes: by name.
        memories: by name.
        covariance: of the logarithms of values, in the order of `uncertain`; None: independent.
        uncertain: the names of those coefficients whose covariance is stated.
    """

    matrix_area: Coefficient
    fp64_area: Coefficient
    unit_area: Coefficient
    unit_sram_area: Coefficient
    cache_area: Coefficient
    other_area: Coefficient
    link_phy_area: Coefficient
    link_logic_area: Coefficient
    die_to_die_area: Coefficient
    link_edge: Coefficient
    other_edge: Coefficient
    flop_energy: Coefficient
    sharing: Coefficient
    voltage_share: Coefficient
    leakage: Coefficient
    link_energy: Coefficient
    sustained_share: Coefficient
    critical_share: Coefficient
    test_share: Coefficient
    module_cost: Coefficient
    markup: Coefficient
    processes: dict[str, Process]
    memories: dict[str, Memory]
    covariance: Leaf | None = None
    uncertain: tuple[str, ...] = label(default=())

    def __repr__(self) -> str:
        count = len(coefficients_of(self))
        names = f"processes {', '.join(self.processes)}; memories {', '.join(self.memories)}"
        return f"Technology({count} coefficients; {names})"

    def process(self, name: str) -> Process:
        """The process called `name`.

        Raises:
            InputError: there is none.
        """
        if name not in self.processes:
            raise unknown("process", name, self.processes)
        return self.processes[name]

    def memory(self, name: str) -> Memory:
        """The memory called `name`.

        Raises:
            InputError: there is none.
        """
        if name not in self.memories:
            raise unknown("memory", name, self.memories)
        return self.memories[name]


def coefficients_of(
    record: Technology | Process | Memory, prefix: str = ""
) -> dict[str, Coefficient]:
    """Every coefficient by name: "matrix_area", "processes.N5.density", ..., in a fixed order."""
    found: dict[str, Coefficient] = {}
    for name in type(record).__dataclass_fields__:
        value = getattr(record, name)
        if isinstance(value, Coefficient):
            found[f"{prefix}{name}"] = value
        elif isinstance(value, dict):
            for key in sorted(value):
                found |= coefficients_of(value[key], f"{prefix}{name}.{key}.")
    return found
