"""`technology_of`: what an accelerator takes to build."""

from diffgenz.core.checks import demand
from diffgenz.core.record import Record, number
from diffgenz.core.smooth import SHARPNESS, Leaf, Scalar
from diffgenz.hardware.design import Design
from diffgenz.hardware.platform import Platform
from diffgenz.technology.area import (
    Areas,
    areas_of,
    edge_needed,
    edge_of,
    stacks_of,
    whole_stacks,
)
from diffgenz.technology.chip import Chip, chip_of
from diffgenz.technology.coefficients import Technology
from diffgenz.technology.cost import Costs, costs_of, dies_of
from diffgenz.technology.files import load_technology
from diffgenz.technology.power import Powers, powers_of


class Build(Record):
    """What an accelerator takes to build.

    Arguments:
        die_area: mm2 of all dies.
        areas: what takes it up.
        stacks: of memory (devices of GDDR), as area and cost count them: a smooth maximum.
        whole_stacks: the whole number that capacity and bandwidth need.
        shoreline: mm of die edge that memory and links need.
        die_edge: mm of die edge that there is.
        tdp: W, thermal design power.
        powers: what draws it.
        die_yield: the share of dies that work.
        unit_cost: USD that one costs its maker.
        costs: what makes it up.
        unit_price: USD that one is sold for.
    """

    die_area: Leaf = number("mm2")
    areas: Areas
    stacks: Leaf = number()
    whole_stacks: Leaf = number()
    shoreline: Leaf = number("mm")
    die_edge: Leaf = number("mm")
    tdp: Leaf = number("W")
    powers: Powers
    die_yield: Leaf = number()
    unit_cost: Leaf = number("USD")
    costs: Costs
    unit_price: Leaf = number("USD")


QUANTITIES = {
    "die_area": "mm2",
    "stacks": "1",
    "shoreline": "mm",
    "die_edge": "mm",
    "tdp": "W",
    "die_yield": "1",
    "unit_cost": "USD",
    "unit_price": "USD",
}
"""The numbers of a `Build` that formulas may name, and their units."""


def quantities_of(
    platform: Platform, design: Design, technology: Technology | None = None
) -> dict[str, Scalar]:
    """The numbers of `QUANTITIES` of a platform's accelerator, by name.

    Arguments:
        platform: the platform; JAX may trace its numbers.
        design: how its accelerator is built.
        technology: what each part takes; None: as fitted to public chips.
    """
    technology = load_technology() if technology is None else technology
    build = technology_of(chip_of(platform, technology, design), technology)
    return {name: getattr(build, name) for name in QUANTITIES}


def technology_of(
    what: Platform | Chip, technology: Technology | None = None, sharpness: float = SHARPNESS
) -> Build:
    """Die area, stacks, shoreline, TDP, yield, unit cost and price of an accelerator.

    It is written for one accelerator; `jax.vmap` batches it and `jax.grad` differentiates it with
    respect to any number of the chip, the platform or the technology. All of it but `die_yield`,
    `die_edge` and the whole stacks is convex in the logarithms of the chip's numbers.

    Arguments:
        what: a platform whose accelerator's file says how it is built, or a chip.
        technology: what each part takes; None: as fitted to public chips (`load_technology`).
        sharpness: of the maximum over capacity and bandwidth that stacks are.

    Raises:
        InputError: an unknown process or memory, or a platform without a design.
    """
    technology = load_technology() if technology is None else technology
    demand("technology", technology, Technology, "load_technology()")
    demand("what", what, (Platform, Chip), 'load_platform("h100_sxm")')
    chip = what if isinstance(what, Chip) else chip_of(what, technology)
    stacks = stacks_of(chip, technology, sharpness)
    areas = areas_of(chip, technology, stacks)
    powers = powers_of(chip, technology, areas.total)
    good, dies = dies_of(chip, areas, technology)
    costs = costs_of(chip, technology, areas, stacks, dies)
    return Build(
        die_area=areas.total,
        areas=areas,
        stacks=stacks,
        whole_stacks=whole_stacks(chip, technology),
        shoreline=edge_needed(chip, technology, stacks),
        die_edge=edge_of(chip, areas),
        tdp=powers.total,
        powers=powers,
        die_yield=good,
        unit_cost=costs.total,
        costs=costs,
        unit_price=technology.markup.value * costs.total,
    )
