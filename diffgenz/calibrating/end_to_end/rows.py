"""Benchmarks as runs that can be predicted again and again, each prepared once."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from diffgenz.calibrating.comparing import question_of
from diffgenz.calibrating.end_to_end.folds import configuration_of
from diffgenz.calibrating.end_to_end.predicted import METRICS, Batch, Logged, Run, Served
from diffgenz.calibrating.predicting import chunks_of, loads, set_up, with_slots
from diffgenz.calibrating.readers.serving.benchmark import Benchmark, Latency
from diffgenz.core.errors import InputError
from diffgenz.core.verb import as_if_traced
from diffgenz.inference.estimate import estimate
from diffgenz.inference.resolved import resolved
from diffgenz.scenario.scenario import Scenario
from diffgenz.serving.engine_state import engine_state
from diffgenz.serving.figures import preempts
from diffgenz.serving.load import Engine
from diffgenz.serving.serve import checked
from diffgenz.serving.serving_fit import deployment_words

SPREAD = 1.3
"""Repeats of one configuration that differ by more are left out."""


class Row(NamedTuple):
    """One configuration.

    Arguments:
        benchmark: what was measured; of repeats the medians.
        case: its set-up.
        run: what predicts it.
        deployment: of `serving_fit.deployment_words`.
        logs: ln s of what was measured, NaN where unknown; shape (metrics,).
    """

    benchmark: Benchmark
    case: Scenario
    run: Run
    deployment: str
    logs: np.ndarray


def rows_of(
    benchmarks: Sequence[Benchmark],
    words: Mapping[str, Any],
    settings: Sequence[str] = (),
    engine: Engine | None = None,
    skipped: Callable[[str], None] | None = None,
    told: Callable[[str], None] | None = None,
) -> list[Row]:
    """Benchmarks, prepared.

    Arguments:
        benchmarks: what was measured.
        words: what the files do not say, as of `compare`.
        settings: numbers of the system to change.
        engine: what servers are set to, as far as files do not say it. Slots are as many as
            requests were under way, where that is more. Default: `Engine()`.
        skipped: called with what is left out, and why.
        told: called with how far it is.

    Raises:
        InputError: nothing is left.
    """
    engine = Engine() if engine is None else engine
    merged, reasons = merged_repeats(benchmarks)
    found: list[Row] = []
    for done, each in enumerate(merged):
        if told is not None:
            told(f"{done:,} of {len(merged):,} configurations")
        try:
            found.append(_row(each, words, settings, engine))
        except InputError as error:
            reasons.setdefault(str(error).removeprefix(f"{each.place}: "), []).append(each.place)
    for reason, places in reasons.items():
        more = f" and {len(places) - 1:,} more" if len(places) > 1 else ""
        if skipped is not None:
            skipped(f"left out: {places[0]}{more}: {reason}")
    if not found:
        if not reasons:
            raise InputError("FILE: there are no runs; name results of benchmarks")
        reason, places = next(iter(reasons.items()))
        raise InputError(f"{places[0]}: {reason}")
    return found


def merged_repeats(
    benchmarks: Sequence[Benchmark],
) -> tuple[list[Benchmark], dict[str, list[str]]]:
    """One benchmark of each configuration, and the places that are left out, by reason.

    Arguments:
        benchmarks: what was measured.
    """
    groups: dict[Any, list[Benchmark]] = {}
    for each in benchmarks:
        groups.setdefault(configuration_of(each), []).append(each)
    found, reasons = [], {}
    for runs in groups.values():
        if len(runs) == 1:
            found.append(runs[0])
            continue
        middle, apart = {}, False
        for name in METRICS:
            known = [x for x in (getattr(run, name).typical for run in runs) if x]
            apart |= bool(known) and max(known) > SPREAD * min(known)
            middle[name] = Latency(median(known)) if known else Latency()
        if apart:
            reason = f"repeats differ by more than a factor of {SPREAD}; repeat them once more"
            reasons.setdefault(reason, []).extend(run.place for run in runs)
        else:
            found.append(Benchmark(**(vars(runs[0]) | middle)))
    return found, reasons


def _row(
    benchmark: Benchmark, words: Mapping[str, Any], settings: Sequence[str], engine: Engine
) -> Row:
    reason = benchmark.unmodelled
    if benchmark.speculative:
        reason = f"speculative decoding ({benchmark.speculative}) is not modelled under load"
    if reason:
        raise InputError(reason)
    logs = _measured(benchmark)
    case = question_of(benchmark, words, settings).scenario
    return Row(benchmark, case, _run(benchmark, case, engine), deployment_words(case), logs)


def _measured(benchmark: Benchmark) -> np.ndarray:
    """ln s of the metrics of a run; times between tokens stand for TPOT where there is none."""
    tpot = benchmark.tpot if benchmark.tpot.typical is not None else benchmark.itl
    found = [each.typical for each in (benchmark.ttft, tpot, benchmark.end_to_end)]
    for name, seconds in zip(METRICS, found, strict=True):
        if seconds is not None and not seconds > 0:
            raise InputError(f"{name}: {seconds:g} s is no time; run the benchmark again")
    if all(seconds is None for seconds in found):
        raise InputError("ttft: it has neither TTFT nor TPOT nor end to end; nothing to fit to")
    return np.array([np.nan if seconds is None else np.log(seconds) for seconds in found])


def _run(benchmark: Benchmark, case: Scenario, engine: Engine) -> Run:
    """What predicts a run."""
    engine = set_up(benchmark, engine)
    if benchmark.log is not None:
        return Logged(benchmark.log, case, with_slots(engine, benchmark, case))
    if benchmark.together:
        alone = estimate(case)
        if not bool(alone.memory.fits):
            raise InputError("it does not fit in memory, as estimated")
        layers = float(case.model.layers)
        return Batch(float(alone.ttft), float(alone.tpot), chunks_of(case), layers)
    trouble = "it says neither a rate nor a concurrency"
    for load in loads(benchmark):
        server = with_slots(engine, benchmark, case, load, grows=True)
        checked(case, load, server, None)
        with as_if_traced():
            state = engine_state(resolved(case), load, server)
            steady = state.under(load)
            full = bool(preempts(state, steady, load))
        if not float(state.fit) >= 1:
            trouble = "memory has no room for the KV cache of one request, as estimated"
        elif full:
            trouble = "the cache overflows, and requests would be preempted"
        elif load.rate is not None and not load.rate < state.most.rate * state.engines:
            trouble = "more requests arrive than are served, as predicted"
        elif not np.isfinite(float(steady.ttft)):
            trouble = "no steady state is found"
        elif (
            load.rate is not None
            and benchmark.concurrency is not None
            and float(steady.rate * state.engines * steady.ttft) > benchmark.concurrency
        ):
            continue  # the concurrency limits the rate
        else:
            return Served(state, load, float(case.model.layers))
    raise InputError(trouble)
