"""A replayed log as text for people and as JSON."""

from typing import Any

import numpy as np

from diffgenz.scenario.from_words import Asked
from diffgenz.serving.replay import Replayed
from diffgenz.serving.request_log import Requests
from diffgenz.ui.tables import number, table
from diffgenz.ui.text.routing import routing_json
from diffgenz.ui.text.scenario import precision_json, ranks_json, serving_json

_LATENCIES = (("ttft", "TTFT"), ("tpot", "TPOT"), ("end_to_end", "E2E"))
_LEVELS = {"p50": 50, "p90": 90, "p99": 99}


def replayed_text(log: Requests, found: Replayed) -> str:
    """The table of latencies, and what the whole took.

    Arguments:
        log: the requests.
        found: what each of them saw.
    """
    rows = []
    for name, label in _LATENCIES:
        its = latency(getattr(found, name))
        rows.append([f"{label} ms", *(number(1e3 * its[kind]) for kind in ("mean", *_LEVELS))])
    span = float(log.arrivals.max())
    count = len(log.arrivals)
    arrived = f"arrived in {number(span)} s" if span else "arrived at once"
    put_back = (
        f"{found.preemptions:,} times a running request was put back, since the cache was full"
        if found.preemptions
        else "none was put back"
    )
    return "\n".join(
        [
            table(["latency", "mean", "P50", "P90", "P99"], rows, "l"),
            "",
            f"{count:,} requests {arrived}, served in {number(found.makespan)} s: "
            f"{number(found.throughput)} output tokens/s; {put_back}",
        ]
    )


def latency(values: Any) -> dict[str, float]:
    """The mean and percentiles over requests, those left out that have none.

    Arguments:
        values: s of each request, or NaN; shape (requests,).
    """
    known = np.asarray(values)[~np.isnan(values)]
    found = {"mean": float(known.mean())}
    return found | {kind: float(np.percentile(known, at)) for kind, at in _LEVELS.items()}


def replayed_json(
    asked: Asked, kernels: dict[str, str], log: Requests, found: Replayed
) -> dict[str, Any]:
    """The figures in SI.

    Arguments:
        asked: what the words said.
        kernels: what times them.
        log, found: as of `replayed_text`.
    """
    case = asked.scenario
    latencies = {
        f"{name}_{kind}": value
        for name, _ in _LATENCIES
        for kind, value in latency(getattr(found, name)).items()
    }
    return {
        "model": case.model.name,
        "system": asked.system,
        "accelerators": int(case.plan.ranks),
        **ranks_json(case.plan),
        "routing": routing_json(case.routing),
        "precision": precision_json(case.precision),
        "serving": serving_json(case.serving),
        "kernels": kernels,
        "requests": len(log.arrivals),
        "mean_input_tokens": float(log.prompts.mean()),
        "mean_output_tokens": float(log.outputs.mean()),
        **latencies,
        "makespan": found.makespan,
        "throughput": found.throughput,
        "preemptions": found.preemptions,
    }
