"""`serve_disaggregated`: prefill and decode pools of unlike hardware under a load, and their ratio.

`disaggregate` says what the phases take without a load; here requests come and go (`pools`).
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from diffgenz.core import xp
from diffgenz.core.checks import Condition, check, demand, enforce
from diffgenz.core.errors import InputError
from diffgenz.core.smooth import Leaf, Scalar
from diffgenz.core.tree import Tree
from diffgenz.core.verb import verb
from diffgenz.inference.estimate import constant_ranks
from diffgenz.inference.resolved import Resolved, resolved
from diffgenz.scenario.scenario import Scenario, prompted
from diffgenz.serving.demand import demand_of
from diffgenz.serving.disaggregation import STAGES, Pool, prompt_cache
from diffgenz.serving.engine_state import double, host_of, room_for, size_of
from diffgenz.serving.figures import Means, added_by, latencies_of
from diffgenz.serving.iteration_table import (
    CHUNKS,
    DECODES,
    IterationTable,
    decodes_alone,
    prompts_alone,
)
from diffgenz.serving.load import Engine, Load
from diffgenz.serving.load_result import LoadResult
from diffgenz.serving.objectives import Objectives
from diffgenz.serving.percentiles import Tails, per_token
from diffgenz.serving.pools import Pools, pools_under
from diffgenz.serving.serve import PATIENCE, checked
from diffgenz.serving.smoothing import smaller
from diffgenz.serving.steady import Steady


class DisaggregatedLoad(Tree):
    """Disaggregated serving under a load.

    Arguments:
        result: its figures, as of `serve`. The decode worker sends the first token: TTFT has the
            prefill, the transfer and all waiting in it.
        transfer: s that a transfer takes, without waiting for the link.
        sustained: requests/s of each of `STAGES`, shape (3,).
    """

    result: LoadResult
    transfer: Leaf
    sustained: Leaf

    @property
    def bottleneck(self) -> str:
        """The slowest of `STAGES`, for one concrete configuration (not traced or batched)."""
        return STAGES[int(np.argmin(np.asarray(self.sustained)))]


class Link(Tree):
    """What joins the pools.

    Arguments:
        bandwidth: B/s from all prefill workers to all decode workers.
        latency: s of one transfer besides its bytes.
    """

    bandwidth: Scalar
    latency: Scalar


def serve_disaggregated(
    case: Scenario,
    load: Load,
    prefill: Pool,
    decode: Pool,
    *,
    link_bandwidth: Leaf | float,
    link_latency: Leaf | float = 0.0,
    engine: Engine | None = None,
    objectives: Objectives | None = None,
) -> DisaggregatedLoad:
    """Latencies and throughput of a scenario whose prefill and decode have separate pools.

    Arguments:
        case: the question. Its batch does not count, and the pools take the place of its platform
            and plan. Both sides have what a prompt finds cached, so that only the rest is sent.
        load: the rate at which requests come; prefill workers get equal shares of it.
        prefill: the workers that prefill, chunk by chunk.
        decode: the workers that decode.
        link_bandwidth: B/s from all prefill workers to all decode workers, above 0.
        link_latency: s of one transfer besides its bytes, at least 0.
        engine: what each worker is set to; `max_num_seqs` is that of decode workers. Default:
            `Engine()`.
        objectives: the limits that goodput counts requests within. Default: there is no goodput.

    Raises:
        InputError: a rate of at least what the slowest stage sustains, a concurrency, a cache that
            cannot hold the longest request, a link without bandwidth, or what `serve` refuses.
    """
    for name, pool in (("prefill", prefill), ("decode", decode)):
        demand(name, pool, Pool, "Pool(platform, plan, workers)")
    check("link_bandwidth", link_bandwidth, exclusive=True, finite=False)
    check("link_latency", link_latency)
    demand("load", load, Load, "Load(rate=5.0)")
    if load.rate is None:
        raise InputError("concurrency: pools are modelled at a rate; give Load(rate=...)")
    cases = [case.replace(platform=each.platform, plan=each.plan) for each in (prefill, decode)]
    engines = [checked(each, load, engine, objectives) for each in cases]
    refuse_in_pools(case, engines[0])
    first, second = (resolved(each) for each in cases)
    link = Link(xp.asarray(link_bandwidth, float), xp.asarray(link_latency, float))
    workers = prefill.workers, decode.workers
    found, fit = _serve((first, second), workers, link, load, engines[0], objectives)
    enforce(_refusals(cases, load, found, fit))
    return found


def refuse_in_pools(case: Scenario, engine: Engine) -> None:
    """Raise `InputError` for what is not modelled of pools."""
    for name, given in (
        ("speculation", case.serving.speculation is not None),
        ("prefill_first", engine.prefill_first),
    ):
        if given:
            raise InputError(f"{name}: not modelled in pools; leave it out, or use `serve`")


def pools_of(
    questions: tuple[Resolved, Resolved],
    workers: tuple[Scalar, Scalar],
    link: Link,
    load: Load,
    engine: Engine,
) -> tuple[Pools, Scalar]:
    """Both pools, prepared, and how many of the longest requests the smaller cache has room for.

    Arguments:
        questions: the scenario on a prefill and on a decode worker.
        workers: how many there are of each.
        link: what joins them.
        load: how requests come, of which only the lengths count.
        engine: what each worker is set to.
    """
    first, second = (constant_ranks(each) for each in questions)
    case = prompted(second.case)
    asked, fine = demand_of(case, load), demand_of(case, load, fine=True)
    _, budget, prefills = size_of(first, engine)
    slots, _, decodes = size_of(second, engine)
    host = host_of(engine, case.model.layers)
    alone, pair = prompts_alone(first, asked, budget)
    table = IterationTable(
        slots=slots,
        budget=budget,
        alone=xp.log(host.on(decodes_alone(second, asked, slots))),
        mixed=xp.log(host.on(alone)) + xp.zeros((DECODES, CHUNKS)),
        pair=pair,
    )
    cache = room_for(second, asked.context) / decodes
    holds = [room_for(first, asked.prompts.tokens.max()) / prefills]
    holds.append(room_for(second, asked.most - 1) / decodes)
    sent = prompt_cache(case) / case.workload.input_tokens / link.bandwidth
    pools = Pools(
        demand=asked,
        fine=fine,
        table=table,
        slots=slots,
        cache=cache,
        prefills=prefills * workers[0],
        decodes=decodes * workers[1],
        transfer=sent,
        latency=link.latency,
        host=host,
    )
    return pools if xp.is_jax(pools) else double(pools), smaller(holds[0], holds[1])


def means_of_pools(pools: Pools, load: Load) -> tuple[Steady, Means]:
    """The steady state of pools under a load, and mean latencies before tokens are sent."""
    assert load.rate is not None  # `serve_disaggregated` refuses a concurrency
    steady = pools_under(pools, load.rate, load.share_of(pools.prefills, "random").burstiness)
    per, _ = per_token(steady, pools.table, pools.demand)
    zero, decoding = 0 * steady.own, pools.demand.steps * steady.iteration
    means = Means(steady.ttft, per, steady.iteration, steady.ttft + decoding, (zero, zero))
    return steady, means


def figures_of(pools: Pools, load: Load, objectives: Objectives | None) -> DisaggregatedLoad:
    """All figures of pools under a load; arguments as of `serve_disaggregated`."""
    assert load.rate is not None  # `serve_disaggregated` refuses a concurrency
    asked = pools.demand
    steady, means = means_of_pools(pools, load)
    one = 1.0 + 0 * steady.own
    after = pools.transfer * pools.fine.prompts.tokens
    tails = Tails(steady, pools.table, asked, pools.fine, one, means.burst, after)
    _, variance = per_token(steady, pools.table, asked)
    decoding = asked.steps * steady.iteration
    added = added_by(pools.host, means, asked.steps)
    latencies, share = latencies_of(tails, means, variance, 1e9 * one, added)
    sustained = pools.sustained
    most = smaller(smaller(sustained[0], sustained[1]), sustained[2])
    rate = steady.rate * pools.prefills
    saturated = load.rate >= most
    goodput = None if objectives is None else rate * xp.where(saturated, 0.0, share(objectives))
    result = LoadResult(
        **latencies,
        requests_per_second=rate,
        throughput=rate * (asked.steps + 1),
        concurrency=rate * (steady.ttft + decoding + added.request),
        running=steady.running * pools.decodes,
        utilization=rate / most,
        saturation_rate=most,
        cache_use=steady.running / pools.cache,
        goodput=goodput,
        preempts=steady.running + 4 * xp.sqrt(steady.running) > pools.cache,
        saturated=saturated,
        residual=steady.residual,
    )
    return DisaggregatedLoad(result, pools.transfer * asked.prompt + pools.latency, sustained)


def _served(
    questions: tuple[Resolved, Resolved],
    workers: tuple[Scalar, Scalar],
    link: Link,
    load: Load,
    engine: Engine,
    objectives: Objectives | None,
) -> tuple[DisaggregatedLoad, Scalar]:
    pools, fit = pools_of(questions, workers, link, load, engine)
    return figures_of(pools, load, objectives), fit


def _refusals(
    cases: list[Scenario], load: Load, found: DisaggregatedLoad, fit: Any
) -> Iterable[Condition]:
    """What must hold of what was found."""
    yield Condition(
        fit >= 1,
        lambda: (
            f"memory: the weights of {cases[0].model.name} leave no room for the KV cache of one "
            "request in one of the pools; use more accelerators for a worker, or shorter requests"
        ),
    )
    assert load.rate is not None  # refused before
    rate, most = load.rate, found.result.saturation_rate
    yield Condition(
        rate < most,
        lambda: (
            f"rate: {np.ravel(np.asarray(rate))[0]:.4g} requests/s are too many; the "
            f"{found.bottleneck} stage saturates at {np.ravel(np.asarray(most))[0]:.4g}, beyond "
            "which waits grow without end"
        ),
    )


_serve = verb(_served, patience=PATIENCE)
