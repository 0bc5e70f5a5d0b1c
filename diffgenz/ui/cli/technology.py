"""`diffgenz technology`: what an accelerator takes to build."""

import argparse
from typing import Any

from diffgenz.ui.cli.flags import add_set


def flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument(
        "system",
        nargs="+",
        help="accelerators whose files say how they are built: ids, or paths of your own files",
    )
    add_set(parser)
    parser.add_argument(
        "--technology",
        metavar="FILE",
        help="coefficients of your own, as calibration/technology.toml has them; what the file "
        "leaves out is as shipped",
    )


def run(options: argparse.Namespace) -> tuple[str, Any]:
    """Area, stacks, power and cost of some accelerators: text and JSON."""
    from diffgenz.hardware.platform import Platform
    from diffgenz.hardware.settings import with_settings
    from diffgenz.hardware.specs import read_spec
    from diffgenz.technology.build import technology_of
    from diffgenz.technology.files import load_technology
    from diffgenz.ui.text.technology import build_of, builds_table, parts_table

    technology = load_technology(options.technology)
    specs = [with_settings(read_spec(system), options.set) for system in options.system]
    built = [
        build_of(spec, technology_of(Platform.from_spec(spec, fit="none"), technology))
        for spec in specs
    ]
    text = [builds_table(built)]
    if len(built) == 1:
        text += ["", parts_table(built[0].build)]
    text += [f"note: set {setting}" for spec in specs for setting in spec.settings]
    return "\n".join(text), [each.to_json() for each in built]
