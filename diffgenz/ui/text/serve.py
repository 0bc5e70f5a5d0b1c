"""A deployment under load as text for people and as JSON."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from diffgenz.scenario.from_words import Asked
from diffgenz.serving.load import Load
from diffgenz.serving.load_result import LoadResult
from diffgenz.serving.objectives import Objectives
from diffgenz.serving.probability import Probability
from diffgenz.ui.tables import number, table
from diffgenz.ui.text.routing import routing_json
from diffgenz.ui.text.scenario import precision_json, ranks_json, serving_json

_LATENCIES = (("ttft", "TTFT"), ("tpot", "TPOT"), ("itl", "ITL"), ("end_to_end", "E2E"))


class Promise(NamedTuple):
    """What is promised.

    Arguments:
        objectives: limits of latencies, and what goodput means; None: there are none.
        of: which latencies the limits are for.
        limit: the highest load that meets them; None where it is not known.
    """

    objectives: Objectives | None
    of: str
    limit: float | None


class Further(NamedTuple):
    """What was asked for beyond the figures of a load.

    Arguments:
        replicas: how many there are, of which the figures are those of one; None: not asked for.
        probability: that the objectives are met; None: not asked for.
    """

    replicas: int | None = None
    probability: Probability | None = None


def served_text(
    loads: Sequence[Load],
    results: Sequence[LoadResult],
    saturation: float,
    promise: Promise,
    further: Sequence[Further],
) -> str:
    """Tables of the figures at each load.

    Arguments:
        loads: a row each.
        results: their figures.
        saturation: requests/s at which waits grow without end.
        promise: what is promised.
        further: what else was asked for of each load.
    """
    is_open = loads[0].rate is not None
    key = "req/s" if is_open else "concurrency"
    at = [number(_of(load)) for load in loads]
    means = [
        [
            key_of,
            "" if more.replicas is None else f"{more.replicas:,}",
            "" if is_open and more.replicas is None else number(float(each.requests_per_second)),
            number(float(each.throughput)),
            f"{100 * float(each.utilization):.0f} %",
            number(float(each.concurrency)) if is_open else "",
            number(float(each.running)),
            f"{100 * float(each.cache_use):.0f} %",
            "" if each.goodput is None else number(float(each.goodput)),
            _chance(more.probability),
            "preempts" if bool(each.preempts) else "",
        ]
        for key_of, each, more in zip(at, results, further, strict=True)
    ]
    apart = any(more.replicas is not None for more in further)
    header = [
        key,
        "replicas",
        "req/s each" if apart else "req/s",
        "tok/s",
        "of most",
        "in flight",
        "decoding",
        "KV",
        "goodput",
        "meets",
        "",
    ]
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
    if apart:
        lines[-1] = f"a replica {lines[-1]}; figures are those of one"
    objectives, limit = promise.objectives, promise.limit
    if objectives is not None and limit is not None:
        limits = objectives.limits.items()
        named = " and ".join(f"{n.upper()} <= {1e3 * float(x):g} ms" for n, x in limits)
        what = f"up to {number(limit)} requests{'/s' if is_open else ' under way'}"
        kind = "mean" if promise.of == "mean" else promise.of.upper()
        lines.append(f"{kind} {named}: {what if limit > 0 else 'not even with a single request'}")
    return "\n".join(lines)


_PERCENTILES = ("p50", "p90", "p99")


def _chance(found: Probability | None) -> str:
    """A probability with its standard error."""
    if found is None:
        return ""
    return f"{100 * found.value:.0f} % ± {100 * found.standard_error:.0f}"


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
    promise: Promise,
    further: Sequence[Further],
) -> dict[str, Any]:
    """The figures in SI.

    Arguments:
        asked: what the words said.
        kernels: what times them.
        loads, results, saturation, promise, further: as of `served_text`.
    """
    case, rows = asked.scenario, []
    for load, result, more in zip(loads, results, further, strict=True):
        named = "rate" if load.rate is not None else "concurrency"
        found = {name: value.item() for name, value in result.to_dict().items()}
        if more.replicas is not None:
            found["replicas"] = more.replicas
        if more.probability is not None:
            found["probability_of_meeting"] = more.probability._asdict()
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
        "objectives_of": promise.of,
        "highest_load": promise.limit,
        "loads": rows,
    }
