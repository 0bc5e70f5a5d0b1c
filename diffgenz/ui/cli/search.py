"""`diffgenz search` and `diffgenz export`: flags in, a ranked table, a Pareto front and files out."""

import argparse
import csv
import io
import json
from pathlib import Path
from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.core.files import written_aside
from diffgenz.hardware.platform import Platform
from diffgenz.hardware.specs import read_spec
from diffgenz.models.checkpoint import load_precision
from diffgenz.models.huggingface import load_model
from diffgenz.operators.precision import Precision
from diffgenz.scenario.parallelism import Workload
from diffgenz.studies.search.launch_command import launch_command
from diffgenz.studies.search.search import BATCHES, Deployment, Search, formats_for, search
from diffgenz.ui.cli.estimate import cache_compilations
from diffgenz.ui.cli.serving_flags import serving_json, serving_line, serving_of
from diffgenz.ui.plots.figure import pareto_plot
from diffgenz.ui.tables import bar, number, table


def find(options: argparse.Namespace) -> tuple[str, Any]:
    """The best deployments and the Pareto front: text and JSON."""
    cache_compilations()
    if options.top < 1:
        raise InputError(f"--top: {options.top} is not allowed; it must be at least 1")
    model, spec = load_model(options.model), read_spec(options.system)
    platform = Platform.from_spec(spec, options.gpus)
    ttft, tpot = (
        None if milliseconds is None else milliseconds / 1e3
        for milliseconds in (options.ttft, options.tpot)
    )
    batches = [float(batch) for batch in options.batch] if options.batch else BATCHES
    precisions = _precisions(options, platform)
    workload = Workload(1, options.isl, options.osl)
    chunks = options.chunk
    serving = serving_of(
        argparse.Namespace(**vars(options) | {"chunk": None}),
        1,
        Precision("bf16" if "bf16" in spec.peak_flops else "fp16"),
    )
    found = search(
        model,
        platform,
        workload,
        ttft=ttft,
        tpot=tpot,
        batches=batches,
        precisions=precisions,
        chunks=chunks,
        serving=serving,
    )
    best, front = found.best(options.top), found.pareto()
    chunked = any(chunk is not None for chunk in chunks)
    title = (
        f"{model.name} on {options.gpus} x {spec.name}; {options.isl} tokens in, {options.osl} out"
    )
    if options.messages is not None:
        title += f"; messages {options.messages}"
    data = {
        "model": model.name,
        "system": spec.id,
        "accelerators": options.gpus,
        "input_tokens": options.isl,
        "output_tokens": options.osl,
        "targets": {"ttft": ttft, "tpot": tpot},
        "chunks": chunks,
        "messages": precisions[0].messages,
        "serving": {
            name: value for name, value in serving_json(serving).items() if name != "chunk"
        },
        "calibrated": False,
        "tried": found.tried,
        "fitting": found.fitting,
        "meeting": len(found.deployments),
        "best": [deployment._asdict() for deployment in best],
        "pareto": [deployment._asdict() for deployment in front],
    }
    text = [
        title,
        *([] if serving is None else [serving_line(serving)]),
        _targets(found, options),
        "",
        _ranked(best, chunked),
        "",
        "Pareto front:",
        "",
        _front(front, chunked),
    ]
    if options.out is not None:
        _save(Path(options.out), data, best)
        text.append(f"\nwrote {options.out}")
    if options.plot is not None:
        pareto_plot(found, Path(options.plot), title)
        text.append(f"\nwrote {options.plot}")
    return "\n".join(text), data


def _precisions(options: argparse.Namespace, platform: Platform) -> tuple[Precision, ...]:
    usual = formats_for(platform.accelerator, options.kv_cache, options.messages)
    if options.weights is None:
        return usual
    given: dict[str, Any] = {"dtype": usual[0].dtype, "messages": options.messages}
    return tuple(
        load_precision(options.model, platform.accelerator, kv_cache=cache, **given)
        for cache in options.kv_cache or (None, "fp8")
    )


