"""Remake the shipped technology file: fit its coefficients to public chips.

    python calibration/technology.py [--check]

It reads the priors and their sources from calibration/technology.toml and how chips are built, with
what is published of them, from hw_specs/*.toml, and writes the fitted values, deviations and their
covariance back. It takes some ten seconds on one core. The table that it prints is that of
docs/technology.md; with --check it writes nothing.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace

from diffgenz.hardware.platform import load_platform
from diffgenz.hardware.specs import read_spec
from diffgenz.technology.build import technology_of
from diffgenz.technology.chip import chip_of
from diffgenz.technology.coefficients import Technology
from diffgenz.technology.files import load_technology, save_technology, technology_path
from diffgenz.technology.fitting import Error, Observed, errors_of, fit_technology, observed_of
from diffgenz.ui.tables import table

SILICON = {
    "a100_sxm": "GA100",
    "h100_sxm": "GH100",
    "h200_sxm": "GH100",
    "b200_sxm": "GB100",
    "b300_sxm": "GB100",
    "mi250x": "Aldebaran",
    "mi300x": "Aqua Vanjaram",
    "mi325x": "Aqua Vanjaram",
    "mi355x": "CDNA 4",
    "l40s": "AD102",
    "l4": "AD104",
    "v100_sxm": "GV100",
}
"""The accelerators that the coefficients are fitted to, and their dies.

Chips of the same dies are left out together, and their area counts once."""

ESTIMATED = ("b200_sxm", "mi250x", "mi300x")
"""Those whose area is an estimate from pictures."""

LEFT_OUT = ("mi210", "rtx_4090", "gaudi2", "gaudi3", "tpu_v4", "tpu_v5p")
"""Accelerators that are compared, but not fitted to.

Other architectures, a graphics card, or dies that are fitted to already."""


def fitted_to(technology: Technology) -> list[Observed]:
    """What is published of the accelerators in `SILICON`."""
    seen: set[str] = set()
    found = []
    for system, silicon in SILICON.items():
        platform, spec = load_platform(system, fit="none"), read_spec(system)
        tdp, estimated = spec.power["tdp"], system in ESTIMATED
        each = observed_of(system, silicon, platform, tdp, technology, estimated)
        if silicon in seen:
            rest = {key: value for key, value in each.published.items() if key != "die_area"}
            each = replace(each, published=rest)
        seen.add(silicon)
        found.append(each)
    return found


def main() -> int:
    """Fit, print the table, write the file."""
    parser = argparse.ArgumentParser(description="Fit the coefficients of technology.")
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    prior = load_technology()
    chips = fitted_to(prior)
    fitted = fit_technology(prior, chips)
    print(errors_table(errors_of(prior, chips)))
    print()
    print(compared_table(fitted))
    if not options.check:
        save_technology(fitted, technology_path())
        print(f"written to {technology_path()}")
    return 0


def errors_table(errors: list[Error]) -> str:
    """Errors, a row for each accelerator."""
    units = {"die_area": "mm2", "tdp": "W", "unit_cost": "USD"}
    header = ["chip"]
    for key, unit in units.items():
        header += [f"{key}, {unit}", "fit %", "left out %"]
    rows = []
    for name in dict.fromkeys(error.name for error in errors):
        own = {error.quantity: error for error in errors if error.name == name}
        row = [name]
        for key in units:
            each = own.get(key)
            row += (
                ["-", "", ""]
                if each is None
                else [
                    f"{each.published:,.0f}",
                    f"{100 * each.fitted:+.1f}",
                    f"{100 * each.left_out:+.1f}",
                ]
            )
        rows.append(row)
    return table(header, rows, "l", within=120)


def compared(technology: Technology) -> Iterator[tuple[str, dict[str, tuple[float, float | None]]]]:
    """What the formulas say of the chips in `LEFT_OUT`, and what is published."""
    for system in LEFT_OUT:
        platform, tdp = load_platform(system, fit="none"), read_spec(system).power["tdp"]
        design = platform.accelerator.design
        assert design is not None
        build = technology_of(chip_of(platform, technology), technology)
        yield (
            system,
            {
                "die_area": (float(build.die_area), design.die_area),
                "tdp": (float(build.tdp), tdp),
                "stacks": (float(build.whole_stacks), design.stacks),
            },
        )


def compared_table(technology: Technology) -> str:
    """The accelerators that were not fitted to."""
    rows = []
    for system, figures in compared(technology):
        row = [system]
        for said, published in figures.values():
            row += [f"{said:,.0f}", "-" if published is None else f"{published:,.0f}"]
        rows.append(row)
    header = ["not fitted to", "area", "published", "TDP", "published", "stacks", "published"]
    return table(header, rows, "l", within=120)


if __name__ == "__main__":
    sys.exit(main())
