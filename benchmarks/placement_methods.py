"""What `placement.py` compares: its traces, nulls, methods, and the figures of a placement."""

from typing import Any

import numpy as np
from synthetic_traces import LAYOUTS

from diffgenz import (
    Parallelism,
    Precision,
    Scenario,
    Workload,
    load_model,
    load_platform,
)
from diffgenz.models.blocks.moe import MoE
from diffgenz.routing import eplb, measures
from diffgenz.routing.baselines import capacity_greedy, linear, on_nodes
from diffgenz.routing.bounds import least
from diffgenz.routing.coactivation import gathered, pairs_of
from diffgenz.routing.copies import moved_for_replicas, replicated_where_used
from diffgenz.routing.grouping import (
    balanced_kmeans,
    equal_groups,
    fit_router,
    oracle,
    signatures,
)
from diffgenz.routing.layer_time import Demand, Roofline, demand
from diffgenz.routing.locality import Objective, assigned, localised
from diffgenz.routing.packing import packed_copies
from diffgenz.routing.parts import parts
from diffgenz.routing.place import place
from diffgenz.routing.placement import Placement
from diffgenz.routing.replicas import Rule
from diffgenz.routing.synthetic_files import load_synthetic
from diffgenz.routing.timing import ModelledTime
from diffgenz.routing.trace import DECODE, PREFILL, Counts, Trace
from diffgenz.routing.traffic import Tally, Traffic, tally_of_counts, tally_of_tokens

RANKS = 8
"""Expert-parallel ranks of a node."""

COLUMNS = ("bytes", "pair", "node", "rank", "padded time", "wire time", "decode", "prefill")
"""Bytes between nodes, the largest message, the busiest node and rank; s of the plain roofline with
256 tokens a rank, padded to the largest message or not; of fitted kernels, decode and prefill."""

PADDED = {True: Roofline(padded=True), False: Roofline(padded=False)}


def drawn(preset: str, seed: int) -> Trace:
    """Requests of a preset, as long as those that it was fitted to."""
    requests, some, _ = LAYOUTS[preset]
    model = load_synthetic(preset)
    return requests.draw(
        model.select(model.layers[some] if isinstance(some, slice) else some), seed
    )


