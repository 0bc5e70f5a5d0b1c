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
from diffgenz.ui.cli.serve_pools import add_pools, decode_words, has_pools, run_pools
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
    parser.add_argument(
        "--router",
        choices=("random", "round_robin"),
        default="random",
        help="how requests are dealt out to replicas (default: random)",
    )
    for name, what in (("ttft", "time to first token"), ("tpot", "time per output token")):
        parser.add_argument(
            f"--{name}",
            type=MILLISECONDS,
            metavar="MS",
            help=f"objective for the {what}, for goodput",
        )
    parser.add_argument(
        "--of",
        choices=("mean", "p50", "p90", "p99"),
        default="mean",
        help="of which latencies objectives are limits, but for goodput (default: mean)",
    )
    parser.add_argument(
        "--replicas",
        action="store_true",
        help="with objectives: the fewest replicas of the deployment that meet them; figures are "
        "those of one of them under its share of the load",
    )
    parser.add_argument(
        "--draws",
        type=COUNT,
        metavar="N",
        help="with objectives: the probability of meeting them, by N draws of what is uncertain of "
        "the fitted kernels",
    )
    add_pools(parser)
    add_plot(parser, "draw latencies against the rate")


def run(options: argparse.Namespace) -> tuple[str, Any]:
    """The figures at every load: text and JSON."""
    from diffgenz.inference.timed_by import timed_by
    from diffgenz.serving.limits import max_concurrency, max_rate
    from diffgenz.serving.probability import probability_of_meeting
    from diffgenz.serving.replicas import replicas_for
    from diffgenz.serving.serve import saturation_rate, serve
    from diffgenz.ui.plots.figure import check_picture
    from diffgenz.ui.plots.serve import serve_plot
    from diffgenz.ui.text.scenario import deployed, title
    from diffgenz.ui.text.serve import Further, Promise, served_json, served_text

    if options.plot is not None:
        check_picture(Path(options.plot))
    for name in ("plot", "burstiness"):
        if options.concurrency and getattr(options, name) is not None:
            raise InputError(f"--{name}: is of a rate; leave out --concurrency, or --{name}")
    asked = asked_of(words_in(options, _WORDS), options.set, options.placement)
    if has_pools(options):
        decode = words_in(options, _WORDS) | decode_words(options)
        there = asked_of(decode, options.set, options.placement)
        engine = engine_for(options, asked.scenario).replace(router=options.router)
        return run_pools(options, asked, there, (_arrivals(options), engine, _objectives(options)))
    case, timed = asked.scenario, timed_by(asked.scenario)
    engine = engine_for(options, case).replace(router=options.router)
    objectives = _objectives(options)
    for name in ("replicas", "draws"):
        if getattr(options, name) and objectives is None:
            raise InputError(f"--{name}: needs objectives; give --ttft or --tpot, or leave it out")
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
    asked_for, more = loads, [Further() for _ in loads]
    if options.replicas and objectives is not None:
        found = [replicas_for(case, load, objectives, engine, options.of) for load in loads]
        loads, results = [each.share for each in found], [each.each for each in found]
        more = [each._replace(replicas=n.count) for each, n in zip(more, found, strict=True)]
    else:
        results = [serve(case, load, engine, objectives) for load in loads]
    if options.draws and objectives is not None:
        chances = (
            probability_of_meeting(
                case, load, objectives, engine, of=options.of, draws=options.draws
            )
            for load in loads
        )
        more = [each._replace(probability=p) for each, p in zip(more, chances, strict=True)]
    limit = None
    if objectives is not None and not (options.requests or options.lockstep):
        highest = max_concurrency if options.concurrency else max_rate
        limit = float(highest(case, objectives, loads[0], engine, options.of))
    promise = Promise(objectives, options.of, limit)
    text = served_text(asked_for, results, most, promise, more)
    if options.plot is not None:
        curve = [share * most for share in _CURVE]
        found = [serve(case, arrivals.replace(rate=rate), engine, objectives) for rate in curve]
        serve_plot(curve, found, most, objectives, Path(options.plot), deployed(case))
        text += f"\n\nwrote {options.plot}"
    data = served_json(asked, timed, asked_for, results, most, promise, more)
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
