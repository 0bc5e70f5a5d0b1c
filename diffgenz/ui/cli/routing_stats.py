"""`diffgenz routing stats`: statistics of a trace, as tables, JSON and a picture."""

import argparse
from pathlib import Path
from typing import Any

from diffgenz.ui.cli.flags import add_plot
from diffgenz.ui.cli.routing_case import check_trace, trace_flags


def flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    trace_flags(
        parser,
        "a trace, or counts: files, or folders, whose folders are domains (docs/routing.md)",
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="the model's name; chooses among those of a file with several",
    )
    parser.add_argument("--layers", action="store_true", help="show every layer, too")
    add_plot(parser, "draw the load of all experts")


def run(options: argparse.Namespace) -> tuple[str, Any]:
    """The statistics: text and JSON, and a picture."""
    from diffgenz.routing.source import open_trace
    from diffgenz.routing.statistics.statistics import routing_statistics
    from diffgenz.ui.cli.progress import progress_line
    from diffgenz.ui.plots.figure import check_picture
    from diffgenz.ui.plots.routing import load_plot
    from diffgenz.ui.text.routing_statistics import statistics_text

    if options.plot is not None:
        check_picture(Path(options.plot))
    check_trace(options)
    with progress_line() as line:
        told = None if line is None else line.write
        trace = open_trace(
            options.trace, experts=options.experts, k=options.top_k, model=options.model
        )
        found = routing_statistics(trace, seed=options.seed, told=told)
    if options.plot is not None:
        load_plot(found, Path(options.plot))
    return statistics_text(found, options.layers), found.data()
