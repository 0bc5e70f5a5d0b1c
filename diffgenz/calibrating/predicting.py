"""What a benchmark's set-up is predicted to do: under its load, by its log, or as one batch."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from diffgenz.calibrating.readers.serving.benchmark import Benchmark, Latency
from diffgenz.core.errors import InputError
from diffgenz.inference.estimate import Estimate, estimate
from diffgenz.scenario.scenario import Scenario
from diffgenz.serving.engine_state import host_of
from diffgenz.serving.load import REGULAR, Engine, Load
from diffgenz.serving.load_result import Latencies, LoadResult
from diffgenz.serving.replay import replay
from diffgenz.serving.serve import serve

LATENCIES = ("ttft", "tpot", "itl", "end_to_end")
"""What a benchmark measures of times."""

_ROUNDS = 10.0
"""Requests that benchmarks send for each that is under way, where a file does not say how many."""

_SHOWN = (50.0, 90.0, 99.0)
"""Percentiles of what a log's requests would see."""


PROMPTS_FIRST = ("sglang",)
"""Engines that by default compute whole prompts before decodes, in iterations of their own.

SGLang mixes both only with `--enable-mixed-chunk`.
"""


class Prediction(NamedTuple):
    """What a set-up is predicted to do.

    Arguments:
        latencies: by name (`LATENCIES`), in s; of a batch only means, and no `itl`.
        throughput: output tokens/s.
        load: the load under which; None: of a batch that arrives together (`estimate`), or of a
            log.
        note: why it is not under the load that the file says; "" where it is.
        fits: whether it fits in memory.
        replayed: whether it is of a log, request by request.
    """

    latencies: dict[str, Latency]
    throughput: float
    load: Load | None
    note: str
    fits: bool
    replayed: bool = False

    @property
    def is_batch(self) -> bool:
        """Whether it is of a batch that arrives together."""
        return self.load is None and not self.replayed


def predict(
    benchmark: Benchmark, case: Scenario, engine: Engine, grows: bool = False
) -> Prediction:
    """What a benchmark's set-up is predicted to do.

    Where the file is a log, it is replayed; where it says a rate or a concurrency, `serve` answers.
    Where that refuses, or requests would be preempted, it is the estimate of as many requests as
    were in flight.

    Arguments:
        benchmark: what was measured.
        case: its set-up; its batch are the requests in flight.
        engine: what the server is set to, as far as the file does not say it.
        grows: as of `with_slots`.
    """
    engine = set_up(benchmark, engine)
    note = ""
    if benchmark.log is not None:
        return replayed(benchmark, case, with_slots(engine, benchmark, case))
    for load in loads(benchmark):
        try:
            result = serve(case, load, with_slots(engine, benchmark, case, load, grows))
        except InputError as error:
            note = str(error)
            continue
        if bool(result.preempts):
            note = "the cache overflows, and requests would be preempted, which is not modelled"
            continue
        if load.rate is None or float(result.concurrency) <= (benchmark.concurrency or np.inf):
            return _under(load, result)
    alone = estimate(case)
    means = batch_means(case, alone, engine)
    latencies = {name: Latency(seconds) for name, seconds in means.items()}
    throughput = float(alone.throughput) * float(alone.end_to_end) / means["end_to_end"]
    return Prediction(latencies, throughput, None, note, bool(alone.memory.fits))


def batch_means(case: Scenario, alone: Estimate, engine: Engine) -> dict[str, float]:
    """TTFT, TPOT and end to end in s of requests that arrive together.

    Arguments:
        case: the scenario.
        alone: its estimate.
        engine: of which only what its host adds counts.
    """
    host, pieces = host_of(engine, case.model.layers), chunks_of(case)
    steps = np.float64(case.workload.output_tokens) - 1
    first, between = np.float64(alone.ttft), np.float64(alone.tpot)
    prefill = pieces * (host.on(first / pieces, prompts=True) - first / pieces)
    slower = host.on(between) - between
    delay, kept = host.delay(between + slower, steps), host.kept(np.maximum(steps, 1.0))
    request = 0.0 if engine.request_seconds is None else float(engine.request_seconds)
    return {
        "ttft": float(first + prefill + delay),
        "tpot": float((between + slower) * kept),
        "end_to_end": float(alone.end_to_end + prefill + request + steps * slower),
    }


