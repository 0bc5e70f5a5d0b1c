"""requests.jsonl of LLMServingSim's bench: when vLLM did what with each request of a log.

Arrivals are on the clock of the wall, everything else on one that starts with the machine: where
they are days apart, a request arrives when it is queued. meta.json beside it says the set-up.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffgenz.calibrating.readers.serving.benchmark import Benchmark, Latency
from diffgenz.calibrating.readers.serving.fields import Fields
from diffgenz.core.errors import InputError
from diffgenz.serving.request_log import Requests

TOOL = "LLMServingSim's log of vLLM"

_TIMES = ("queued_ts", "first_token_ts", "last_token_ts")
_APART = 1e5
"""s between two clocks that are not the same."""

_SHOWN = (50.0, 90.0, 99.0)


def knows(rows: Sequence[Any]) -> bool:
    """Whether the objects of a file are such requests."""
    return bool(rows) and all(
        isinstance(row, dict) and {"input_toks", "output_toks", *_TIMES} <= row.keys()
        for row in rows
    )


def read(path: Path, rows: Sequence[dict[str, Any]]) -> Benchmark:
    """The run that a file is a log of.

    Arguments:
        path: the file.
        rows: its requests.

    Raises:
        InputError: a request has no times, or impossible ones.
    """
    columns: dict[str, list[float]] = {name: [] for name in ("arrival", "in", "out", *_TIMES)}
    for number, row in enumerate(rows, 1):
        fields = Fields(f"{path.name}: row {number}", row)
        queued, first, last = (_known(fields, name) for name in _TIMES)
        said = fields.number("arrival_time")
        arrival = said if said is not None and abs(said - first) < _APART else queued
        if not arrival <= first <= last:
            raise InputError(
                f"{fields.place}: first_token_ts: {first:g} is not between its arrival, "
                f"{arrival:g}, and last_token_ts, {last:g}; leave the request out"
            )
        tokens = [_known(fields, name) for name in ("input_toks", "output_toks")]
        for name, count in zip(("input_toks", "output_toks"), tokens, strict=True):
            if count < 1:
                raise InputError(
                    f"{fields.place}: {name}: {count:g} is no number of tokens; leave the request "
                    "out"
                )
        for name, value in zip(columns, (arrival, *tokens, queued, first, last), strict=True):
            columns[name].append(value)
    arrival, prompts, outputs, _, first, last = (np.array(each) for each in columns.values())
    steps = np.where(outputs > 1, outputs - 1, np.nan)
    meta = _meta(path)
    kwargs = meta.get("engine_kwargs")
    settings = Fields(f"{path.name}: meta.json", kwargs if isinstance(kwargs, dict) else {})
    said = {
        "tp": settings.count("tensor_parallel_size"),
        "dp": settings.count("data_parallel_size"),
    }
    ranks = {word: count for word, count in said.items() if count}
    if settings.flag("enable_expert_parallel"):
        ranks["ep"] = ranks.get("tp", 1)
    return Benchmark(
        path.name,
        TOOL,
        model=Fields(path.name, meta).text("model") or settings.text("model"),
        engine="vllm",
        ranks=ranks,
        input_tokens=float(prompts.mean()),
        output_tokens=float(outputs.mean()),
        in_flight=float((last - arrival).sum() / (last.max() - arrival.min())),
        ttft=_latency(first - arrival),
        tpot=_latency((last - first) / steps),
        end_to_end=_latency(last - arrival),
        throughput=float(outputs.sum() / (last.max() - arrival.min())),
        completed=len(rows),
        slots=settings.number("max_num_seqs"),
        budget=settings.number("max_num_batched_tokens"),
        log=Requests(arrival - arrival.min(), prompts, outputs),
    )


def _known(fields: Fields, name: str) -> float:
    found = fields.number(name)
    if found is None:
        raise InputError(
            f"{fields.place}: {name}: null: the request failed; leave it out, or repeat the run"
        )
    return found


def _latency(seconds: np.ndarray) -> Latency:
    known = seconds[np.isfinite(seconds)]
    if not len(known):
        return Latency()
    percentiles = {level: float(np.percentile(known, level)) for level in _SHOWN}
    return Latency(float(known.mean()), percentiles)


def _meta(path: Path) -> dict[str, Any]:
    """What meta.json beside the log says; nothing where there is none, or several."""
    found = sorted(path.parent.glob("*meta.json"))
    if len(found) != 1:
        return {}
    try:
        raw = json.loads(found[0].read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return raw if isinstance(raw, dict) else {}
