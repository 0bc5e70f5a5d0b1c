"""`diffgenz routing stats`: statistics of a trace, as tables, JSON and a picture."""

import argparse
from pathlib import Path
from typing import Any


def trace_flags(parser: argparse.ArgumentParser) -> None:
    """The arguments that say which trace, and what its files do not say."""
    parser.add_argument(
        "trace",
        nargs="+",
        metavar="TRACE",
        help="a trace, or counts: files, or folders, whose folders are domains (docs/routing.md)",
    )
    parser.add_argument(
        "--experts",
        type=int,
        metavar="N",
        help="routed experts per layer, where the files do not say (default: largest id plus 1)",
    )
    parser.add_argument(
        "--top-k",
        type=int,
        metavar="K",
        help="experts that a token chooses, for files that keep no shapes (SGLang's responses)",
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="the model's name; chooses among those of a file with several",
    )


def flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    trace_flags(parser)
    parser.add_argument("--layers", action="store_true", help="show every layer, too")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the random draws (default: 0)"
    )
    parser.add_argument(
        "--plot",
        metavar="FILE",
        help="draw the load of all experts as .png, .svg or .pdf (needs diffgenz[plots])",
    )


def run(options: argparse.Namespace) -> tuple[str, Any]:
    """The statistics: text and JSON, and a picture."""
    from diffgenz.core.errors import InputError
    from diffgenz.routing.source import open_trace
    from diffgenz.routing.statistics.statistics import routing_statistics
    from diffgenz.ui.cli.progress import progress_line
    from diffgenz.ui.plots.figure import check_picture
    from diffgenz.ui.plots.routing import load_plot
    from diffgenz.ui.text.routing_statistics import statistics_text

    if options.plot is not None:
        check_picture(Path(options.plot))
    for name, value in (("--experts", options.experts), ("--top-k", options.top_k)):
        if value is not None and value < 1:
            raise InputError(f"{name}: {value} is not allowed; it must be at least 1")
    if options.seed < 0:
        raise InputError(f"--seed: {options.seed} is not allowed; it must be at least 0")
    with progress_line() as line:
        told = None if line is None else line.write
        trace = open_trace(
            options.trace, experts=options.experts, k=options.top_k, model=options.model
        )
        found = routing_statistics(trace, seed=options.seed, told=told)
    if options.plot is not None:
        load_plot(found, Path(options.plot))
    return statistics_text(found, options.layers), found.data()
