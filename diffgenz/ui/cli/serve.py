"""`diffgenz serve`: latency percentiles, throughput and goodput of a deployment under load."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffgenz.core.errors import InputError
from diffgenz.ui.cli.flags import (
    COUNT,
    LAYOUT,
    MILLISECONDS,
    REAL,
    add_engine,
    add_plot,
    add_set,
    add_words,
    engine_for,
    words_in,
)
from diffgenz.ui.cli.traced import add_placement, asked_of

if TYPE_CHECKING:
    from diffgenz.serving.load import Load
    from diffgenz.serving.objectives import Objectives

_WORDS = (*(name for name in LAYOUT if name != "mixed"), "fit", "isl", "osl")
_SHARES = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9)
_CURVE = tuple(step / 40 for step in range(1, 40))
_EXAMPLE = (
    "diffgenz serve meta-llama/Llama-3.1-8B --system h100_sxm --isl 2048 --osl 256 --rate 4 8 12 "
    "--ttft 200 --tpot 20"
)


def flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.epilog = f"Example: {_EXAMPLE}"
    add_words(parser, _WORDS)
    add_placement(parser)
    add_set(parser)
    loop = parser.add_mutually_exclusive_group()
    loop.add_argument(
        "--rate",
        type=REAL,
        nargs="+",
        metavar="R",
        help="requests/s that arrive, one or several (default: shares of the saturation rate)",
    )
    loop.add_argument(
        "--concurrency",
        type=COUNT,
        nargs="+",
        metavar="N",
        help="requests under way all the time, one or several",
    )
    parser.add_argument(
        "--requests",
        type=COUNT,
        metavar="N",
        help="with a concurrency: how many a benchmark sends in all",
    )
    parser.add_argument(
        "--lockstep",
        action="store_true",
        help="with a concurrency: requests stay together as they started",
    )
    parser.add_argument(
        "--burstiness",
        type=REAL,
        metavar="X",
        help="with a rate: squared coefficient of variation of the time between arrivals "
        "(default: 1, Poisson)",
    )
    parser.add_argument(
        "--sigma",
        type=REAL,
        default=0.0,
        metavar="X",
        help="lengths of prompts and answers are lognormal, with this standard deviation of their "
        "logarithm (default: 0, all alike)",
    )
    add_engine(parser)
    for name, what in (("ttft", "time to first token"), ("tpot", "time per output token")):
        parser.add_argument(
            f"--{name}",
            type=MILLISECONDS,
            metavar="MS",
            help=f"objective for the {what}, for goodput",
        )
    add_plot(parser, "draw latencies against the rate")


def run(options: argparse.Namespace) -> tuple[str, Any]:
    """The figures at every load: text and JSON."""
    from diffgenz.inference.timed_by import timed_by
    from diffgenz.serving.limits import max_concurrency, max_rate
    from diffgenz.serving.serve import saturation_rate, serve
    from diffgenz.ui.plots.figure import check_picture
    from diffgenz.ui.plots.serve import serve_plot
    from diffgenz.ui.text.scenario import deployed, title
    from diffgenz.ui.text.serve import served_json, served_text

    if options.plot is not None:
        check_picture(Path(options.plot))
    for name in ("plot", "burstiness"):
        if options.concurrency and getattr(options, name) is not None:
            raise InputError(f"--{name}: is of a rate; leave out --concurrency, or --{name}")
    asked = asked_of(words_in(options, _WORDS), options.set, options.placement)
    case, timed = asked.scenario, timed_by(asked.scenario)
    engine, objectives = engine_for(options, case), _objectives(options)
    arrivals = _arrivals(options)
    most = float(saturation_rate(case, arrivals, engine))
    requests = None if options.requests is None else float(options.requests)
    loop = {"requests": requests, "lockstep": options.lockstep}
    if options.concurrency:
        start = arrivals.replace(rate=None, concurrency=1.0)
        loads = [start.replace(concurrency=float(n), **loop) for n in options.concurrency]
    else:
        rates = options.rate or [share * most for share in _SHARES]
        loads = [arrivals.replace(rate=float(rate), **loop) for rate in rates]
    results = [serve(case, load, engine, objectives) for load in loads]
    limit = None
    if objectives is not None and not (options.requests or options.lockstep):
        highest = max_concurrency if options.concurrency else max_rate
        limit = float(highest(case, objectives, loads[0], engine))
    text = served_text(loads, results, most, objectives, limit)
    if options.plot is not None:
        curve = [share * most for share in _CURVE]
        found = [serve(case, arrivals.replace(rate=rate), engine, objectives) for rate in curve]
        serve_plot(curve, found, most, objectives, Path(options.plot), deployed(case))
        text += f"\n\nwrote {options.plot}"
    data = served_json(asked, timed, loads, results, most, limit)
    return f"{title(case, asked.note, timed)}\n\n{text}", data


def _objectives(options: argparse.Namespace) -> "Objectives | None":
    from diffgenz.serving.objectives import Objectives

    limits = {"ttft": options.ttft, "tpot": options.tpot}
    given = {name: value / 1e3 for name, value in limits.items() if value is not None}
    return Objectives(**given) if given else None


def _arrivals(options: argparse.Namespace) -> "Load":
    """A request each second, as bursty and as long as the flags say."""
    from diffgenz.serving.lengths import Constant, Lognormal
    from diffgenz.serving.load import Load

    lengths = Lognormal(sigma=options.sigma) if options.sigma else Constant()
    burstiness = 1.0 if options.burstiness is None else options.burstiness
    return Load(rate=1.0, burstiness=burstiness, prompts=lengths, outputs=lengths)
