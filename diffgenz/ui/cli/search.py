"""`diffgenz search`: the best deployments, a Pareto front, files and a picture of it."""

import argparse
import json
from pathlib import Path
from typing import Any

from diffgenz.core.counts import whole
from diffgenz.core.errors import InputError
from diffgenz.core.files import written_aside
from diffgenz.scenario.words import CHECKPOINT, CHUNK, GEAR
from diffgenz.ui.cli.cache import cache_compilations
from diffgenz.ui.cli.flags import (
    COUNT,
    MILLISECONDS,
    SERVING,
    add_plot,
    add_set,
    add_words,
    words_in,
)
from diffgenz.ui.cli.progress import progress_line
from diffgenz.ui.cli.search_load import add_load, has_load, run_under_load
from diffgenz.ui.cli.traced import add_placement, said_by

_TARGETS = {"ttft": "time to first token, at most", "tpot": "time per output token, at most"}
_SORT = "tokens_per_second_per_accelerator"
_UNSAID = {"batch": None, "sort": _SORT, "where": [], "plot": None, "mixed": False}
_BEFORE = ("model", "generic", "system", "gpus", "imbalance", "routing", "isl", "osl", "fit")


def flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    gpus = {"required": True, "help": "accelerators; every plan uses all of them"}
    add_words(parser, _BEFORE, {"gpus": gpus})
    add_placement(
        parser,
        "where experts are in layouts with its nodes and ranks, as `diffgenz routing place` writes "
        "it; needs a trace as --routing (default, and in other layouts: experts in order)",
    )
    add_set(parser)
    for name, what in _TARGETS.items():
        parser.add_argument(f"--{name}", type=MILLISECONDS, metavar="MS", help=what)
    changed: dict[str, dict[str, Any]] = {
        "batch": {
            "nargs": "+",
            "default": None,
            "help": "requests in flight to try (default: powers of two to 4096)",
        },
        "weights": {
            "nargs": "+",
            "help": f"formats of weights to try, among them {CHECKPOINT}: as its config.json says "
            "(default: checkpoint where that is quantised, else those that engines make or known "
            "variants are in, and the system multiplies)",
        },
        "kv-cache": {
            "nargs": "+",
            "help": f"formats of keys and values to try, among them {GEAR} (default: dtype and "
            "fp8)",
        },
        "chunk": {
            "type": _chunk,
            "nargs": "+",
            "default": [CHUNK],
            "metavar": "TOKENS",
            "help": "chunked prefill: prompt tokens of one iteration to try, or whole "
            f"(default: {CHUNK})",
        },
        "mixed": {"help": "--tpot holds while each iteration carries a chunk of prompts, too"},
    }
    add_words(parser, ("batch", "weights", "kv-cache", "messages", *SERVING), changed)
    parser.add_argument(
        "--sort",
        metavar="METRIC",
        default=_SORT,
        help="the metric that says which is best (default: tokens_per_second_per_accelerator)",
    )
    parser.add_argument(
        "--where",
        metavar="CONDITION",
        action="append",
        default=[],
        help="what else must hold, of metrics in SI, ranks, batch and chunk: 'tensor <= 8'; may be "
        "given again",
    )
    parser.add_argument(
        "--any-layout",
        action="store_true",
        help="try layouts, too, that neither vLLM nor SGLang accepts",
    )
    parser.add_argument("--top", type=COUNT, default=10, help="rows to show (default: 10)")
    parser.add_argument("--out", metavar="FILE", help="save the rows as .json or .csv")
    add_plot(parser, "draw the Pareto front")
    add_load(parser)


def _chunk(text: str) -> int | None:
    try:
        return None if text == "whole" else whole(text, tokens=True)
    except InputError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a number of tokens nor whole"
        ) from None


