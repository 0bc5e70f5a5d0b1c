"""`replay`: a finite log of requests, served one iteration after the other.

A log of a few hundred requests, or a burst, never is in the steady state that `serve` answers.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from diffgenz.core.checks import check, check_whole
from diffgenz.core.errors import InputError
from diffgenz.core.tree import Tree
from diffgenz.core.verb import as_if_traced
from diffgenz.inference.prefill_decode import Decodes
from diffgenz.inference.resolved import resolved
from diffgenz.scenario.scenario import Scenario, demand_scenario
from diffgenz.serving.engine_state import EngineState, engine_state
from diffgenz.serving.iteration_table import seconds_of
from diffgenz.serving.lengths import Empirical
from diffgenz.serving.load import Engine, Load
from diffgenz.serving.scheduler import Limits, Scheduler, Seconds
from diffgenz.serving.serve import checked

_FURTHER = 1.5
"""The context at which what a token of it costs is measured, over the mean one."""


class Replayed(Tree):
    """What each request of a log saw.

    Arguments:
        ttft: s from its arrival to its first token; shape (requests,).
        tpot: s between its tokens, in the mean; NaN where it has one only.
        end_to_end: s from its arrival to its last token.
        makespan: s from the first arrival to the last token of all.
        throughput: output tokens/s over the makespan.
        preemptions: how often a running request was put back since the cache was full.
    """

    ttft: Any
    tpot: Any
    end_to_end: Any
    makespan: float
    throughput: float
    preemptions: int


def replay(
    case: Scenario,
    arrivals: Any,
    prompts: Any,
    outputs: Any,
    engine: Engine | None = None,
    told: Callable[[str], None] | None = None,
) -> Replayed:
    """What each request of a log sees, where a scenario serves it.

    Every iteration is decided as vLLM's scheduler does (`serving.scheduler`), and takes what
    `iteration_cost` says, of which a table is interpolated: with the caches of the requests that
    run, and the pairs of queries and keys of the chunks that it computes. Replicas, and engines
    that share a pipeline, take requests in turn. It is plain NumPy, without derivatives.

    Arguments:
        case: the scenario; its workload does not count.
        arrivals: s at which requests arrive, in any order; shape (requests,).
        prompts: tokens of each prompt, whole numbers of at least 1.
        outputs: tokens of each answer, whole numbers of at least 1.
        engine: what the engines are set to. Default: `Engine()`.
        told: called now and then with a few words on how far it is. Default: nobody is told.

    Raises:
        InputError: lists of different lengths, no requests, only answers of one token, a request
            that the cache cannot hold, or what `serve` refuses of the scenario.
    """
    demand_scenario(case)
    asked = [np.asarray(given, float).ravel() for given in (arrivals, prompts, outputs)]
    if not len(asked[0]) or len({len(each) for each in asked}) > 1:
        counts = ", ".join(str(len(each)) for each in asked)
        raise InputError(
            f"arrivals, prompts, outputs: {counts} numbers; give one of each for each request"
        )
    check("arrivals", asked[0], minimum=0.0)
    for name, given in zip(("prompts", "outputs"), asked[1:], strict=True):
        check(name, given, minimum=1.0)
        check_whole(name, given, "tokens")
    load = Load(rate=1.0, prompts=Empirical(asked[1]), outputs=Empirical(asked[2]))
    engine = checked(case, load, engine, None)
    if case.serving.speculation is not None:
        raise InputError("speculation: not modelled in a replay; leave it out, or use `serve`")
    order = np.argsort(asked[0], kind="stable")
    starts, tokens, answers = (each[order] for each in asked)
    if answers.max() < 2:
        raise InputError("outputs: 1 token each, of which nothing is decoded; give longer ones")
    with as_if_traced():
        state = engine_state(resolved(case), load, engine)
        seconds = _seconds(case, state)
        limits = _limits(state)
    if (tokens + answers).max() > limits.cache:
        raise InputError(
            f"prompts: the cache has room for {limits.cache:,.0f} tokens, the longest request has "
            f"{(tokens + answers).max():,.0f}; use more accelerators, or leave it out"
        )
    hit = 0.0 if case.serving.prefix_hit is None else float(case.serving.prefix_hit)
    cached = np.minimum(np.round(hit * tokens), tokens - 1)
    first, last = np.zeros(len(starts)), np.zeros(len(starts))
    preemptions, engines = 0, round(float(state.engines))
    for turn in range(engines):
        mine = slice(turn, None, engines)
        whole = (each[mine].astype(np.int64) for each in (tokens, answers, cached))
        before = sum(len(starts[each::engines]) for each in range(turn))

        def count(done: int, before: int = before) -> None:
            assert told is not None
            told(f"{before + done:,} of {len(starts):,} requests served")

        server = Scheduler(seconds, limits, starts[mine], *whole)
        found = server.run(None if told is None else count)
        first[mine], last[mine] = found.first, found.last
        preemptions += found.preemptions
    back = np.argsort(order)
    steps = np.where(answers > 1, answers - 1, np.nan)
    makespan = float(last.max() - starts[0])
    tpot = (last - first) / steps
    alone = float(engine.request_seconds or 0.0)  # of answers of one token
    delay, held = state.host.delay(tpot, steps), state.host.held(tpot)
    return Replayed(
        ttft=(first - starts + np.nan_to_num(delay, nan=alone))[back],
        tpot=(tpot * state.host.kept(steps))[back],
        end_to_end=(last - starts + np.nan_to_num(held, nan=alone))[back],
        makespan=makespan,
        throughput=float(answers.sum()) / makespan,
        preemptions=preemptions,
    )


def _limits(state: EngineState) -> Limits:
    """Of one engine; its cache in tokens, of requests of the longest kind."""
    room = float(state.fit) * float(state.demand.most - 1)
    first = state.table.prefill_first
    return Limits(round(float(state.table.budget)), int(state.slots), room, first)


def _seconds(case: Scenario, state: EngineState) -> Seconds:
    """The time of an iteration: tabulated, with what further context and pairs of it cost."""
    table, demand = state.table, state.demand
    usual, mean = float(demand.context), float(demand.pairs)
    question, many = resolved(case), np.float64(np.sqrt(float(state.slots)))
    ends = [
        float(seconds_of(question, None, Decodes(many, np.float64(factor * usual))))
        for factor in (1.0, _FURTHER)
    ]
    token = (ends[1] - ends[0]) / (many * usual * (_FURTHER - 1))
    pair = float(table.pair)

    def seconds(decodes: int, contexts: float, tokens: int, pairs: float) -> float:
        running: Any = np.float64(decodes)
        if tokens:
            own = table.both(running, np.float64(tokens)) + pair * (pairs - tokens * mean)
        else:
            own = table.decodes(running)
        return float(own + token * (contexts - decodes * usual))

    return seconds
