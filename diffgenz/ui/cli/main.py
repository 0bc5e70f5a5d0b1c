"""The command line: a table of commands.

A command is a file beside this one with `flags(parser)` and `run(options)`, which returns text and
JSON. Such files import what computes inside `run`, so that `--help` and `list` do not wait for JAX.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from diffgenz.core.errors import InputError, NoSolution
from diffgenz.ui.cli import (
    calibrate,
    compare,
    estimate,
    export,
    listing,
    merge,
    optimize,
    pareto,
    replay,
    requirements,
    routing,
    search,
    sensitivity,
    serve,
    sweep,
    technology,
)
from diffgenz.ui.cli.completion import ASKED, complete
from diffgenz.ui.cli.flags import Parser, add_json
from diffgenz.ui.cli.progress import clock
from diffgenz.ui.terminal import wrapped

COMMANDS = {
    "list": (
        listing,
        "the models, systems or use cases that are shipped, or the number formats",
    ),
    "estimate": (estimate, "latency, throughput, memory, energy and cost of a deployment"),
    "serve": (
        serve,
        "latency percentiles, throughput and goodput under a load of requests",
    ),
    "replay": (
        replay,
        "latencies of the requests of a log, served one iteration after the other",
    ),
    "sensitivity": (
        sensitivity,
        "what a metric depends on: its elasticity to every hardware number",
    ),
    "search": (
        search,
        "the best deployments on so many accelerators: all plans, batch sizes and formats",
    ),
    "export": (export, "the launch command of a deployment that a search found"),
    "requirements": (
        requirements,
        "the least compute, memory and network that meet a use case's objectives",
    ),
    "sweep": (
        sweep,
        "every configuration of a design space, reduced to what a file asks for (docs/sweeps.md)",
    ),
    "optimize": (
        optimize,
        "the accelerator, batch and plan that serve best, and what each limit costs "
        "(docs/codesign.md)",
    ),
    "pareto": (
        pareto,
        "what a sweep kept: its Pareto front, best configurations, maps; as table, file or picture",
    ),
    "technology": (
        technology,
        "what an accelerator takes to build: die area, stacks, TDP, yield, unit cost, price",
    ),
    "routing": (routing, "traces of expert activations of mixture-of-experts models"),
    "calibrate": (
        calibrate,
        "kernel models from measurements: parameters with standard errors, held-out errors",
    ),
    "compare": (
        compare,
        "a serving benchmark's own file beside the estimate of the same set-up",
    ),
    "merge": (merge, "one sweep of its shards"),
}
"""The file of each command, and what it does, for `--help`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `diffgenz`.

    Returns:
        The exit code: 0; 2 for input that cannot be used; 3 where nothing qualifies; 130 if
        interrupted.
    """
    try:
        parser = _parser()
        if ASKED in os.environ:
            complete(parser)
        options = parser.parse_args(arguments)
        with clock(options.command):
            text, data = COMMANDS[options.command][0].run(options)
        print(json.dumps(data, indent=2, allow_nan=False) if options.json else wrapped(text))
        sys.stdout.flush()
    except InputError as error:
        print(f"diffgenz: error: {error}", file=sys.stderr)
        return 2
    except NoSolution as answer:
        print(f"diffgenz: {answer}", file=sys.stderr)
        return 3
    except KeyboardInterrupt as stop:
        print(f"diffgenz: interrupted{stop}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    about = "latency, throughput, memory, energy, cost"
    parser = Parser(
        prog="diffgenz", description=f"What serving a large language model takes: {about}."
    )
    parser.add_argument("--version", action="version", version=f"diffgenz {version('diffgenz')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (command, what) in COMMANDS.items():
        own = commands.add_parser(name, help=what)
        command.flags(own)
        add_json(own)
    return parser
