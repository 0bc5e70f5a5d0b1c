"""Measured beside predicted, as text for people and as JSON."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from diffgenz.calibrating.comparing import METRICS, Comparison
from diffgenz.calibrating.readers.serving.benchmark import Latency
from diffgenz.ui.tables import number, table
from diffgenz.ui.text.scenario import (
    kernel_lines,
    machines,
    note_lines,
    notes_of,
    parameters,
    precision_json,
    ranks_json,
    ranks_line,
    serving_json,
    serving_lines,
)

_LABELS = {"ttft": "TTFT ms", "tpot": "TPOT ms", "throughput": "tok/s"}
_FACTORS = {"ttft": 1e3, "tpot": 1e3, "throughput": 1.0}
_RATIO = "ratio: predicted / measured; means, or medians where the file has no mean"
_LATENCIES = {"ttft": "TTFT ms", "tpot": "TPOT ms", "itl": "ITL ms", "end_to_end": "E2E ms"}
_SHOWN = (50.0, 90.0, 99.0)
_DETAILED = 6
"""Runs of which all latencies are shown; of more, they are in the JSON."""
_UNDER_LOAD = (
    "predicted under the load of each run by `serve`: continuous batching in steady state, with "
    "the burst in which a benchmark of a fixed concurrency starts"
)
_REPLAYED = (
    "predicted request by request by `replay`, where the file is a log, or all requests were sent "
    "at once"
)
_QUEUED = (
    "the estimate is of a batch that arrives together; under load TTFT includes queueing (not "
    "compared), and TPOT the prompts of other requests that are computed in between"
)


def comparisons_text(found: Sequence[Comparison]) -> str:
    """The set-up, a row for each benchmark, and what to make of it."""
    first = found[0].asked.scenario
    told = {name: [label(each) for each in found] for name, label in _SETUP.items()}
    alike = {name: labels[0] for name, labels in told.items() if len(set(labels)) == 1}
    if not {"in", "out"} <= alike.keys():  # both stand in the table where one varies
        alike = {name: label for name, label in alike.items() if name not in ("in", "out")}
    varying = [name for name in told if name not in alike]
    header = f"{first.model.name} ({parameters(first.model)})"
    header += f" on {alike['system']}" if "system" in alike else ""
    tokens = f"{alike['in']} tokens in, {alike['out']} out" if {"in", "out"} <= alike.keys() else ""
    layout = [part for part in (alike.get("ranks", ""), tokens) if part]
    lines = [
        header,
        *note_lines(first),
        *(["; ".join(layout)] if layout else []),
        *serving_lines(first.serving),
        *([alike["formats"]] if "formats" in alike else []),
        *kernel_lines({each.asked.system or "": each.kernels for each in found}),
        f"measured by {', '.join(dict.fromkeys(each.benchmark.tool for each in found))}",
        "",
        _rows(found, varying),
        "",
        *_summary(found),
        _RATIO,
    ]
    if any(each.prediction.load is not None for each in found):
        lines.append(_UNDER_LOAD)
    if any(each.prediction.replayed for each in found):
        lines.append(_REPLAYED)
    if any(each.is_queued for each in found):
        lines.append(_QUEUED)
    for note in dict.fromkeys(each.prediction.note for each in found):
        of = [each.benchmark.place for each in found if each.prediction.note == note]
        places = of[0] if len(of) == 1 else f"{of[0]} and {len(of) - 1} more"
        if note:
            lines.append(f"note: {places}: estimated as one batch, not under load: {note}")
    lines += [
        f"note: {each.benchmark.place}: the estimate does not fit in memory"
        for each in found
        if not each.prediction.fits
    ]
    if len(found) <= _DETAILED:
        lines += _details(found)
    return "\n".join(lines)


_SETUP: dict[str, Any] = {
    "system": lambda each: machines(each.asked.scenario),
    "ranks": lambda each: ranks_line(each.asked.scenario.model, each.asked.scenario.plan),
    "formats": lambda each: each.asked.scenario.precision.summary + each.asked.note,
    "in": lambda each: f"{float(each.asked.scenario.workload.input_tokens):g}",
    "out": lambda each: f"{float(each.asked.scenario.workload.output_tokens):g}",
}
"""What of a set-up is said once where all runs have it alike, and in a column where they differ."""


def _rows(found: Sequence[Comparison], varying: Sequence[str]) -> str:
    """The table: a row for each benchmark."""
    labels = [
        (*(_SETUP[name](each) for name in varying), f"{float(_batch(each)):g}") for each in found
    ]
    places: tuple[str, ...] = ()
    if len(set(labels)) < len(labels):
        places = ("run",)
        labels = [(each.benchmark.place, *label) for each, label in zip(found, labels, strict=True)]
    columns = [part for name in METRICS for part in (_LABELS[name], "predicted", "ratio")]
    rows = []
    for each, label in zip(found, labels, strict=True):
        cells = []
        for name in METRICS:
            ratio, factor = each.ratios[name], _FACTORS[name]
            measured = each.measured[name]
            cells.append(number(None if measured is None else factor * measured))
            cells.append("-" if ratio is None else number(factor * each.predicted[name]))
            cells.append("-" if ratio is None else f"{ratio:.2f}")
        rows.append((*label, *cells))
    words = len(places) + sum(name in ("system", "ranks", "formats") for name in varying)
    return table((*places, *varying, "batch", *columns), rows, "l" * words)


def _details(found: Sequence[Comparison]) -> list[str]:
    """A table of means and percentiles, where files and predictions have any."""
    rows = []
    for each in found:
        label = each.benchmark.place if len(found) > 1 else ""
        for name, what in _LATENCIES.items():
            measured: Latency = getattr(each.benchmark, name)
            predicted = each.prediction.latencies.get(name, Latency())
            queued = each.is_queued and name in ("ttft", "end_to_end")
            if queued or predicted.typical is None or measured.typical is None:
                continue
            for who, latency in (("measured", measured), ("predicted", predicted)):
                values = (latency.mean, *(latency.percentiles.get(p) for p in _SHOWN))
                cells = [number(None if value is None else 1e3 * value) for value in values]
                rows.append((label, what, who, *cells))
    if not rows:
        return []
    header = ("run", "latency", "", "mean", *(f"P{p:g}" for p in _SHOWN))
    if len(found) == 1:
        header, rows = header[1:], [row[1:] for row in rows]
    words = "l" * (len(header) - 4)
    return ["", table(header, rows, words, keys=len(words))]


def _batch(each: Comparison) -> float:
    """Requests in flight."""
    return float(each.asked.scenario.workload.batch)


def _summary(found: Sequence[Comparison]) -> list[str]:
    """How the ratios of several benchmarks lie."""
    parts = []
    for name in METRICS:
        ratios = [each.ratios[name] for each in found]
        known = sorted(ratio for ratio in ratios if ratio is not None)
        if len(known) > 1:
            spread = f"{known[0]:.2f} to {known[-1]:.2f}, median {median(known):.2f}"
            parts.append(f"{_LABELS[name].partition(' ')[0]} {spread}")
    return [f"ratios: {'; '.join(parts)}"] if parts else []


def comparison_json(each: Comparison) -> dict[str, Any]:
    """The same of one benchmark, in SI."""
    b, case = each.benchmark, each.asked.scenario
    distributions = {"ttft": b.ttft, "tpot": b.tpot, "itl": b.itl, "end_to_end": b.end_to_end}
    return {
        "run": b.place,
        "tool": b.tool,
        "model": case.model.name,
        "system": each.asked.system,
        "accelerators": int(case.plan.ranks),
        **ranks_json(case.plan),
        "precision": precision_json(case.precision),
        "serving": serving_json(case.serving),
        "kernels": each.kernels,
        "notes": notes_of(case),
        "batch": _batch(each),
        "input_tokens": int(case.workload.input_tokens),
        "output_tokens": int(case.workload.output_tokens),
        "concurrency": b.concurrency,
        "rate": b.rate,
        "completed": b.completed,
        "measured": {
            **{name: _latency_json(latency) for name, latency in distributions.items()},
            "throughput": b.throughput,
        },
        "predicted": {
            **{name: _latency_json(x) for name, x in each.prediction.latencies.items()},
            "throughput": each.prediction.throughput,
            "fits": each.prediction.fits,
        },
        "under_load": each.prediction.load is not None,
        "note": each.prediction.note,
        "ratio": each.ratios,
    }


def _latency_json(latency: Latency) -> dict[str, float | None]:
    """A distribution: its mean and percentiles."""
    return {"mean": latency.mean, **{f"p{p:g}": s for p, s in latency.percentiles.items()}}
