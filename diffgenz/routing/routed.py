"""A scenario whose tokens go where a trace says, with experts where a placement says.

    case = routed(case, load_trace("recorded.npz"), load_placement("placement.json"))
    estimate(case)

What a trace says to an estimate is `Traced`: a few numbers for each kind of layers and each phase
(`expected.py`).
"""

from typing import NamedTuple

import numpy as np

from diffgenz.core.errors import InputError, unknown
from diffgenz.core.leaves import leaf_names
from diffgenz.models.model import Model
from diffgenz.operators.phases import PerPhase
from diffgenz.operators.routing import Routing, traced
from diffgenz.routing import expected
from diffgenz.routing.baselines import linear
from diffgenz.routing.deployment import (
    expert_block,
    expert_layers,
    layout_of,
    model_layers,
    recorded,
)
from diffgenz.routing.evenness import even
from diffgenz.routing.placement import Placement
from diffgenz.routing.replicas import Rule
from diffgenz.routing.trace import PHASES, Counts, Trace
from diffgenz.routing.traffic import Traffic, tally_of_counts, tally_of_tokens
from diffgenz.scenario.scenario import Scenario, demand_scenario

TOKENS = 32768
"""Tokens by which de-duplicated traffic is measured, at most."""


def routed(
    case: Scenario,
    source: Trace | Counts,
    placement: Placement | None = None,
    *,
    node: np.ndarray | None = None,
    phase: str | None = None,
    rule: Rule = Rule.LOCAL_FIRST,
    note: str = "",
) -> Scenario:
    """The scenario with the routing of a trace: `Traced`, for each kind of layers with experts.

    Where a trace has both phases, prefill has the numbers of its prompts and decode those of its
    generated tokens (`PerPhase`); else both have those of the one that it has. What the tokens of a
    prompt have in common counts in prefill only. A trace that nothing tells from uniform routing
    gives `Uniform`, unless experts have replicas. Counts say nothing of `far`, `near` and
    `dispersion`, which stay those of uniform routing.

    Arguments:
        case: a concrete scenario with a plan, of the model that was traced.
        source: which experts tokens chose.
        placement: where the experts are: of all layers that have experts, or of those of the trace.
            Default: experts in order, without replicas.
        node: [requests]; the node of each request, in ascending order of their numbers, as grouping
            gives it. Default: tokens come to all nodes alike.
        phase: "prefill" or "decode", whose numbers both phases have then. Default: each its own.
        rule: how a token chooses among replicas.
        note: where the trace is from, for people.

    Raises:
        InputError: the trace or the placement is of another model or plan, it lacks a kind of
            layers, or there are no tokens of that phase.
    """
    demand_scenario(case)
    recorded = Recorded(source, case.model, phase, node)
    return case.replace(routing=recorded.routing(case, placement, rule, note))


class Recorded:
    """A trace of a model, from which the routings of all its plans are made.

    Arguments:
        source: which experts tokens chose.
        model: the model that was traced.
        phase: as in `routed`.
        node: as in `routed`.

    Raises:
        InputError: the trace is of another model, it lacks a kind of layers, or there are no tokens
            of that phase.
    """

    def __init__(
        self,
        source: Trace | Counts,
        model: Model,
        phase: str | None = None,
        node: np.ndarray | None = None,
    ):
        self._experts, self._layers = source.experts, model_layers(source, model)
        known = expert_layers(model)
        self._kinds = [known[layer] for layer in self._layers]
        missing = sorted(set(known.values()) - set(self._kinds))
        if missing:
            first = next(layer for layer, kind in known.items() if kind == missing[0])
            raise InputError(
                f"trace: has no layer like layer {first} of {model.name}; record all kinds of "
                "layers with experts"
            )
        block = expert_block(model, self._kinds[0])
        self._used, self._limit = int(block.used), (1, 1)
        if block.groups is not None and block.groups_used is not None:
            self._limit = (int(block.groups), int(block.groups_used))
        both = isinstance(source, Trace) and len(np.unique(source.phase)) == len(PHASES)
        phases = PHASES if both and phase is None else (phase,)
        parts = [of_phase(source, each, node) for each in phases]
        self._parts = [(part, own, even(part, *self._limit)) for part, own in parts]

    def routing(
        self,
        case: Scenario,
        placement: Placement | None = None,
        rule: Rule = Rule.LOCAL_FIRST,
        note: str = "",
    ) -> Routing:
        """The routing of one plan of the model.

        Arguments:
            case: the scenario, of which plan, platform, chunk and prompt count.
            placement: as in `routed`.
            rule: as in `routed`.
            note: as in `routed`.

        Raises:
            InputError: the placement is of another model or plan.
        """
        layout = layout_of(case)
        if placement is None:
            slots = max(self._experts, layout.nodes * layout.ranks_per_node)
            placement = linear(len(self._layers), self._experts, *layout, slots)
        else:
            placement = recorded(placement, self._layers, case)
        replicas = placement.slots.shape[1] > self._experts
        chunk, prompt = case.serving.chunk, float(case.workload.input_tokens)
        together = prompt if chunk is None else min(prompt, float(chunk))
        told = []
        for part, node, is_even in self._parts:
            if is_even and not replicas:
                told.append(traced(kinds=self._kinds))
                continue
            prompts = isinstance(part, Trace) and part.tokens and (part.phase == 0).all()
            own = together if prompts else 1.0
            found = numbers(part, placement, node, self._limit, self._used, own, rule)
            told.append(traced(kinds=self._kinds, note=note, **found))
        if len(told) == 1 or not any(leaf_names(each) for each in told):
            return told[0]
        return PerPhase(*told)


