"""`diffgenz serve --workers|--split`: prefill and decode on pools of their own."""

import argparse
from typing import TYPE_CHECKING, Any

from diffgenz.core.errors import InputError
from diffgenz.ui.cli.flags import COUNT

if TYPE_CHECKING:
    from diffgenz.scenario.from_words import Asked
    from diffgenz.serving.load import Engine, Load
    from diffgenz.serving.objectives import Objectives

_OWN = ("decode_system", "decode_gpus", "decode_tp", "link", "link_latency", "per")
_SHARES = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9)
_TOP = 8


def add_pools(parser: argparse.ArgumentParser) -> None:
    """The flags of disaggregated serving."""
    group = parser.add_argument_group("prefill and decode on workers of their own")
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--workers",
        type=COUNT,
        nargs=2,
        metavar=("P", "D"),
        help="workers that prefill, each as the other flags say, and workers that decode",
    )
    which.add_argument(
        "--split",
        type=COUNT,
        metavar="N",
        help="with objectives: how to split N accelerators into both",
    )
    group.add_argument(
        "--decode-system", metavar="SYSTEM", help="system of a decode worker (default: --system)"
    )
    group.add_argument(
        "--decode-gpus", type=COUNT, metavar="N", help="its accelerators (default: --gpus)"
    )
    group.add_argument(
        "--decode-tp", type=COUNT, metavar="N", help="its tensor-parallel ranks (default: --tp)"
    )
    group.add_argument("--link", metavar="BANDWIDTH", help='between both pools, such as "50 GB/s"')
    group.add_argument(
        "--link-latency", metavar="TIME", help='of one transfer, such as "1 ms" (default: 0)'
    )
    group.add_argument(
        "--per",
        choices=("accelerator", "cost", "total"),
        help="with --split: the best has the highest rate for each accelerator, for each USD, or "
        "in total (default: total)",
    )


def has_pools(options: argparse.Namespace) -> bool:
    """Whether the flags say pools; raises `InputError` for a flag that does not go there."""
    if options.workers or options.split:
        for name in ("concurrency", "requests", "lockstep", "replicas", "draws", "plot"):
            if getattr(options, name):
                raise InputError(f"--{name}: not modelled with pools; leave it out")
        if options.link is None:
            raise InputError('--link: is missing; give the bandwidth between both, as "50 GB/s"')
        return True
    for name in _OWN:
        if getattr(options, name) is not None:
            flag = name.replace("_", "-")
            raise InputError(f"--{flag}: is of pools; give --workers or --split, or leave it out")
    return False


def decode_words(options: argparse.Namespace) -> dict[str, Any]:
    """What is other of a decode worker, by word."""
    words = {
        "system": options.decode_system,
        "gpus": options.decode_gpus,
        "tp": options.decode_tp,
    }
    return {name: value for name, value in words.items() if value is not None}


def run_pools(
    options: argparse.Namespace,
    asked: "Asked",
    there: "Asked",
    under: "tuple[Load, Engine, Objectives | None]",
) -> tuple[str, Any]:
    """The figures at every rate, or the best splits: text and JSON.

    Arguments:
        options: the flags.
        asked: the scenario on a prefill worker.
        there: the scenario on a decode worker.
        under: arrivals, what workers are set to, and the objectives.
    """
    from diffgenz.core.units import parse
    from diffgenz.inference.timed_by import timed_by
    from diffgenz.serving.disaggregated_load import serve_disaggregated
    from diffgenz.serving.disaggregation import Pool
    from diffgenz.serving.pool_split import best_pools
    from diffgenz.ui.text.scenario import title
    from diffgenz.ui.text.serve import Further, Promise, served_json, served_text
    from diffgenz.ui.text.serve_pools import pools_json, pools_text, split_json, split_text

    case, (arrivals, engine, objectives) = asked.scenario, under
    counts = options.workers or (1, 1)
    pools = [
        Pool(each.scenario.platform, each.scenario.plan, float(n))
        for each, n in zip((asked, there), counts, strict=True)
    ]
    latency = options.link_latency or "0 s"
    link = {
        "link_bandwidth": parse(options.link, "B/s", field="--link"),
        "link_latency": parse(latency, "s", field="--link-latency"),
    }
    timed = timed_by(case) | timed_by(there.scenario)
    head = title(case, asked.note, timed)
    if options.split:
        if objectives is None:
            raise InputError("--split: needs objectives; give --ttft or --tpot")
        per = options.per or "total"
        settings = {"load": arrivals, "engine": engine, "of": options.of, "per": per}
        found = best_pools(
            case, objectives, *pools, accelerators=options.split, **link, **settings
        )[:_TOP]
        return f"{head}\n\n{split_text(found, pools, per)}", split_json(found, pools, link)

    def at(rate: float) -> Any:
        load = arrivals.replace(rate=rate)
        return serve_disaggregated(case, load, *pools, **link, engine=engine, objectives=objectives)

    idle = at(1e-6)
    most = float(idle.result.saturation_rate)
    rates = options.rate or [share * most for share in _SHARES]
    found = [at(float(rate)) for rate in rates]
    loads = [arrivals.replace(rate=float(rate)) for rate in rates]
    results, promise = [each.result for each in found], Promise(objectives, options.of, None)
    more = [Further() for _ in loads]
    text = served_text(loads, results, most, promise, more)
    data = served_json(asked, timed, loads, results, most, promise, more)
    data |= pools_json(idle, pools, link)
    return f"{head}\n{pools_text(idle, pools, link)}\n\n{text}", data
