"""What tests of technology share: shipped chips, and random ones as NumPy's columns in float64."""

import numpy as np

import diffgenz as dgz
from diffgenz.core.record import numbers_of
from diffgenz.hardware.specs import list_systems, read_spec
from diffgenz.technology.chip import Chip, chip_of

DESIGNED = [system for system in list_systems() if read_spec(system).design_names]
"""The shipped accelerators whose files say how they are built."""

NUMBERS = tuple(numbers_of(Chip))
GROWING = ("die_area", "stacks", "shoreline", "tdp", "unit_cost", "unit_price")
"""What takes more where a chip has more, and is convex in logarithms."""

_MAY_BE_ZERO = {"fp64_flops", "compute_sram", "cache", "unit_sram", "die_to_die", "link_bandwidth"}
_COUNTS = {"compute_dies", "io_dies", "spare_units", "spare_stacks"}


def platform(system: str) -> dgz.Platform:
    return dgz.load_platform(system, fit="none")


def chip(system: str) -> Chip:
    return chip_of(platform(system), dgz.load_technology())


def scattered(system: str, count: int, seed: int) -> dict[str, np.ndarray]:
    """Numbers of chips of one structure, within a factor of four of a shipped chip's."""
    rng, base = np.random.default_rng(seed), chip(system)
    found = {}
    for name in NUMBERS:
        value = float(getattr(base, name))
        if value == 0 and name in _MAY_BE_ZERO:
            value = 1e6
        factors = np.exp(rng.uniform(-1.4, 1.4, count))
        found[name] = value * (np.exp(rng.uniform(0, 0.7, count)) if name in _COUNTS else factors)
    found["nominal_clock"] = np.full(count, float(base.nominal_clock))
    return found


def chip_with(system: str, numbers: dict) -> Chip:
    base = chip(system)
    return Chip(base.process, base.memory, **numbers, io_process=base.io_process)