def of_phase(
    source: Trace | Counts, phase: str | None, node: np.ndarray | None = None
) -> tuple[Trace | Counts, np.ndarray | None]:
    """The part of a trace that is of one phase, and the nodes of the requests in it.

    Arguments:
        source: what was recorded.
        phase: "prefill" or "decode"; None: "decode" where there are such tokens, else all.
        node: [requests]; the node of each request of the whole; None: not known.

    Raises:
        InputError: an unknown phase, or nothing was recorded of it.
    """
    if phase is not None and phase not in PHASES:
        raise unknown("phase", phase, PHASES)
    number = PHASES.index(phase or "decode")
    if isinstance(source, Counts):
        if phase is not None and source.phase not in (None, number):
            raise InputError(f"phase: nothing was recorded of {phase}; leave it out")
        return source, node
    have = source.phase == number
    if not have.any():
        if phase is not None or not source.tokens:
            raise InputError(f"phase: the trace has no {phase or ''} tokens; record some")
        return source, node
    part = source.select(phase=number)
    if node is not None:
        node = np.asarray(node)[np.isin(source.requests, part.requests)]
    return part, node


class Both(NamedTuple):
    """Traffic of the same tokens by both kinds of kernels.

    Arguments:
        once: each token sent once to each node, and to each rank there; None where only counts
            are known.
        each: each token sent for each of its experts.
    """

    once: Traffic | None
    each: Traffic


def traffic_of(
    source: Trace | Counts,
    placement: Placement,
    node: np.ndarray | None = None,
    rule: Rule = Rule.LOCAL_FIRST,
) -> Both:
    """The traffic of a trace, by both kinds of kernels.

    Arguments:
        source: what was recorded; of more than `TOKENS` tokens, evenly spaced ones are taken for
            what is de-duplicated.
        placement: where the experts are, in the layers of the trace.
        node: [requests]; the node of each request; None: tokens come to all nodes alike.
        rule: how a token chooses among replicas.
    """
    nodes = placement.nodes
    counts = source.counts("request") if isinstance(source, Trace) else source.counts
    k = source.k or 1
    if node is None:
        spread = np.repeat(counts.sum(0, keepdims=True) / nodes, nodes, axis=0)
        each = tally_of_counts(spread, np.arange(nodes), placement, k=k, rule=rule).traffic
    else:
        each = tally_of_counts(counts, np.asarray(node), placement, k=k, rule=rule).traffic
    if not isinstance(source, Trace):
        return Both(None, each)
    replicas = placement.slots.shape[1] > placement.experts
    copies = nodes if node is None and replicas else 1
    step = -(-source.tokens * copies // TOKENS)
    chosen, owner = source.chosen[::step], source.groups("request")[1][::step]
    if node is not None:
        return Both(tally_of_tokens(chosen, owner, node, placement, rule=rule).traffic, each)
    origin = np.repeat(np.arange(copies), len(chosen))
    chosen = np.tile(chosen, (copies, 1, 1))
    once = tally_of_tokens(chosen, origin, np.arange(nodes), placement, rule=rule)
    return Both(_alike(once.traffic) if copies == 1 else once.traffic, each)


def _alike(traffic: Traffic) -> Traffic:
    """The same traffic with as many tokens from each node: all were measured from the first."""
    nodes = traffic.placement.nodes
    return Traffic(
        traffic.placement,
        traffic.tokens,
        np.repeat(traffic.to_nodes[:, :1] / nodes, nodes, axis=1),
        np.repeat(traffic.to_ranks[:, :1] / nodes, nodes, axis=1),
        traffic.slot_rows,
    )


def numbers(
    source: Trace | Counts,
    placement: Placement,
    node: np.ndarray | None,
    limit: tuple[int, int],
    k: int,
    tokens_per_request: float = 1.0,
    rule: Rule = Rule.LOCAL_FIRST,
) -> dict[str, np.ndarray | float]:
    """The fields of `Traced` for each layer: [layers] each.

    Arguments:
        source: what was recorded, of one phase.
        placement: where the experts are, in the layers of the trace.
        node: [requests]; the node of each request; None: tokens come to all nodes alike.
        limit: groups of neighbouring experts, and those that a token's are in; 1, 1: not limited.
        k: experts that a token chooses.
        tokens_per_request: tokens of one request in an iteration.
        rule: how a token chooses among replicas.
    """
    both = traffic_of(source, placement, node, rule)
    told = expected.travel(both.once or both.each, both.each, k, *limit)
    found: dict[str, np.ndarray | float] = {
        "rows": np.maximum(told.rows, 1.0),
        "remote": told.remote,
        "pair": np.maximum(told.pair, 1.0),
        "wire": np.maximum(told.wire, 1.0),
        "variation": expected.variation(both.each.slot_rows),
        "slots": placement.slots.shape[1] / placement.experts,
    }
    if isinstance(source, Trace):
        found |= {"far": told.far, "near": told.near}
        _, sizes = np.unique(source.request, return_counts=True)
        if len(sizes) > 1 and sizes.max() > 1:
            part = source
            if source.tokens > TOKENS // 2:
                kept = np.searchsorted(np.cumsum(sizes), TOKENS // 2) + 2
                part = source.select(requests=source.requests[:kept])
            found["dispersion"] = expected.dispersion(
                part, placement, tokens_per_request, rule=rule
            )
    return found
