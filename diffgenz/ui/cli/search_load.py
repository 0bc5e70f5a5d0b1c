"""`diffgenz search --rate|--concurrency`: the best deployments under a load."""

import argparse
from typing import TYPE_CHECKING, Any

from diffgenz.core.errors import InputError
from diffgenz.ui.cli.flags import COUNT, REAL, add_engine, engine_for
from diffgenz.ui.cli.progress import progress_line

if TYPE_CHECKING:
    from diffgenz.scenario.from_words import Asked
    from diffgenz.serving.load import Load
    from diffgenz.serving.objectives import Objectives

_NEVER = {
    "batch": "how many requests are under way follows from the load",
    "sort": "under a load goodput says which is best",
    "where": "conditions are on estimates of one batch",
    "plot": "the picture is of estimates of one batch",
    "mixed": "under a load iterations are mixed anyway",
}
"""What says nothing under a load."""


def add_load(parser: argparse.ArgumentParser) -> None:
    """The flags of a load."""
    loop = parser.add_mutually_exclusive_group()
    loop.add_argument(
        "--rate",
        type=REAL,
        metavar="R",
        help="rank by goodput where so many requests/s arrive, as `serve` answers each deployment",
    )
    loop.add_argument(
        "--concurrency",
        type=COUNT,
        metavar="C",
        help="the same, where so many requests are under way all the time",
    )
    parser.add_argument(
        "--of",
        choices=("mean", "p50", "p90", "p99"),
        help="with a load: of which latencies --ttft and --tpot are limits (default: p90)",
    )
    parser.add_argument(
        "--sigma",
        type=REAL,
        metavar="X",
        help="with a load: lengths are lognormal, with this standard deviation of their logarithm "
        "(default: all alike)",
    )
    add_engine(parser)


def has_load(options: argparse.Namespace) -> bool:
    """Whether the flags say a load."""
    if options.rate is not None or options.concurrency is not None:
        return True
    for name in ("of", "sigma", "serving_fit"):
        if getattr(options, name) is not None:
            flag = name.replace("_", "-")
            raise InputError(
                f"--{flag}: is of a load; give --rate or --concurrency, or leave it out"
            )
    return False


def run_under_load(
    options: argparse.Namespace, asked: "Asked", defaults: dict[str, Any]
) -> tuple[list[str], dict[str, Any]]:
    """The best deployments under the load: lines of text, and JSON.

    Arguments:
        options: the flags.
        asked: the scenario that they say.
        defaults: by name, what a flag holds where it was not given.
    """
    from diffgenz.studies.search.formats import formats_of
    from diffgenz.studies.search.under_load import search_under_load
    from diffgenz.ui.text.scenario import note_lines, notes_of, serving_json, serving_lines
    from diffgenz.ui.text.search_load import load_row, search_load_text

    for name, why in _NEVER.items():
        if getattr(options, name) != defaults[name]:
            raise InputError(f"--{name}: {why}; leave it out, or --rate and --concurrency")
    case, chunks, of = asked.scenario, options.chunk, options.of or "p90"
    engine = engine_for(options, case)
    if None in chunks:
        raise InputError("--chunk: whole prompts are not modelled under load; give tokens")
    load, objectives = _load(options), _objectives(options)
    device = case.platform.accelerator
    precisions, told = formats_of(
        case.model, device, options.weights, options.kv_cache, options.messages
    )
    with progress_line() as line:
        found = search_under_load(
            case,
            load,
            objectives,
            of=of,
            engine=engine,
            precisions=precisions,
            chunks=[float(chunk) for chunk in chunks],
            any_layout=options.any_layout,
            progress=line
            and (lambda done, total: line.write(f"{done:,} of {total:,} deployments")),
        )
    best = found.deployments[: options.top]
    notes = [*told, *found.notes]
    limits = {"ttft": options.ttft, "tpot": options.tpot}
    rate = None if load.rate is None else float(load.rate)
    under_way = None if load.concurrency is None else float(load.concurrency)
    data = {
        "model": case.model.name,
        "system": asked.system,
        "accelerators": options.gpus,
        "input_tokens": options.isl,
        "output_tokens": options.osl,
        "load": {"rate": rate, "concurrency": under_way, "sigma": options.sigma},
        "targets": {
            "of": of,
            **{name: None if ms is None else ms / 1e3 for name, ms in limits.items()},
        },
        "engine": {
            "max_num_seqs": options.max_num_seqs,
            "host_seconds": float(engine.host_seconds),
        },
        "serving": {k: v for k, v in serving_json(case.serving).items() if k != "chunk"},
        "notes": [*notes_of(case), *notes],
        "tried": found.tried,
        "sustaining": found.sustaining,
        "meeting": len(found.deployments),
        "left_out": found.refused,
        "best": [load_row(each) for each in best],
        "not_ranked": [load_row(each) for each in found.apart[: options.top]],
    }
    lines = [*note_lines(case, notes), *serving_lines(case.serving, chunks)]
    lines.append(search_load_text(found, best, _told(options, of), of))
    return lines, data


def _load(options: argparse.Namespace) -> "Load":
    from diffgenz.serving.lengths import Constant, Lognormal
    from diffgenz.serving.load import Load

    lengths = Lognormal(sigma=options.sigma) if options.sigma else Constant()
    under_way = None if options.concurrency is None else float(options.concurrency)
    return Load(rate=options.rate, concurrency=under_way, prompts=lengths, outputs=lengths)


def _objectives(options: argparse.Namespace) -> "Objectives | None":
    from diffgenz.serving.objectives import Objectives

    limits = {"ttft": options.ttft, "tpot": options.tpot}
    given = {name: value / 1e3 for name, value in limits.items() if value is not None}
    return Objectives(**given) if given else None


def _told(options: argparse.Namespace, of: str) -> str:
    """The load and the objectives, for people."""
    load = (
        f"{options.rate:g} requests/s"
        if options.rate is not None
        else f"{options.concurrency:,} requests under way"
    )
    limits = {"TTFT": options.ttft, "TPOT": options.tpot}
    kind = "mean" if of == "mean" else of.upper()
    told = [f"{kind} {name} <= {ms:g} ms" for name, ms in limits.items() if ms is not None]
    return f"{' and '.join(told)} at {load}" if told else load