def phases(trace: Trace) -> tuple[np.ndarray, np.ndarray, Trace]:
    """Counts of prompts and of answers by request, and the answers' tokens.

    Where only one phase was recorded, the first half of a request stands for its prompt.
    """
    early = trace.phase == PREFILL
    if early.all() or not early.any():
        order = np.argsort(trace.request, kind="stable")
        _, start, several = np.unique(trace.request[order], return_index=True, return_counts=True)
        place_in = np.empty(trace.tokens, int)
        place_in[order] = np.arange(trace.tokens) - np.repeat(start, several)
        half = np.repeat(several // 2, several)
        early = np.empty(trace.tokens, bool)
        early[order] = place_in[order] < half
    split = Trace(
        trace.experts,
        trace.layers,
        trace.chosen,
        trace.request,
        np.where(early, PREFILL, DECODE),
    )
    return split.counts(phase=PREFILL), split.counts(phase=DECODE), split.select(phase=DECODE)


class Kernels:
    """Seconds of a layer by the kernels fitted to H100, with the shapes of DeepSeek-V3's experts.

    Arguments:
        experts: routed experts.
        k: of which a token chooses so many.
        nodes: of 8 ranks each.
    """

    def __init__(self, experts: int, k: int, nodes: int):
        model = load_model("deepseek-ai/DeepSeek-V3")
        blocks = [
            each.replace(
                block=each.block.replace(
                    routed=float(experts), used=float(k), groups=1, groups_used=1
                )
            )
            if isinstance(each.block, MoE)
            else each
            for each in model.blocks
        ]
        ranks = RANKS * nodes
        plan = Parallelism(1, expert=ranks, attention_data=ranks)
        fp8 = Precision(weights="fp8_block", activations="fp8")
        self._k = k
        self._times: list[ModelledTime] = []
        for phase, batch in (("tpot", 128), ("ttft", 16)):  # 128 and 16 x 256 tokens a rank
            case = Scenario(
                model.replace(blocks=tuple(blocks)),
                load_platform("h100_sxm", ranks),
                Workload(batch * ranks, 256, 20),
                plan,
                fp8,
            )
            self._times.append(ModelledTime(case, phase))

    def __call__(self, traffic: Traffic) -> list[float]:
        """Means over layers of a decode and a prefill step."""
        ranks = traffic.placement.ranks
        return [
            float(self._seconds(time, demand(traffic, time.tokens / ranks)).mean())
            for time in self._times
        ]

    def decode(self, asked: Demand) -> np.ndarray:
        """[layers]; of a decode step: what `place` asks."""
        return self._seconds(self._times[0], asked)

    def _seconds(self, time: ModelledTime, asked: Demand) -> np.ndarray:
        tokens = asked.rows.sum(1) / self._k
        return time(
            rows=asked.rows.max(1),
            active=asked.active.max(1),
            far=measures.away(asked.to_nodes).sum((1, 2)) / tokens,
            near=asked.to_ranks.sum((1, 2)) / tokens,
            pair=measures.pair_imbalance(asked.to_nodes),
            wire=measures.wire_imbalance(asked.to_nodes),
        )


def figures(tally: Tally, kernels: Kernels | None = None) -> np.ndarray:
    """The columns, as absolute numbers."""
    traffic = tally.traffic
    return np.array(
        [
            traffic.far.mean(),
            traffic.padded.mean(),
            traffic.node_straggler.mean(),
            traffic.rank_straggler.mean(),
            *(model(demand(traffic, 256.0)).mean() for model in PADDED.values()),
            *(kernels(traffic) if kernels else (np.nan, np.nan)),
        ]
    )


def replicated(counts: np.ndarray, node_of: np.ndarray, slots: int) -> Placement:
    """Our copies, moved once."""
    per_node = slots // counts.shape[1]
    copies = replicated_where_used(counts, node_of, RANKS, per_node, 0.1)
    moved = moved_for_replicas(counts, node_of, copies, Objective())
    return packed_copies(replicated_where_used(counts, moved, RANKS, per_node, 0.1), counts, RANKS)


def structure(
    prefill: np.ndarray,
    decode: np.ndarray,
    nodes: int,
    k: int,
    seed: int,
    extra: tuple[int, ...] = (),
    split: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[tuple[str, int], np.ndarray]:
    """Figures by method and slots, relative to linear: groups, without de-duplication.

    "chosen" is the placement that `place` chooses by one of the three times, of those for groups of
    requests and for requests spread at random.
    """
    random = np.random.default_rng(seed)
    requests, layers, experts = decode.shape
    order = random.permutation(requests)
    train, test = split or (order[: requests // 2], order[requests // 2 :])
    past, prompts, coming = decode[train], prefill[test], decode[test]
    lengths = _told(prefill, decode)
    told = lengths[test]
    group = balanced_kmeans(signatures(past), nodes, past.sum((1, 2)), seed=seed)
    counts = np.stack([past[group == node].sum(0) for node in range(nodes)], 1)
    load = counts.sum(1)
    spread = equal_groups(random.random((len(test), nodes)), told)
    kernels = Kernels(experts, k, nodes) if k == 1 else None

    def measured(placement: Placement, node: np.ndarray, rule: Rule = Rule.LOCAL_FIRST) -> Any:
        return figures(tally_of_counts(coming, node, placement, k=k, rule=rule), kernels)

    def routed(placement: Placement) -> np.ndarray:
        return fit_router(prefill[train], past, placement).assigned(prompts, told)

    found = {("linear", experts): measured(linear(layers, experts, nodes, RANKS, experts), spread)}
    node_of = localised(counts)
    ours = on_nodes(node_of, load, nodes, RANKS)
    for name, placement in (
        ("paper, equal groups", capacity_greedy(counts, RANKS)),
        ("assignment alone", on_nodes(assigned(parts(counts)), load, nodes, RANKS)),
        ("ours", ours),
    ):
        found[name, experts] = measured(placement, routed(placement))
    by_oracle = oracle(coming, ours)
    found["ours, decode known", experts] = measured(ours, by_oracle)
    router = fit_router(prefill[train], past, ours)
    found["ours, online", experts] = measured(ours, router.online(prompts))
    found["balanced", experts] = measured(eplb.over_nodes(load, nodes, RANKS, experts), spread)
    bound = np.full(len(COLUMNS), np.nan)
    grouped = np.stack([coming[by_oracle == node].sum(0) for node in range(nodes)], 1)
    bound[0] = k * least(grouped).inter.mean()
    found["bound of these groups", experts] = bound
    source = Counts(past, tuple(map(str, train)), "request", tuple(range(layers)), k=k)
    for more in (0, *extra) if extra else ():
        slots = experts + more * nodes
        if more:
            copies = eplb.over_nodes(load, nodes, RANKS, slots)
            for rule in Rule:
                found[f"balanced, {rule.value}", slots] = measured(copies, spread, rule)
            placement = replicated(counts, node_of, slots)
            found["ours", slots] = measured(placement, routed(placement))
        models: dict[str, tuple[Any, float]] = {
            "padded": (PADDED[True], 256.0),
            "wire": (PADDED[False], 256.0),
        }
        if kernels:
            models["decode"] = (kernels.decode, 128.0)
        for name, (model, tokens) in models.items():
            best = place(
                source, nodes, RANKS, slots, node=group, layer_time=model, tokens_per_rank=tokens
            )
            at = routed(best.placement) if best.grouped else spread
            found[f"chosen, {name}", slots] = measured(best.placement, at)
    base = found["linear", experts]
    return {key: value / base for key, value in found.items()}


def _told(prefill: np.ndarray, decode: np.ndarray) -> np.ndarray:
    """What is known of lengths before decoding: half a prompt where that stands for a prompt."""
    before, after = prefill.sum((1, 2)), decode.sum((1, 2))
    return before if abs(after.sum() / before.sum() - 1) < 0.1 else np.ones(len(before))


def coactivation(trace: Trace, nodes: int, seed: int) -> dict[tuple[str, int], np.ndarray]:
    """Figures by method, relative to linear: de-duplicated, requests spread at random."""
    train, test = trace.halves(seed)
    load = train.counts("all")[0]
    layers, experts = load.shape
    owner = test.groups("request")[1]
    node = np.random.default_rng(seed).permutation(np.arange(owner.max() + 1) % nodes)
    node_of = gathered(
        pairs_of(train.chosen, experts, seed),
        np.repeat(load[:, None] / nodes, nodes, 1),
        starts=5,
    )
    placements = {
        "linear": linear(layers, experts, nodes, RANKS, experts),
        "balanced": eplb.over_nodes(load, nodes, RANKS, experts),
        "ours": on_nodes(node_of, load, nodes, RANKS),
    }
    kernels = Kernels(experts, trace.k, nodes)
    found = {
        (name, experts): figures(tally_of_tokens(test.chosen, owner, node, placement), kernels)
        for name, placement in placements.items()
    }
    base = found["linear", experts]
    return {key: value / base for key, value in found.items()}


def shuffled(trace: Trace, seed: int) -> Trace:
    """Tokens dealt out to requests anew, within each phase."""
    random = np.random.default_rng(seed)
    request = trace.request.copy()
    for phase in (PREFILL, DECODE):
        mask = np.flatnonzero(trace.phase == phase)
        request[mask] = request[random.permutation(mask)]
    return Trace(trace.experts, trace.layers, trace.chosen, request, trace.phase)


def independent(trace: Trace, seed: int) -> Trace:
    """Choices drawn without replacement by the popularity of experts alone."""
    random = np.random.default_rng(seed)
    logits = np.log(trace.counts("all")[0] + 0.5)
    tokens = min(trace.tokens, 20_000)
    chosen = np.stack(
        [
            np.argpartition(
                -(of_layer + random.gumbel(size=(tokens, trace.experts))), trace.k - 1, axis=1
            )[:, : trace.k]
            for of_layer in logits
        ],
        axis=1,
    )
    return Trace(trace.experts, trace.layers, chosen, trace.request[:tokens])


def limited(trace: Trace, nodes: int, groups: int, seed: int) -> dict[tuple[str, int], np.ndarray]:
    """Figures of a group-limited model by method, relative to linear: de-duplicated."""
    train, test = trace.halves(seed)
    load = train.counts("all")[0]
    layers, experts = load.shape
    size = (nodes, RANKS, experts)
    owner = test.groups("request")[1]
    node = np.random.default_rng(seed).permutation(np.arange(owner.max() + 1) % nodes)
    placements = {
        "linear": linear(layers, *size[2:], *size),
        "balanced, global": eplb.everywhere(load, *size),
        "balanced, whole groups": eplb.hierarchical(load, *size, groups),
        "chosen": place(train, nodes, RANKS, groups=groups, deduplicated=True).placement,
    }
    found = {
        (name, experts): figures(tally_of_tokens(test.chosen, owner, node, placement))
        for name, placement in placements.items()
    }
    base = found["linear", experts]
    far = {("far copies of linear", experts): np.full(len(COLUMNS), np.nan)}
    far["far copies of linear", experts][0] = base[0]
    return {key: value / base for key, value in found.items()} | far
