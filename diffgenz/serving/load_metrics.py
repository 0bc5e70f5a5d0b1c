"""The metrics of a load beside those of a batch: names, units, how people see them.

A scenario under a load (`UnderLoad`) has these, and of those of a batch the cost and the speed of
tokens.
"""

from diffgenz.inference.metrics import METRICS, Metric, largest, smallest

_KINDS = {"mean": "mean", "p50": "P50", "p90": "P90", "p99": "P99"}
_LATENCIES = (
    ("ttft", "TTFT", "ms", 1e3),
    ("tpot", "TPOT", "ms", 1e3),
    ("itl", "ITL", "ms", 1e3),
    ("end_to_end", "E2E", "s", 1.0),
)
_OBJECTIVES = "objectives; give ttft, tpot or both under [load], or Objectives(...)"
_RATE = "a rate of requests, or objectives; see `serve`"

LOAD_METRICS = {
    metric.name: metric
    for metric in (
        *(
            Metric(f"{name}_{kind}", "s", f"{said} {label} {unit}", factor, largest)
            for name, label, unit, factor in _LATENCIES
            for kind, said in _KINDS.items()
        ),
        Metric("goodput", "1/s", "goodput req/s", 1.0, smallest, True, _OBJECTIVES),
        Metric("requests_per_second", "1/s", "req/s", 1.0, smallest, True),
        Metric("saturation_rate", "1/s", "at most req/s", 1.0, smallest, True),
        Metric("max_rate", "1/s", "within objectives req/s", 1.0, smallest, True, _OBJECTIVES),
        Metric("max_concurrency", "1", "within objectives", 1.0, smallest, True, _OBJECTIVES),
        Metric("concurrency", "1", "in flight", 1.0, largest, needs=_RATE),
        Metric("running", "1", "decoding", 1.0, largest),
        Metric("utilization", "1", "of most", 1.0, largest),
        Metric("cache_use", "1", "cache", 1.0, largest),
        Metric("residual", "1", "residual", 1.0, largest),
    )
}
"""The metrics of a load by name, in the order of tables."""

EVERY_METRIC = METRICS | LOAD_METRICS
"""All metrics that a question may have, by name."""
