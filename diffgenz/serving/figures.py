"""The figures of a steady state: means, percentiles and goodput."""

from collections.abc import Callable
from typing import Any, NamedTuple

from diffgenz.core import xp
from diffgenz.core.smooth import Flag, Scalar
from diffgenz.serving.engine_state import EngineState
from diffgenz.serving.host import Host
from diffgenz.serving.load import Load
from diffgenz.serving.load_result import Latencies, LoadResult
from diffgenz.serving.objectives import Objectives
from diffgenz.serving.percentiles import LEVELS, Tails, per_token, quantiles
from diffgenz.serving.saturation import FILLED
from diffgenz.serving.smoothing import between, larger, smaller
from diffgenz.serving.special import gamma_quantile, gamma_tail
from diffgenz.serving.steady import Steady, piece_seconds

_ARRIVING, _REPLACED = 4.0, 2.5
"""Standard deviations of the running requests within which the cache has to hold them, in an open
and in a closed loop; simulations with less preempt some."""


class Means(NamedTuple):
    """The means of latencies, in s, and the burst in which a benchmark starts.

    Arguments:
        ttft: of the first token.
        tpot: between tokens of a request.
        itl: between tokens.
        end_to_end: of whole answers.
        burst: the share of requests that come at once in the beginning, and the s between the first
            tokens of the first and of the last of them.
    """

    ttft: Scalar
    tpot: Scalar
    itl: Scalar
    end_to_end: Scalar
    burst: tuple[Scalar, Scalar]


class Added(NamedTuple):
    """What users see beyond what an engine takes (`Host`).

    Arguments:
        delay: s by which the first token comes later.
        kept: the share of the time between the first and the last token that is left.
        request: s by which the last token comes later.
    """

    delay: Scalar
    kept: Scalar
    request: Scalar

    def to(self, means: Means) -> Means:
        """The means of latencies that users see, from those of an engine."""
        return means._replace(
            ttft=means.ttft + self.delay,
            tpot=means.tpot * self.kept,
            end_to_end=means.end_to_end + self.request,
        )


def added_by(host: Host, means: Means, steps: Scalar) -> Added:
    """What a host adds to the latencies of an engine.

    Arguments:
        host: of the engine.
        means: the engine's mean latencies.
        steps: tokens of a request after the first.
    """
    request = 0 * means.ttft + (0.0 if host.request is None else host.request)
    return Added(host.delay(means.tpot, steps), host.kept(steps), request)


def means_of(state: EngineState, steady: Steady, load: Load) -> Means:
    """Mean latencies that users see; arguments as of `engine_means`."""
    means = engine_means(state, steady, load)
    return added_by(state.host, means, state.demand.generated).to(means)


def engine_means(state: EngineState, steady: Steady, load: Load) -> Means:
    """Mean latencies of an engine, before its tokens are sent.

    Arguments:
        state: the engine.
        steady: its steady state.
        load: how requests come.
    """
    demand = state.demand
    zero = 0 * steady.own
    share, spread, ttft = zero, zero, steady.ttft
    if load.requests is not None and load.concurrency is not None:
        own = load.concurrency / state.engines
        one, _ = piece_seconds(demand, steady.runs, steady.runs.full, state.table.pair)
        share, spread = load.concurrency / load.requests + zero, own * one
        early = steady.own + larger(own - 1, 0.0) / 2 * one
        ttft = (1 - share) * ttft + share * early
    tpot, _ = per_token(steady, state.table, demand)
    decoding = demand.outputs.mean(steady.generation(demand.rounds))
    return Means(ttft, tpot, decoding / demand.generated, ttft + decoding, (share, spread))


def load_result(
    state: EngineState, steady: Steady, load: Load, objectives: Objectives | None
) -> LoadResult:
    """All figures of a deployment.

    Arguments:
        state: one of its engines.
        steady: the engine's steady state.
        load: how requests come.
        objectives: what goodput means; None: there is none.
    """
    demand, most, table, runs = state.demand, state.most, state.table, steady.runs
    means = engine_means(state, steady, load)
    added = added_by(state.host, means, demand.generated)
    queue = 1.0 + 0 * steady.own
    if load.concurrency is not None:
        queue = larger(load.concurrency / state.engines * steady.waits_for_slot, 1.0)
    tails = Tails(steady, table, demand, state.fine, queue, means.burst)
    _, variance = per_token(steady, table, demand)
    latencies, share = latencies_of(tails, means, variance, runs.full, added)
    rate = steady.rate * state.engines
    saturated = xp.asarray(False)
    if load.rate is not None:
        saturated = load.rate >= most.rate * state.engines
    goodput = None
    if objectives is not None:
        goodput = rate * xp.where(saturated, 0.0, share(objectives))
    utilization = rate / (most.rate * state.engines)
    decoding = demand.outputs.mean(steady.generation(demand.rounds))
    return LoadResult(
        **latencies,
        requests_per_second=rate,
        throughput=rate * (demand.generated + 1),
        concurrency=rate * (steady.ttft + decoding + added.request),
        running=steady.running * state.engines,
        utilization=utilization,
        saturation_rate=most.rate * state.engines,
        cache_use=steady.running / most.cache,
        goodput=goodput,
        preempts=preempts(state, steady, load),
        saturated=saturated,
        residual=steady.residual + 0 * rate,
    )


