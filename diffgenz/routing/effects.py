"""What a placement does to a scenario, on requests that it was not made for; and why.

Three gains hide in a placement, and each goes under its own null:

- request structure: gone when tokens are shuffled over requests, so that they come to all nodes
  alike;
- co-activation: gone when the choices of a token are drawn independently;
- skew of popularity (balance, replicas): what is left under both.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from diffgenz.inference.breakdown import breakdown
from diffgenz.inference.estimate import estimate
from diffgenz.routing import measures
from diffgenz.routing.case_time import METRICS, CaseTime
from diffgenz.routing.gumbel import gumbel, top_of_groups
from diffgenz.routing.layer_time import demand
from diffgenz.routing.placement import Placement
from diffgenz.routing.replicas import Rule
from diffgenz.routing.routed import routed, traffic_of
from diffgenz.routing.trace import Counts, Trace
from diffgenz.routing.traffic import Traffic
from diffgenz.scenario.scenario import Scenario

TOKENS = 4096
"""Tokens that are drawn for the null of co-activation."""


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """A placement, and requests that it is tested on.

    Arguments:
        placement: where the experts are, in the layers of the trace.
        node: [requests]; the node of each request; None: tokens come to all nodes alike.
    """

    placement: Placement
    node: np.ndarray | None = None


class Effect(NamedTuple):
    """What a placement does: of one iteration, in SI; means over layers but for bytes and times.

    Arguments:
        inter: B that leave their node, dispatched and combined, of all layers and nodes.
        pair: B of the largest message between two nodes in a layer.
        straggler: rows of the fullest rank / mean rows.
        active: experts with work on the fullest rank, of its slots.
        layers: s of all layers' experts, dispatch and combine.
        exchange: s that the exchange takes in the time of the phase.
        time: s, the TTFT or TPOT of `estimate`.
        fits: whether it fits into memory.
    """

    inter: float
    pair: float
    straggler: float
    active: float
    layers: float
    exchange: float
    time: float
    fits: bool


class Gains(NamedTuple):
    """Parts of what a placement saves over another, as shares of what that one takes.

    Arguments:
        structure: by request structure.
        coactivation: by experts that are chosen together.
        skew: by unequal popularity: balance and replicas.
    """

    structure: float
    coactivation: float
    skew: float


def seen(tested: Trial, source: Trace | Counts, time: CaseTime, rule: Rule) -> Traffic:
    """The traffic that the kernels of a scenario see.

    Arguments:
        tested: the placement.
        source: the choices of the requests, of one phase.
        time: times these kernels.
        rule: how a token chooses among replicas.
    """
    both = traffic_of(source, tested.placement, tested.node, rule)
    return both.once if time.deduplicated and both.once is not None else both.each


def effect(
    case: Scenario,
    source: Trace | Counts,
    tested: Trial,
    time: CaseTime,
    phase: str,
    rule: Rule = Rule.LOCAL_FIRST,
) -> Effect:
    """What a placement does to a scenario.

    Arguments:
        case: the scenario.
        source: the choices of the requests, of one phase.
        tested: the placement.
        time: times the layers of the trace.
        phase: "prefill" or "decode".
        rule: how a token chooses among replicas.
    """
    traffic = seen(tested, source, time, rule)
    scale = time.tokens / traffic.tokens * time.token_bytes
    away = measures.away(traffic.to_nodes) * scale
    told = demand(traffic, time.tokens / tested.placement.ranks)
    there = routed(case, source, tested.placement, node=tested.node, rule=rule)
    result, metric = estimate(there), METRICS[phase]
    fits = bool(result.memory.fits)
    rows = breakdown(there).rows(metric) if fits else {}
    return Effect(
        float(away.sum()),
        float(away.max((1, 2)).mean()),
        float(traffic.rank_straggler.mean()),
        float(told.active.max(1).mean()),
        float(time(told).sum()),
        float(sum(rows.get("exchange", {}).values())),
        float(getattr(result, metric)),
        fits,
    )


def gains(
    source: Trace | Counts,
    base: Trial,
    new: Trial,
    time: CaseTime,
    *,
    limit: tuple[int, int] = (1, 1),
    rule: Rule = Rule.LOCAL_FIRST,
    seed: int = 0,
) -> dict[str, Gains]:
    """What a placement saves, in "bytes" between nodes and in "time" of layers, by cause.

    Arguments:
        source: the choices of the requests, of one phase.
        base: what it is compared with.
        new: the placement.
        time: times the layers of the trace.
        limit: groups of neighbouring experts, and those that a token's are in.
        rule: how a token chooses among replicas.
        seed: of the random numbers.
    """

    def saved(at: Trace | Counts, alike: bool) -> np.ndarray:
        costs = []
        for each in (base, new):
            tested = dataclasses.replace(each, node=None) if alike else each
            traffic = seen(tested, at, time, rule)
            told = demand(traffic, time.tokens / each.placement.ranks)
            costs.append((traffic.far.sum(), time(told).sum()))
        was, now = np.array(costs)
        return np.where(was > 0, 1 - now / np.where(was > 0, was, 1.0), 0.0)

    whole = saved(source, False)
    alike = whole if base.node is None and new.node is None else saved(source, True)
    alone = alike
    if isinstance(source, Trace) and source.k > 1 and time.deduplicated:
        alone = saved(independent(source, limit, seed), True)
    return {
        name: Gains(float(w - a), float(a - i), float(i))
        for name, w, a, i in zip(("bytes", "time"), whole, alike, alone, strict=True)
    }


def independent(trace: Trace, limit: tuple[int, int] = (1, 1), seed: int = 0) -> Trace:
    """A trace whose tokens choose by the popularity of experts alone, without replacement.

    Half a choice is added to each count, as the estimate of Krichevsky and Trofimov (1981) does, so
    that experts that were never chosen have a logarithm.

    Arguments:
        trace: whose popularities are taken; as many tokens are drawn, at most `TOKENS`.
        limit: groups of neighbouring experts, and those that a token's are in.
        seed: of the random numbers.
    """
    random = np.random.default_rng(seed)
    popularity = np.log(trace.counts("all")[0] + 0.5).astype(np.float32)
    tokens = min(trace.tokens, TOKENS)
    chosen = np.stack(
        [
            top_of_groups(of_layer + gumbel(random, tokens, trace.experts), trace.k, *limit)
            for of_layer in popularity
        ],
        axis=1,
    )
    return Trace(trace.experts, trace.layers, chosen, trace.request[:tokens], model=trace.model)
