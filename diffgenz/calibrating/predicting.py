"""What a benchmark's set-up is predicted to do: under its load, else of a batch at once."""

from collections.abc import Iterator
from typing import NamedTuple

from diffgenz.calibrating.readers.serving.benchmark import Benchmark, Latency
from diffgenz.core.errors import InputError
from diffgenz.inference.estimate import estimate
from diffgenz.scenario.scenario import Scenario
from diffgenz.serving.load import Engine, Load
from diffgenz.serving.load_result import Latencies, LoadResult
from diffgenz.serving.serve import serve

LATENCIES = ("ttft", "tpot", "itl", "end_to_end")
"""What a benchmark measures of times."""

_ROUNDS = 10.0
"""Requests that benchmarks send for each that is under way, where a file does not say how many."""


class Prediction(NamedTuple):
    """What a set-up is predicted to do.

    Arguments:
        latencies: by name (`LATENCIES`), in s; of a batch only means, and no `itl`.
        throughput: output tokens/s.
        load: the load under which; None: of a batch that arrives together (`estimate`).
        note: why it is not under the load that the file says; "" where it is.
        fits: whether it fits in memory.
    """

    latencies: dict[str, Latency]
    throughput: float
    load: Load | None
    note: str
    fits: bool


def predict(benchmark: Benchmark, case: Scenario, engine: Engine) -> Prediction:
    """What a benchmark's set-up is predicted to do.

    Where the file says a rate or a concurrency, `serve` answers. Where that refuses, or requests
    would be preempted, it is the estimate of as many requests as were in flight.

    Arguments:
        benchmark: what was measured.
        case: its set-up; its batch are the requests in flight.
        engine: what the server is set to.
    """
    note = ""
    for load in _loads(benchmark):
        try:
            result = serve(case, load, engine)
        except InputError as error:
            note = str(error)
            continue
        if bool(result.preempts):
            note = "the cache overflows, and requests would be preempted, which is not modelled"
            continue
        if load.rate is None or float(result.concurrency) <= (benchmark.concurrency or 1e30):
            return _under(load, result)
    alone = estimate(case)
    means = {name: Latency(float(getattr(alone, name))) for name in ("ttft", "tpot", "end_to_end")}
    return Prediction(means, float(alone.throughput), None, note, bool(alone.memory.fits))


def _loads(benchmark: Benchmark) -> Iterator[Load]:
    """The load of a benchmark; where a concurrency limits a rate, the rate comes first."""
    if benchmark.rate is not None:
        yield Load(rate=float(benchmark.rate))
    if benchmark.concurrency is not None:
        sent = float(benchmark.completed or _ROUNDS * benchmark.concurrency)
        at_once = min(float(benchmark.concurrency), sent)
        yield Load(concurrency=at_once, requests=sent)


def _under(load: Load, result: LoadResult) -> Prediction:
    latencies = {name: _latency(getattr(result, name)) for name in LATENCIES}
    return Prediction(latencies, float(result.throughput), load, "", True)


def _latency(found: Latencies) -> Latency:
    percentiles = {50.0: float(found.p50), 90.0: float(found.p90), 99.0: float(found.p99)}
    return Latency(float(found.mean), percentiles)