def export(options: argparse.Namespace) -> tuple[str, Any]:
    """The launch command of a row of a saved search: text and JSON."""
    path = Path(options.results)
    try:
        data = json.loads(path.read_text())
        rows = [Deployment(**row) for row in data["best"]]
        model, tokens = data["model"], data["input_tokens"] + data["output_tokens"]
    except OSError as error:
        raise InputError(
            f"results: {path} cannot be read: {error.strerror}; save them with: diffgenz search ... --out FILE.json"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"results: {path} is not what `diffgenz search ... --out FILE.json` saves"
        ) from None
    if not 1 <= options.row <= len(rows):
        raise InputError(f"--row: {options.row} is not there; the file has rows 1 to {len(rows)}")
    command = launch_command(options.engine, model, rows[options.row - 1], tokens)
    others = [f"{name} {value}" for name, value in (data.get("serving") or {}).items() if value]
    if others:
        command = f"# the search was with {', '.join(others)}: set the engine's own options for it\n{command}"
    return command, {"engine": options.engine, "row": options.row, "command": command}


def _targets(found: Search, options: argparse.Namespace) -> str:
    wanted = " and ".join(
        f"{name.upper()} <= {getattr(options, name):g} ms"
        for name in ("ttft", "tpot")
        if getattr(options, name) is not None
    )
    meeting = f", {len(found.deployments):,} with {wanted}" if wanted else ""
    if options.tpot is not None and any(chunk is not None for chunk in options.chunk):
        meeting += " (while each iteration carries a chunk, where there are chunks)"
    return f"{found.tried:,} deployments tried, {found.fitting:,} fit{meeting}; uncalibrated: smooth roofline with launch latency"


_RANKS = ("tp", "cp", "adp", "pp", "dp", "ep")
_HEADER = (
    "tok/s/GPU",
    "tok/s/user",
    "TTFT ms",
    "TPOT ms",
    "batch",
    "GB",
    "USD/Mtok",
    *_RANKS,
    "weights",
    "act.",
    "KV",
)


def _header(chunked: bool) -> tuple[str, ...]:
    return (*_HEADER, "chunk", "mixed ms") if chunked else _HEADER


def _cells(d: Deployment, chunked: bool) -> tuple[str, ...]:
    rates = (
        d.tokens_per_second_per_accelerator,
        d.tokens_per_second_per_user,
        d.ttft * 1e3,
        d.tpot * 1e3,
    )
    plan = d[: len(_RANKS)]
    sizes = (str(d.batch), f"{d.memory / 1e9:.1f}", number(d.cost_per_million_output_tokens))
    mixed = (
        (
            "whole" if d.chunk is None else str(d.chunk),
            "" if d.mixed_tpot is None else number(d.mixed_tpot * 1e3),
        )
        if chunked
        else ()
    )
    return (
        *map(number, rates),
        *sizes,
        *map(str, plan),
        d.weights,
        d.activations,
        d.kv_cache,
        *mixed,
    )


def _ranked(best: list[Deployment], chunked: bool) -> str:
    return table(
        ("row", *_header(chunked)),
        [(str(row), *_cells(d, chunked)) for row, d in enumerate(best, 1)],
    )


def _front(front: list[Deployment], chunked: bool) -> str:
    most = max(d.tokens_per_second_per_accelerator for d in front)
    rows = [
        (*_cells(d, chunked), bar(d.tokens_per_second_per_accelerator / most, 20)) for d in front
    ]
    return table((*_header(chunked), "tok/s/GPU"), rows, "r" * len(_header(chunked)) + "l")


def _save(path: Path, data: dict[str, Any], best: list[Deployment]) -> None:
    if path.suffix == ".json":
        text = json.dumps(data, indent=2, allow_nan=False)
    elif path.suffix == ".csv":
        lines = io.StringIO()
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(Deployment._fields)
        writer.writerows(best)
        text = lines.getvalue()
    else:
        raise InputError(f"--out: {path.name!r} is neither .json nor .csv")
    with written_aside(path, "--out") as aside:
        aside.write_text(text)
