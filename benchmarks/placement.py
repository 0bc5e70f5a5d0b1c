"""What placement and grouping gain on requests that they were not made for.

    python benchmarks/placement.py [--trace FILE] [--quick] [--json OUT]

Placements and groups are made from half of the requests and measured on the other half, for several
halves. Three gains are told apart, each with the null under which it has to vanish: request
structure (grouping; tokens shuffled over requests), co-activation (kernels that send a token to a
node once; choices drawn independently) and skew (replicas). Without --trace, requests are drawn
from the fitted presets of Llama-4-Maverick and DeepSeek-V2-Lite.

Everything is relative to linear placement with requests spread at random. Times are of the plain
roofline, with 256 tokens a rank: padded to the largest message, and not.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
from report import Report, parser_of

from diffgenz.routing import eplb
from diffgenz.routing.baselines import capacity_greedy, linear, on_nodes
from diffgenz.routing.bounds import least, optimum
from diffgenz.routing.coactivation import gathered, pairs_of
from diffgenz.routing.copies import moved_for_replicas, replicated_where_used
from diffgenz.routing.grouping import balanced_kmeans, fit_router, oracle, signatures
from diffgenz.routing.layer_time import Roofline, demand
from diffgenz.routing.locality import Objective, localised, parts, polished
from diffgenz.routing.packing import packed_copies
from diffgenz.routing.place import place
from diffgenz.routing.placement import Placement
from diffgenz.routing.replicas import Rule
from diffgenz.routing.source import load_trace
from diffgenz.routing.synthetic import synthesize
from diffgenz.routing.synthetic_files import load_synthetic
from diffgenz.routing.trace import DECODE, PREFILL, Counts, Trace
from diffgenz.routing.traffic import Tally, tally_of_counts, tally_of_tokens
from diffgenz.ui.tables import table

RANKS = 8
"""Expert-parallel ranks of a node."""

COLUMNS = ("bytes", "pair", "node", "rank", "padded time", "wire time")


def drawn(preset: str, seed: int) -> Trace:
    """Requests of a preset, with prompts and answers as long as those that it was fitted to."""
    random = np.random.default_rng(seed)
    model = load_synthetic(preset)
    prompts = random.geometric(1 / 15, size=387)
    answers = np.maximum(8, random.normal(126, 40, size=387)).astype(int)
    return synthesize(model, 387, prompts, answers, seed=seed)


def phases(trace: Trace) -> tuple[np.ndarray, np.ndarray, Trace]:
    """Counts of prompts and of answers by request, and the answers' tokens.

    Where only one phase was recorded, the first half of a request stands for its prompt.
    """
    early = trace.phase == PREFILL
    if early.all() or not early.any():
        order = np.argsort(trace.request, kind="stable")
        ids, start, several = np.unique(trace.request[order], return_index=True, return_counts=True)
        place_in = np.empty(trace.tokens, int)
        place_in[order] = np.arange(trace.tokens) - np.repeat(start, several)
        half = np.repeat(several // 2, several)
        early = np.empty(trace.tokens, bool)
        early[order] = place_in[order] < half
        del ids
    split = Trace(
        trace.experts,
        trace.layers,
        trace.chosen,
        trace.request,
        np.where(early, PREFILL, DECODE),
    )
    return split.counts(phase=PREFILL), split.counts(phase=DECODE), split.select(phase=DECODE)


def figures(tally: Tally) -> np.ndarray:
    """The columns, as absolute numbers."""
    traffic = tally.traffic
    times = [Roofline(padded=padded)(demand(traffic, 256.0)).mean() for padded in (True, False)]
    return np.array(
        [
            traffic.far.mean(),
            traffic.padded.mean(),
            traffic.node_straggler.mean(),
            traffic.rank_straggler.mean(),
            *times,
        ]
    )


def replicated(counts: np.ndarray, node_of: np.ndarray, slots: int) -> Placement:
    """Our copies, moved once."""
    per_node = slots // counts.shape[1]
    copies = replicated_where_used(counts, node_of, RANKS, per_node, 0.3)
    moved = moved_for_replicas(counts, node_of, copies, Objective(0.8, 0.5))
    return packed_copies(replicated_where_used(counts, moved, RANKS, per_node, 0.3), counts, RANKS)


def structure(
    prefill: np.ndarray, decode: np.ndarray, nodes: int, k: int, seed: int, extra: tuple[int, ...]
) -> dict[tuple[str, int], np.ndarray]:
    """Figures by method and slots, relative to linear: groups, without de-duplication."""
    random = np.random.default_rng(seed)
    requests, layers, experts = decode.shape
    order = random.permutation(requests)
    train, test = order[: requests // 2], order[requests // 2 :]
    group = balanced_kmeans(signatures(decode[train]), nodes, seed=seed)
    counts = np.stack([decode[train][group == node].sum(0) for node in range(nodes)], 1)
    load = counts.sum(1)
    spread = random.permutation(np.arange(len(test)) % nodes)
    plain = linear(layers, experts, nodes, RANKS, experts)

    def measured(placement: Placement, node: np.ndarray, rule: Rule = Rule.LOCAL_FIRST) -> Any:
        return figures(tally_of_counts(decode[test], node, placement, k=k, rule=rule))

    found = {("linear", experts): measured(plain, spread)}
    node_of = localised(counts)
    ours = on_nodes(node_of, load, nodes, RANKS)
    paper = capacity_greedy(counts, RANKS)
    for name, placement in (("paper, equal groups", paper), ("ours", ours)):
        router = fit_router(prefill[train], decode[train], placement)
        found[name, experts] = measured(placement, router.assigned(prefill[test]))
    router = fit_router(prefill[train], decode[train], ours)
    found["ours, online", experts] = measured(ours, router.online(prefill[test]))
    found["ours, decode known", experts] = measured(ours, oracle(decode[test], ours))
    found["balanced", experts] = measured(eplb.over_nodes(load, nodes, RANKS, experts), spread)
    bound = np.full(len(COLUMNS), np.nan)
    by_oracle = oracle(decode[test], ours)
    grouped = np.stack([decode[test][by_oracle == node].sum(0) for node in range(nodes)], 1)
    bound[0] = k * least(grouped).inter.mean()
    found["bound of these groups", experts] = bound
    for more in extra:
        slots = experts + more * nodes
        copies = eplb.over_nodes(load, nodes, RANKS, slots)
        for rule in Rule:
            found[f"balanced, {rule.value}", slots] = measured(copies, spread, rule)
        placement = replicated(counts, node_of, slots)
        router = fit_router(prefill[train], decode[train], placement)
        found["ours", slots] = measured(placement, router.assigned(prefill[test]))
    base = found["linear", experts]
    return {key: value / base for key, value in found.items()}


def coactivation(trace: Trace, nodes: int, seed: int) -> dict[tuple[str, int], np.ndarray]:
    """Figures by method, relative to linear: de-duplicated, requests spread at random."""
    train, test = trace.halves(seed)
    load = train.counts("all")[0]
    layers, experts = load.shape
    owner = test.groups("request")[1]
    node = np.random.default_rng(seed).permutation(np.arange(owner.max() + 1) % nodes)
    node_of = gathered(
        pairs_of(train.chosen, experts, seed), np.repeat(load[:, None] / nodes, nodes, 1)
    )
    placements = {
        "linear": linear(layers, experts, nodes, RANKS, experts),
        "balanced": eplb.over_nodes(load, nodes, RANKS, experts),
        "ours": on_nodes(node_of, load, nodes, RANKS),
    }
    found = {
        (name, experts): figures(tally_of_tokens(test.chosen, owner, node, placement))
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


def add(
    report: Report, data: str, gain: str, nodes: int, runs: list[dict[tuple[str, int], np.ndarray]]
) -> dict[tuple[str, int], np.ndarray]:
    """Put the rows of several seeds into the report and return their means."""
    means = {}
    for method, slots in runs[0]:
        values = np.array([run[method, slots] for run in runs])
        means[method, slots] = values.mean(0)
        for_row = dict(zip(COLUMNS, values.mean(0).tolist(), strict=True))
        spread = {
            f"{name} sd": sd for name, sd in zip(COLUMNS, values.std(0).tolist(), strict=True)
        }
        row = {"data": data, "gain": gain, "nodes": nodes, "method": method, "slots": slots}
        known = {name: value for name, value in (for_row | spread).items() if value == value}
        report.rows.append(row | known)
    return means


def show(report: Report) -> None:
    """Print the rows."""
    heads = ("data", "gain", "nodes", "slots", "method", *COLUMNS)
    cells = []
    for row in report.rows:
        shown = [f"{row[name]:.3f}" if name in row else "" for name in COLUMNS]
        shown[0] += f" +- {row['bytes sd']:.3f}"
        cells.append(
            (row["data"], row["gain"], str(row["nodes"]), str(row["slots"]), row["method"], *shown)
        )
    print(table(heads, cells, "llrrl" + "r" * len(COLUMNS)))


def speed(report: Report) -> None:
    """Seconds of a placement of 58 layers of 256 experts on 8 nodes."""
    random = np.random.default_rng(0)
    counts = random.poisson(20 * random.lognormal(size=(64, 58, 256))).astype(float)
    source = Counts(counts, tuple(map(str, range(64))), "request", tuple(range(58)), k=8)
    for slots in (256, 320):
        start, used = time.perf_counter(), time.process_time()
        place(source, 8, RANKS, slots, node=np.arange(64) % 8)
        wall, cores = time.perf_counter() - start, time.process_time() - used
        print(f"256 experts x 58 layers, {slots} slots: {wall:.1f} s, {cores:.1f} s of cores")
        report.check(f"CPU time of placing 58 layers, {slots} slots", cores, "s", 5.0)


def partition(report: Report, trace: Trace, nodes: int) -> None:
    """The cut of our parts over that of METIS, and the objective over a proved optimum."""
    together = pairs_of(trace.chosen, trace.experts)[:4]
    ours = gathered(together, np.ones((len(together), nodes, trace.experts)), load=0.0, starts=10)
    try:
        import pymetis
    except ImportError:
        print("pymetis is not installed: its cut is not compared")
        return
    ratios = []
    for matrix, node_of in zip(together, ours, strict=True):
        cuts = []
        for seed in range(10):
            near = [np.flatnonzero(row) for row in matrix]
            start = np.concatenate([[0], np.cumsum([len(each) for each in near])])
            flat = np.concatenate(near)
            weights = matrix[np.repeat(np.arange(len(matrix)), np.diff(start)), flat]
            _, part = pymetis.part_graph(
                nodes,
                pymetis.CSRAdjacency(start.tolist(), flat.tolist()),
                eweights=weights.astype(int).tolist(),
                options=pymetis.Options(seed=seed),
            )
            cuts.append(_cut(matrix, np.array(part)))
        ratios.append(_cut(matrix, node_of) / min(cuts))
    report.check(f"cut over METIS', {nodes} nodes", float(np.mean(ratios)), "", 1.01)


def _cut(matrix: np.ndarray, node_of: np.ndarray) -> float:
    return float(matrix[node_of[:, None] != node_of].sum() / 2)


def proved(report: Report, counts: np.ndarray) -> None:
    """Our objective over the proved optimum of layers, on four nodes."""
    over = []
    for layer in range(2):
        one = counts[layer : layer + 1]
        objective = Objective(0.3, 0.3)
        best = optimum(one[0], objective, 10.0)
        ours = polished(one, localised(one, objective), objective, kicks=2)
        value = Objective(0.3, 0.3, None).value(parts(one), ours)[0]
        over.append(value / best.bound)
    report.check("objective over the proved bound, 4 nodes", float(np.mean(over)), "", 1.01)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--trace", metavar="FILE", help="a trace to measure instead of presets")
    asked = parser.parse_args()
    report = Report()
    seeds = range(1 if asked.quick else 3)
    counts_of_nodes = (4, 8) if asked.quick else (2, 4, 8, 16)
    if asked.trace:
        name = Path(asked.trace).stem
        traces = {name: load_trace(asked.trace)}
    else:
        traces = {name: drawn(name, 0) for name in ("llama-4-maverick", "deepseek-v2-lite")}
    for name, trace in traces.items():
        prefill, decode, answers = phases(trace)
        mixed = phases(shuffled(trace, 1))
        for nodes in counts_of_nodes:
            if trace.experts % nodes or trace.experts < nodes * RANKS:
                print(f"{name}: {trace.experts} experts do not fit {nodes} nodes of {RANKS} ranks")
                continue
            extra = (1, RANKS)
            runs = [structure(prefill, decode, nodes, trace.k, seed, extra) for seed in seeds]
            means = add(report, name, "structure, skew", nodes, runs)
            null = [structure(*mixed[:2], nodes, trace.k, seed, ()) for seed in seeds]
            gone = add(report, name, "null: shuffled", nodes, null)
            most = {2: 0.70, 4: 0.74, 8: 0.85, 16: 0.91}
            if trace.k == 1:
                ours, even = means["ours", trace.experts], means["balanced", trace.experts]
                report.check(f"{name}, {nodes} nodes: bytes", ours[0], "", most[nodes])
                pairs = {2: 0.7, 4: 0.9, 8: 1.05, 16: 1.3}
                report.check(f"{name}, {nodes} nodes: largest pair", ours[1], "", pairs[nodes])
                report.check(f"{name}, {nodes} nodes: node / EPLB", ours[2] / even[2], "", 1.03)
            left = abs(gone["ours", trace.experts][0] - 1)
            report.check(f"{name}, {nodes} nodes: gain left when shuffled", left, "", 0.01)
            if trace.k > 1:
                runs = [coactivation(answers, nodes, seed) for seed in seeds]
                means = add(report, name, "co-activation", nodes, runs)
                alone = independent(answers, 2)
                gone = add(
                    report,
                    name,
                    "null: independent",
                    nodes,
                    [coactivation(alone, nodes, seed) for seed in seeds],
                )
                ours = means["ours", trace.experts]
                if nodes in (4, 8):
                    report.check(f"{name}, {nodes} nodes: de-duplicated", ours[0], "", 0.8)
                    report.check(f"{name}, {nodes} nodes: its largest pair", ours[1], "", 0.85)
                null_gain = gone["ours", trace.experts][0] / gone["balanced", trace.experts][0]
                report.check(
                    f"{name}, {nodes} nodes: gain left when independent",
                    abs(null_gain - 1),
                    "",
                    0.01,
                )
        if trace.k > 1:
            partition(report, trace, 4)
        else:
            group = balanced_kmeans(signatures(decode), 4)
            proved(report, np.stack([decode[group == node].sum(0) for node in range(4)], 1))
    show(report)
    speed(report)
    report.finish(asked.json)


if __name__ == "__main__":
    main()