def latencies_of(
    tails: Tails, means: Means, variance: Scalar, slowest: Scalar, added: Added
) -> tuple[dict[str, Latencies], Callable[[Objectives], Scalar]]:
    """Latencies by name, and what tells the share of requests that meet some objectives.

    Arguments:
        tails: the distributions of latencies.
        means: the engine's.
        variance: that of TPOT over requests, in s^2.
        slowest: s between tokens that no request exceeds.
        added: what users see beyond the engine.
    """
    shape, scale = means.tpot**2 / variance, variance / means.tpot
    slowest = slowest / tails.demand.pace
    per_user = [scale * gamma_quantile(larger(shape, 0.5), level) for level in LEVELS]
    first = quantiles(Tails.ttft, tails, means.ttft)
    last = quantiles(Tails.end_to_end, tails, means.end_to_end)
    found = {
        "ttft": [added.delay + each for each in first],
        "tpot": [added.kept * smaller(each, slowest) for each in per_user],
        "itl": [_between_tokens(tails, level) for level in LEVELS],
        "end_to_end": [added.request + each for each in last],
    }
    seen = added.to(means)
    latencies = {name: Latencies(getattr(seen, name), *each) for name, each in found.items()}

    def slow(seconds: Scalar) -> Scalar:
        return gamma_tail(shape, seconds / scale)

    def share(objectives: Objectives) -> Scalar:
        """Of requests that meet all objectives, as if they were independent."""
        of = {
            "ttft": lambda limit: tails.ttft(limit - added.delay),
            "tpot": lambda limit: slow(limit / added.kept),
            "end_to_end": lambda limit: tails.end_to_end(limit - added.request),
        }
        met = xp.ones(())
        for name, limit in objectives.limits.items():
            met = met * between(1 - of[name](limit), 0.0, 1.0)
        return met

    return latencies, share


def preempts(state: EngineState, steady: Steady, load: Load) -> Flag:
    """Whether running requests are likely to outgrow the cache.

    In an open loop their number varies, the more so the more they slow each other down; in a closed
    one only their lengths do.

    Arguments:
        state: the engine.
        steady: its steady state.
        load: how requests come.
    """
    running, variance, deviations = steady.running, steady.running, _REPLACED
    if load.rate is not None:
        elasticity = between(state.table.elasticity(steady.tagged), 0.0, 0.9)
        variance, deviations = running / (1 - elasticity), _ARRIVING
    return running + deviations * xp.sqrt(variance) > state.most.cache / FILLED


def _between_tokens(tails: Tails, level: Any) -> Scalar:
    """A quantile of the time between tokens: iterations are idle, last ones of runs, or full.

    Where prompts go first, an iteration is idle and may follow a run. Of the tokens of one
    verification all but the first come at once.
    """
    steady, verifying = tails.steady, tails.demand.verifying
    if verifying is not None:
        level = 1 - (1 - level) * verifying.tokens
        return xp.where(level > 0, _iteration_at(steady, level), 0.0)
    return _iteration_at(steady, level)


def _iteration_at(steady: Steady, level: Any) -> Scalar:
    """A quantile of the time from the start of an iteration that decodes to that of the next."""
    runs = steady.runs
    if runs.apart:
        stops = -xp.expm1(-steady.arrivals * runs.idle / steady.iteration)
        run = larger(steady.iteration - runs.idle, 0.0) / stops
        # runs are of one prompt, or exponential
        further = 0.5 + 0.5 * larger(xp.log(stops / (1 - level)), 0.0)
        return runs.idle + xp.where(level > 1 - stops, run * further, 0.0)
    alone = 1 - steady.part - steady.full
    most = xp.where(level <= alone + steady.part, runs.part, runs.full)
    return xp.where(level <= alone, runs.idle, most)
