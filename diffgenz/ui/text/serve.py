"""A deployment under load as text for people and as JSON."""

from collections.abc import Sequence
from typing import Any

from diffgenz.scenario.from_words import Asked
from diffgenz.serving.load import Load
from diffgenz.serving.load_result import LoadResult
from diffgenz.serving.objectives import Objectives
from diffgenz.ui.tables import number, table
from diffgenz.ui.text.routing import routing_json
from diffgenz.ui.text.scenario import precision_json, ranks_json, serving_json

_LATENCIES = (("ttft", "TTFT"), ("tpot", "TPOT"), ("itl", "ITL"), ("end_to_end", "E2E"))


def served_text(
    loads: Sequence[Load],
    results: Sequence[LoadResult],
    saturation: float,
    objectives: Objectives | None,
    limit: float | None,
) -> str:
    """Tables of the figures at each load.

    Arguments:
        loads: a row each.
        results: their figures.
        saturation: requests/s at which waits grow without end.
        objectives: what goodput means; None: there is none.
        limit: the highest load whose means meet the objectives; None where it is not known.
    """
    is_open = loads[0].rate is not None
    key = "req/s" if is_open else "concurrency"
    at = [number(_of(load)) for load in loads]
    means = [
        [
            key_of,
            "" if is_open else number(float(each.requests_per_second)),
            number(float(each.throughput)),
            f"{100 * float(each.utilization):.0f} %",
            number(float(each.concurrency)) if is_open else "",
            number(float(each.running)),
            f"{100 * float(each.cache_use):.0f} %",
            "" if each.goodput is None else number(float(each.goodput)),
            "preempts" if bool(each.preempts) else "",
        ]
        for key_of, each in zip(at, results, strict=True)
    ]
    header = [key, "req/s", "tok/s", "of most", "in flight", "decoding", "KV", "goodput", ""]
    first = _filled(header, means)
    rows = []
    for key_of, each in zip(at, results, strict=True):
        for name, label in _LATENCIES:
            found, factor = getattr(each, name), 1e3
            cells = [number(factor * float(getattr(found, k))) for k in ("mean", *_PERCENTILES)]
            rows.append([key_of, f"{label} ms", *cells])
    lines = [
        first,
        "",
        table([key, "latency", "mean", "P50", "P90", "P99"], rows, "rl", keys=2),
        "",
        f"saturates at {number(saturation)} requests/s",
    ]
    if objectives is not None and limit is not None:
        limits = objectives.limits.items()
        named = " and ".join(f"{n.upper()} <= {1e3 * float(x):g} ms" for n, x in limits)
        what = f"up to {number(limit)} requests{'/s' if is_open else ' under way'}"
        lines.append(f"mean {named}: {what if limit > 0 else 'not even with a single request'}")
    return "\n".join(lines)


_PERCENTILES = ("p50", "p90", "p99")


def _of(load: Load) -> float:
    found = load.rate if load.rate is not None else load.concurrency
    assert found is not None
    return float(found)


def _filled(header: list[str], rows: list[list[str]]) -> str:
    """A table of the columns that say anything."""
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)]
    return table([header[i] for i in kept], [[row[i] for i in kept] for row in rows], "r")


def served_json(
    asked: Asked,
    kernels: dict[str, str],
    loads: Sequence[Load],
    results: Sequence[LoadResult],
    saturation: float,
    limit: float | None,
) -> dict[str, Any]:
    """The figures in SI.

    Arguments:
        asked: what the words said.
        kernels: what times them.
        loads, results, saturation, limit: as of `served_text`.
    """
    case, rows = asked.scenario, []
    for load, result in zip(loads, results, strict=True):
        named = "rate" if load.rate is not None else "concurrency"
        found = {name: value.item() for name, value in result.to_dict().items()}
        rows.append({"load": {named: _of(load)}, **found})
    return {
        "model": case.model.name,
        "system": asked.system,
        "accelerators": int(case.plan.ranks),
        **ranks_json(case.plan),
        "input_tokens": int(case.workload.input_tokens),
        "output_tokens": int(case.workload.output_tokens),
        "routing": routing_json(case.routing),
        "precision": precision_json(case.precision),
        "serving": serving_json(case.serving),
        "kernels": kernels,
        "saturation_rate": saturation,
        "highest_load": limit,
        "loads": rows,
    }