def run(options: argparse.Namespace) -> tuple[str, Any]:
    """The best deployments and the Pareto front: text and JSON."""
    from diffgenz.inference.breakdown import breakdown
    from diffgenz.scenario.from_words import from_words
    from diffgenz.studies.search.formats import formats_of
    from diffgenz.studies.search.search import BATCHES, search
    from diffgenz.ui.plots.figure import check_picture
    from diffgenz.ui.plots.search import pareto_plot
    from diffgenz.ui.text.routing import routing_json, routing_lines
    from diffgenz.ui.text.scenario import note_lines, notes_of, serving_json, serving_lines
    from diffgenz.ui.text.search import bound_text, deployment_row, search_text, targets_text

    cache_compilations()
    if options.top < 1:
        raise InputError(f"--top: {options.top} is not allowed; it must be at least 1")
    if options.out is not None and Path(options.out).suffix not in (".json", ".csv"):
        raise InputError(f"--out: {Path(options.out).name!r} is neither .json nor .csv")
    if options.plot is not None:
        check_picture(Path(options.plot))
    words = words_in(options, (*_BEFORE, *SERVING, "messages")) | {"chunk": None}
    said = said_by(words, options.placement)
    asked = from_words(
        words | {"tp": 1, "routing": None if said else words.get("routing")}, settings=options.set
    )
    case, chunks = asked.scenario, options.chunk
    title = f"{case.model.name} on {options.gpus} x {case.platform.accelerator.name}"
    title += f"; {options.isl} tokens in, {options.osl} out"
    if has_load(options):
        if said:
            raise InputError(
                "--routing: under a load experts are uniform or power-law:SPREAD, not as in a "
                "trace; leave out the trace, or --rate and --concurrency"
            )
        lines, data = run_under_load(options, asked, _UNSAID)
        if options.out is not None:
            _save(Path(options.out), data)
            lines.append(f"\nwrote {options.out}")
        return "\n".join([title, *lines]), data
    precisions, told = formats_of(
        case.model,
        case.platform.accelerator,
        options.weights,
        options.kv_cache,
        options.messages,
    )
    ttft, tpot = (None if ms is None else ms / 1e3 for ms in (options.ttft, options.tpot))
    with progress_line() as line:
        found = search(
            case,
            ttft=ttft,
            tpot=tpot,
            batches=[float(batch) for batch in options.batch] if options.batch else BATCHES,
            precisions=precisions,
            chunks=chunks,
            sort=options.sort,
            where=options.where,
            any_layout=options.any_layout,
            trace=said and said.trace,
            placement=said and said.placement,
            note=said.note if said else "",
            progress=line and (lambda done, total: line.write(_progress(done, total))),
        )
    best, mixed = found.best(options.top), case.serving.mixed
    chunked = mixed or len(chunks) > 1
    if options.messages is not None:
        title += f"; messages {options.messages}"
    serving = serving_json(case.serving)
    notes = [*told, *found.notes]
    data = {
        "model": case.model.name,
        "words": {name: value for name, value in words.items() if value is not None},
        "system": asked.system,
        "accelerators": options.gpus,
        "input_tokens": options.isl,
        "output_tokens": options.osl,
        "targets": {"ttft": ttft, "tpot": tpot},
        "chunks": chunks,
        "messages": precisions[0].messages,
        "routing": said.note if said else routing_json(case.routing),
        "serving": {name: value for name, value in serving.items() if name != "chunk"},
        "sort": options.sort,
        "where": options.where,
        "kernels": found.kernels,
        "notes": [*notes_of(case), *notes],
        "tried": found.tried,
        "fitting": found.fitting,
        "meeting": len(found.deployments),
        "best": [deployment_row(deployment) for deployment in best],
        "pareto": [deployment_row(deployment) for deployment in found.pareto()],
        "not_ranked": [deployment_row(deployment) for deployment in found.apart[: options.top]],
    }
    bound = bound_text(best[0], breakdown(best[0].scenario), found.next_batch)
    targets = targets_text(options.ttft, options.tpot, mixed)
    experts = routing_lines(case.routing)
    if said:
        experts = [f"experts ({said.note}): each layout has the numbers of its own ranks"]
    text = [title, *note_lines(case, notes), *experts, *serving_lines(case.serving, chunks)]
    text.append(search_text(found, best, targets, chunked, bound))
    if options.out is not None:
        _save(Path(options.out), data)
        text.append(f"\nwrote {options.out}")
    if options.plot is not None:
        pareto_plot(found, Path(options.plot), title)
        text.append(f"\nwrote {options.plot}")
    return "\n".join(text), data


def _progress(done: int, total: int) -> str:
    """The line of progress: a program is compiled for each structure of formats, which is slow."""
    return f"{done:,} of {total:,} deployments" + ("; compiling" if not done else "")


def _save(path: Path, data: dict[str, Any]) -> None:
    """Write what was found as .json, or the best rows as .csv."""
    from diffgenz.ui.text.search import rows_csv

    if path.suffix == ".json":
        text = json.dumps(data, indent=2, allow_nan=False)
    else:
        text = rows_csv(data["best"])
    with written_aside(path, "--out") as aside:
        aside.write_text(text)
