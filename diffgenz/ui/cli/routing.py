"""`diffgenz routing`: traces of expert activations. A table of commands of its own.

A command of it is a file beside this one with `flags(parser)` and `run(options)`, as of `main.py`.
"""

import argparse
from typing import Any

from diffgenz.ui.cli import (
    routing_group,
    routing_place,
    routing_simulate,
    routing_stats,
    routing_synthesize,
)

COMMANDS = {
    "stats": (
        routing_stats,
        "load imbalance, domains, prefill against decode, co-activation, stability of a trace",
    ),
    "place": (
        routing_place,
        "where experts should live: a placement, and what it is worth on requests held out",
    ),
    "group": (
        routing_group,
        "requests in groups, one for each node, by the experts that they use",
    ),
    "simulate": (
        routing_simulate,
        "who sends how much to whom under a placement, and how full ranks are",
    ),
    "synthesize": (
        routing_synthesize,
        "draw a trace from a generative model: a preset, a file, or fitted to a trace",
    ),
}
"""The file of each command, and what it does, for `--help`."""


def flags(parser: argparse.ArgumentParser) -> None:
    """The commands, each with its own arguments."""
    commands = parser.add_subparsers(dest="routing_command", required=True, metavar="COMMAND")
    for name, (command, what) in COMMANDS.items():
        own = commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
        command.flags(own)
        own.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="print JSON, in SI units"
        )


def run(options: argparse.Namespace) -> tuple[str, Any]:
    """What the command answers: text and JSON."""
    return COMMANDS[options.routing_command][0].run(options)