def chunks_of(case: Scenario) -> float:
    """Iterations in which the prompts of a batch are computed, not rounded; at least 1."""
    if case.serving.chunk is None:
        return 1.0
    tokens = case.workload.batch * case.workload.input_tokens / case.plan.data
    return float(max(1.0, float(tokens / (case.serving.chunk * case.plan.attention_data))))


def with_slots(
    engine: Engine,
    benchmark: Benchmark,
    case: Scenario,
    load: Load | None = None,
    grows: bool = False,
) -> Engine:
    """The engine with as many slots as the server had.

    Under a load they are no more than the budget of tokens has decodes for, twice over, as `serve`
    asks: what exceeds that is refused where a concurrency needs it.

    Arguments:
        engine: what the server is set to, as far as the file does not say it.
        benchmark: what was measured.
        case: its set-up.
        load: its load; None: of a log.
        grows: whether an engine of which no file says the slots has one for each request that is
            under way, at least.
    """
    slots = float(engine.max_num_seqs) if benchmark.slots is None else max(1.0, benchmark.slots)
    if load is None:
        return engine.replace(max_num_seqs=slots)
    if load.concurrency is not None and benchmark.slots is None and grows:
        groups = case.plan.attention_data * case.plan.data
        slots = max(slots, float(load.concurrency / groups))
    if benchmark.slots is not None or grows:
        drafts = 0.0 if case.serving.speculation is None else case.serving.speculation.drafts
        slots = max(1.0, min(slots, float(case.serving.chunk or 4) / 2 / (1 + float(drafts))))
    return engine.replace(max_num_seqs=slots)


def set_up(benchmark: Benchmark, engine: Engine) -> Engine:
    """What a server is set to by its benchmark's file, or else by its engine's defaults.

    Arguments:
        benchmark: what was measured.
        engine: what it is set to, as far as the file does not say it.
    """
    if benchmark.engine in PROMPTS_FIRST and not engine.prefill_first:
        engine = engine.replace(prefill_first=True)
    if benchmark.request_iterations is not None:
        engine = engine.replace(request_iterations=benchmark.request_iterations)
    return engine


def loads(benchmark: Benchmark) -> Iterator[Load]:
    """The load of a benchmark; where a concurrency limits a rate, the rate comes first.

    Arrivals that are more regular than `serve` models are as regular as it does.

    Requests of one length stay together where prompts go first, even if they don't come at the same
    instant: no decode goes on before the last of them is prefilled. Where chunks go beside decodes,
    those that come a little later fall behind.
    """
    lockstep = benchmark.range_ratio == 1 and benchmark.engine in PROMPTS_FIRST
    if benchmark.rate is not None:
        bursts = max(benchmark.burstiness, REGULAR)
        yield Load(rate=float(benchmark.rate), burstiness=bursts)
    if benchmark.concurrency is not None:
        sent = float(benchmark.completed or _ROUNDS * benchmark.concurrency)
        at_once = min(float(benchmark.concurrency), sent)
        yield Load(concurrency=at_once, requests=sent, lockstep=lockstep)


def replayed(benchmark: Benchmark, case: Scenario, engine: Engine) -> Prediction:
    """What the requests of a log would see.

    Arguments:
        benchmark: a log.
        case: its set-up.
        engine: what the server is set to.
    """
    assert benchmark.log is not None
    found = replay(case, *benchmark.log, engine)
    latencies = {}
    for name in ("ttft", "tpot", "end_to_end"):
        values = np.asarray(getattr(found, name))
        values = values[np.isfinite(values)]
        percentiles = {level: float(np.percentile(values, level)) for level in _SHOWN}
        latencies[name] = Latency(float(values.mean()), percentiles)
    return Prediction(latencies, found.throughput, None, "", True, True)


def _under(load: Load, result: LoadResult) -> Prediction:
    latencies = {name: _latency(getattr(result, name)) for name in LATENCIES}
    return Prediction(latencies, float(result.throughput), load, "", True)


def _latency(found: Latencies) -> Latency:
    percentiles = {50.0: float(found.p50), 90.0: float(found.p90), 99.0: float(found.p99)}
    return Latency(float(found.mean), percentiles)
