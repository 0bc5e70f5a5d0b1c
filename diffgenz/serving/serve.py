"""`serve`: a scenario under load, with queueing, chunked prefill and percentiles.

An engine that batches continuously is described by two numbers, its running decodes and the tokens
of a prefill run, which two equations tie (`open_loop`, `closed_loop`); all else follows from them.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from diffgenz.core import xp
from diffgenz.core.checks import Condition, at_least, at_most, demand, enforce
from diffgenz.core.errors import InputError
from diffgenz.core.smooth import Scalar
from diffgenz.core.verb import verb
from diffgenz.inference.resolved import Resolved, resolved
from diffgenz.scenario.scenario import Scenario, demand_scenario
from diffgenz.serving.engine_state import engine_state
from diffgenz.serving.figures import load_result
from diffgenz.serving.load import Engine, Load
from diffgenz.serving.load_result import LoadResult
from diffgenz.serving.objectives import Objectives

LEAST_BUDGET = 64
"""Prompt tokens of an iteration, below which runs of prefill are no longer as modelled."""


class Answer(NamedTuple):
    """A result, and how many of the longest requests the memory of an engine has room for."""

    result: LoadResult
    fit: Scalar


def serve(
    case: Scenario,
    load: Load,
    engine: Engine | None = None,
    objectives: Objectives | None = None,
) -> LoadResult:
    """Latencies and throughput of a scenario under a load, in steady state.

    Iterations are those of `iteration_cost`: a chunk of prompts beside the running decodes, which
    take their share of the token budget (`Serving.chunk`) first, or whole prompts that go before
    them (`Engine.prefill_first`). A request is admitted when a slot is free and its whole prompt
    fits into the cache. Replicas share the load evenly.

    One configuration is answered without compiling. `jax.vmap` batches `serve`, and derivatives
    with respect to any number of the scenario, the load and the engine are those of the implicit
    function theorem.

    Arguments:
        case: the scenario. Its batch does not count.
        load: how requests come: a rate, or a concurrency.
        engine: what the engine is set to. Default: `Engine()`.
        objectives: the limits that goodput counts requests within. Default: there is no goodput.

    Raises:
        InputError: a rate of at least the saturation rate, a concurrency above `max_num_seqs`, a
            cache that cannot hold the longest request, or an option that is not modelled under
            load: whole prompts, beams, offloading, images.
    """
    engine = checked(case, load, engine, objectives)
    answer = _serve(resolved(case), load, engine, objectives)
    enforce(_refusals(case, load, answer))
    return answer.result


def saturation_rate(case: Scenario, load: Load, engine: Engine | None = None) -> Scalar:
    """Requests/s beyond which waits grow without end; arguments and errors as of `serve`.

    Arguments:
        case: the scenario.
        load: how requests come, of which only the lengths count.
        engine: what the engine is set to. Default: `Engine()`.
    """
    engine = checked(case, load, engine, None)
    rate, fit = _saturation(resolved(case), load, engine)
    enforce([fits(case, fit)])
    return rate


def _saturated(question: Resolved, load: Load, engine: Engine) -> tuple[Scalar, Scalar]:
    state = engine_state(question, load, engine)
    return state.most.rate * state.engines, state.fit


def checked(
    case: Scenario, load: Load, engine: Engine | None, objectives: Objectives | None
) -> Engine:
    """The engine, where the question can be answered; arguments and errors as of `serve`."""
    demand_scenario(case)
    demand("load", load, Load, "Load(rate=5.0)")
    engine = Engine() if engine is None else engine
    demand("engine", engine, Engine, "Engine(max_num_seqs=256)")
    if objectives is not None:
        demand("objectives", objectives, Objectives, "Objectives(ttft=0.5, tpot=0.05)")
    refuse_options(case, load)
    enforce(settings(case, load, engine))
    return engine


def refuse_options(case: Scenario, load: Load) -> None:
    """Raise `InputError` for an option that is not modelled under load.

    Arguments:
        case: the scenario.
        load: how its requests come.
    """
    serving = case.serving
    for name, given in (
        ("beams", serving.beams is not None),
        ("offload", serving.offload is not None),
        ("images", not xp.is_jax(case.workload.images) and float(case.workload.images) > 0),
    ):
        if given:
            raise InputError(f"{name}: not modelled under load; leave it out, or use `estimate`")
    if load.lockstep and serving.speculation is not None:
        raise InputError(
            "lockstep: with speculation equal answers take different numbers of iterations; leave "
            "it out"
        )
    if serving.chunk is None:
        raise InputError("chunk: whole prompts are not modelled under load; give a token budget")


def _served(
    question: Resolved, load: Load, engine: Engine, objectives: Objectives | None
) -> Answer:
    state = engine_state(question, load, engine)
    result = load_result(state, state.under(load), load, objectives)
    return Answer(result, state.fit)


def settings(case: Scenario, load: Load, engine: Engine) -> Iterable[Condition]:
    """What must hold of what is asked; arguments as of `serve`."""
    plan, serving = case.plan, case.serving
    least: list[tuple[str, Any, Any, str]] = [
        ("chunk", serving.chunk, LEAST_BUDGET, "the least budget of tokens that is modelled"),
        ("output_tokens", case.workload.output_tokens, 2.0, "where nothing is decoded"),
    ]
    if not engine.prefill_first:
        what = "twice max_num_seqs: decodes leave prompts too little of it; raise it"
        taken = engine.max_num_seqs
        if serving.speculation is not None:
            taken = taken * (1 + serving.speculation.drafts)
            what = "twice the drafts and tokens of max_num_seqs requests; raise it, or lower those"
        least.insert(1, ("chunk", serving.chunk, 2 * taken, what))
    for each in least:
        yield at_least(*each)
    if engine.stream_interval is not None:
        what = "the tokens of an answer; lower it, or ask for longer answers"
        most = case.workload.output_tokens - 1
        yield at_most("stream_interval", engine.stream_interval, most, what)
    if load.concurrency is not None:
        slots = engine.max_num_seqs * plan.attention_data * plan.data
        what = (
            "the requests that may run at once (max_num_seqs); raise it, or lower the concurrency"
        )
        yield at_most("concurrency", load.concurrency, slots, what)


def fits(case: Scenario, requests: Scalar) -> Condition:
    """That the memory has room for one of the longest requests.

    Arguments:
        case: the scenario.
        requests: how many of them it has room for.
    """
    return Condition(
        requests >= 1,
        lambda: (
            f"memory: the weights of {case.model.name} leave no room for the KV cache of one "
            "request; use more accelerators, or shorter requests"
        ),
    )


def _refusals(case: Scenario, load: Load, answer: Answer) -> Iterable[Condition]:
    """What must hold of what was found."""
    yield fits(case, answer.fit)
    most = answer.result.saturation_rate
    if load.rate is not None:
        yield Condition(
            load.rate < most,
            lambda: (
                f"rate: {_first(load.rate):.4g} requests/s are too many; the deployment "
                f"saturates at {_first(most):.4g}, beyond which waits grow without end"
            ),
        )


def _first(x: Any) -> float:
    return float(np.ravel(np.asarray(x))[0])


_serve = verb(_served)
_saturation = verb(_saturated)
