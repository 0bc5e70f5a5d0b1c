"""What placement and grouping gain on requests that they were not made for.

    python benchmarks/placement.py [--trace FILE] [--quick] [--json OUT]

Placements and groups are made from half of the requests and measured on the other half, for several
halves. Three gains are told apart, each with the null under which it has to vanish: request
structure (grouping; tokens shuffled over requests), co-activation (kernels that send a token to a
node once; choices drawn independently) and skew (replicas). Further rows: requests of a domain that
was not seen, group-limited routing, and counts by domain. Without --trace, requests are drawn from
presets.

Everything is relative to linear placement with requests spread at random. Times of a layer are of
the plain roofline with 256 tokens a rank, padded to the largest message or not, and of the kernels
fitted to H100 with DeepSeek-V3's shapes: a decode step of 128 tokens a rank, a prefill of 4,096.
"""

import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from placement_methods import (
    COLUMNS,
    RANKS,
    coactivation,
    drawn,
    independent,
    limited,
    phases,
    shuffled,
    structure,
)
from report import Report, parser_of
from synthetic_traces import by_domain

from diffgenz.routing.bounds import optimum
from diffgenz.routing.coactivation import gathered, pairs_of
from diffgenz.routing.grouping import balanced_kmeans, signatures
from diffgenz.routing.locality import Objective, localised, polished
from diffgenz.routing.parts import parts
from diffgenz.routing.place import place
from diffgenz.routing.source import load_trace
from diffgenz.routing.trace import Counts, Trace
from diffgenz.ui.tables import table

Means = dict[tuple[str, int], np.ndarray]


def add(report: Report, data: str, gain: str, nodes: int, runs: list[Means]) -> Means:
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
    for row in (row for row in report.rows if "method" in row):
        shown = [f"{row[name]:.3f}" if name in row else "" for name in COLUMNS]
        shown[0] += f" +- {row['bytes sd']:.3f}"
        cells.append(
            (row["data"], row["gain"], str(row["nodes"]), str(row["slots"]), row["method"], *shown)
        )
    print(table(heads, cells, "llrrl" + "r" * len(COLUMNS)))


def speed(report: Report) -> None:
    """CPU seconds of placements of 58 layers of 256 experts on 8 nodes."""
    random = np.random.default_rng(0)
    counts = random.poisson(20 * random.lognormal(size=(64, 58, 256))).astype(float)
    source = Counts(counts, tuple(map(str, range(64))), "request", tuple(range(58)), k=8)
    topics = random.integers(32, size=(4096, 1, 1)) + 0.1 * random.normal(size=(4096, 1, 1))
    chosen = np.empty((4096, 58, 8), np.int16)
    for layer in range(58):
        near = -np.abs(topics[:, 0] - random.permutation(256) % 32) + random.gumbel(
            size=(4096, 256)
        )
        chosen[:, layer] = np.argpartition(-near, 7, axis=1)[:, :8]
    together = pairs_of(chosen, 256)

    def done(name: str, begun: tuple[float, float]) -> None:
        wall, cores = time.perf_counter() - begun[0], time.process_time() - begun[1]
        report.rows.append({"speed": name, "wall s": wall, "cpu s": cores})
        report.check(f"CPU time, 58 layers of 256 experts: {name}", cores, "s", 5.0)

    for slots in (256, 320):
        begun = time.perf_counter(), time.process_time()
        place(source, 8, RANKS, slots, node=np.arange(64) % 8)
        done(f"place, {slots} slots", begun)
    for nodes in (4, 8, 16):
        begun = time.perf_counter(), time.process_time()
        gathered(together, np.repeat(counts.sum(0)[:, None] / nodes, nodes, 1), starts=5)
        done(f"co-activation, 5 starts, {nodes} nodes", begun)


def partition(report: Report, name: str, trace: Trace, nodes: int) -> None:
    """The cut of our parts, which are equal, over that of METIS, whose parts are not quite."""
    together = pairs_of(trace.chosen, trace.experts)[:6]
    ours = gathered(together, np.ones((len(together), nodes, trace.experts)), load=0.0, starts=5)
    try:
        import pymetis
    except ImportError:
        print("pymetis is not installed: its cut is not compared")
        return
    ratios = []
    for matrix, node_of in zip(together, ours, strict=True):
        near = [np.flatnonzero(row) for row in matrix]
        start = np.concatenate([[0], np.cumsum([len(each) for each in near])])
        flat = np.concatenate(near)
        weights = matrix[np.repeat(np.arange(len(matrix)), np.diff(start)), flat]
        graph = pymetis.CSRAdjacency(start.tolist(), flat.tolist())
        cuts = [
            _cut(
                matrix,
                np.array(
                    pymetis.part_graph(
                        nodes,
                        graph,
                        eweights=weights.astype(int).tolist(),
                        options=pymetis.Options(seed=seed),
                    )[1]
                ),
            )
            for seed in range(10)
        ]
        ratios.append(_cut(matrix, node_of) / min(cuts))
    report.check(f"{name}: cut over METIS', {nodes} nodes", float(np.mean(ratios)), "", 1.01)


def _cut(matrix: np.ndarray, node_of: np.ndarray) -> float:
    return float(matrix[node_of[:, None] != node_of].sum() / 2)


def proved(report: Report, decode: np.ndarray) -> None:
    """Our objective over the proved optimum: some experts of some layers, and whole layers."""
    random, objective, over = np.random.default_rng(0), Objective(), []

    def ratio(counts: np.ndarray, kicks: int, seconds: float) -> float:
        one = counts[None]
        ours = polished(one, localised(one, objective), objective, kicks=kicks)
        exact = Objective(objective.pair, objective.load, None)
        return exact.value(parts(one), ours)[0] / optimum(counts, objective, seconds).bound

    for nodes in (2, 3, 4):
        group = balanced_kmeans(signatures(decode), nodes)
        counts = np.stack([decode[group == node].sum(0) for node in range(nodes)], 1)
        for experts in (12, 24, 30 if nodes == 3 else 32):
            for layer in range(0, counts.shape[0], 6):
                some = random.choice(counts.shape[2], experts, replace=False)
                over.append(ratio(counts[layer][:, some], 8, 60.0))
    equal = float(np.mean(np.array(over) < 1 + 1e-5))
    report.check(
        f"up to 32 experts: equal to the optimum, of {len(over)}", equal, "", 0.8, at_least=True
    )
    report.check("up to 32 experts: over the optimum, worst", max(over), "", 1.01)
    whole = float(np.mean([ratio(counts[layer], 2, 10.0) for layer in range(2)]))
    report.check(f"{counts.shape[2]} experts, 4 nodes: over the optimum", whole, "", 1.01)


MOST = {2: (0.70, 0.7), 4: (0.74, 0.9), 8: (0.85, 1.05), 16: (0.91, 1.3)}
"""Bytes and the largest message that are asked for, by nodes."""


def check_structure(report: Report, name: str, nodes: int, means: Means, experts: int) -> None:
    """Figures of a model whose tokens choose one expert."""
    ours, even = means["ours", experts], means["balanced", experts]
    for column, most in enumerate(MOST[nodes]):
        report.check(f"{name}, {nodes} nodes: {COLUMNS[column]}", ours[column], "", most)
    report.check(f"{name}, {nodes} nodes: node / EPLB", ours[2] / even[2], "", 1.03)
    few, many = experts + nodes, experts + nodes * RANKS
    if nodes == 8 and ("ours", few) in means:
        for slots, most in ((few, (0.7, 0.65)), (many, (0.5, 0.45))):
            ours, even = means["ours", slots], means["balanced, local-first", slots]
            for column in (0, 1):
                text = f"{name}, {slots} slots: {COLUMNS[column]}"
                report.check(text, ours[column], "", most[column])
            report.check(f"{name}, {slots} slots: bytes / EPLB", ours[0] / even[0], "", 0.85)


def check_chosen(report: Report, name: str, nodes: int, means: Means) -> None:
    """None that `place` chose is slower than linear and the balancer, but for held-out noise."""
    for (method, slots), values in means.items():
        kind = method.removeprefix("chosen, ")
        if kind != method:
            column = COLUMNS.index(kind if kind in COLUMNS else f"{kind} time")
            least = min(
                other[column]
                for (rival, count), other in means.items()
                if rival == "linear" or (rival.startswith("balanced") and count == slots)
            )
            text = f"{name}, {nodes} nodes, {slots} slots: chosen for {COLUMNS[column]} / the best"
            report.check(text, values[column] / least, "", 1.01)


def measure(report: Report, name: str, trace: Trace, nodes: int, seeds: range, every: bool) -> None:
    """Rows and checks of one trace."""
    prefill, decode, answers = phases(trace)
    extra = (1, RANKS) if every or nodes == 8 else ()
    runs = [structure(prefill, decode, nodes, trace.k, seed, extra) for seed in seeds]
    means = add(report, name, "structure, skew", nodes, runs)
    if trace.k == 1:
        check_structure(report, name, nodes, means, trace.experts)
    check_chosen(report, name, nodes, means)
    mixed = phases(shuffled(trace, 1))[:2]
    null = [structure(*mixed, nodes, trace.k, seed) for seed in seeds]
    gone = add(report, name, "null: shuffled", nodes, null)
    left = abs(gone["ours", trace.experts][0] - 1)
    report.check(f"{name}, {nodes} nodes: gain left when shuffled", left, "", 0.01)
    if len(trace.domains) > 1 and nodes == 8:
        shifted = []
        of = np.array([trace.domain[trace.request == each][0] for each in np.unique(trace.request)])
        for domain in range(len(trace.domains)):
            split = np.flatnonzero(of != domain), np.flatnonzero(of == domain)
            shifted.append(structure(prefill, decode, nodes, trace.k, 0, (), split))
        add(report, name, "domain not seen", nodes, shifted)
    if trace.k > 1 and every:
        means = add(
            report, name, "co-activation", nodes, [coactivation(answers, nodes, s) for s in seeds]
        )
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
            report.check(f"{name}, {nodes} nodes: its padded time", ours[4], "", 0.91)
            report.check(f"{name}, {nodes} nodes: its prefill", ours[7], "", 0.91)
        left = abs(gone["ours", trace.experts][0] / gone["balanced", trace.experts][0] - 1)
        report.check(f"{name}, {nodes} nodes: gain left when independent", left, "", 0.01)


def controls(report: Report) -> None:
    """Group-limited routing, and models by counts of domains."""
    means = add(
        report,
        "deepseek-v3",
        "group-limited",
        8,
        [limited(drawn("deepseek-v3", seed), 8, 8, seed) for seed in range(2)],
    )
    far = means["far copies of linear", 256][0]
    report.check("deepseek-v3, 8 nodes: far copies off 3.5", abs(far - 3.5), "", 0.1)
    report.check("deepseek-v3, 8 nodes: chosen, bytes", means["chosen", 256][0], "", 1.0)
    most = means["balanced, global", 256][0]
    report.check("deepseek-v3, 8 nodes: global balance, bytes", most, "", 1.2, at_least=True)
    for preset in ("mixtral", "olmoe"):
        gains = [1 - by_domain(drawn(preset, seed), 4) for seed in range(3)]
        report.rows.append({"domains as groups": preset, "nodes": 4, "fewer bytes": gains})
        if preset == "mixtral":
            report.check("mixtral by domain, 4 nodes: gain", float(np.mean(gains)), "", 0.05)
        else:
            report.check(
                "olmoe by domain, 4 nodes: gain", float(np.mean(gains)), "", 0.2, at_least=True
            )


def job(name: str, trace: Trace | None, nodes: int, seeds: range) -> Report:
    """What one process measures: a trace on so many nodes, or what needs none."""
    report = Report()
    if trace is None:
        controls(report)
        return report
    fitted = name not in ("qwen3-235b", AGAIN)
    if trace.experts % nodes or trace.experts < nodes * RANKS:
        print(f"{name}: {trace.experts} experts do not fit {nodes} nodes of {RANKS} ranks")
    else:
        measure(report, name, trace, nodes, seeds, fitted)
    if trace.k > 1:
        partition(report, name, trace, nodes)
    elif fitted and nodes == 4:
        proved(report, phases(trace)[1])
    return report


AGAIN = "llama-4-maverick, again"
"""A second draw: what is found on the first is no accident of it."""

NODES = {"llama-4-maverick": (8, 4, 16, 2), "deepseek-v2-lite": (8, 4, 2), "qwen3-235b": (8, 4)}


def main() -> None:
    """Draw or load, measure, and report."""
    parser = parser_of(__doc__)
    parser.add_argument("--trace", metavar="FILE", help="a trace to measure instead of presets")
    asked = parser.parse_args()
    report = Report()
    seeds = range(1 if asked.quick else 3)
    jobs: list[tuple[str, Trace | None, int, range]] = []
    if asked.trace:
        trace = load_trace(asked.trace)
        nodes = (8,) if asked.quick else (2, 4, 8, 16)
        jobs += [(Path(asked.trace).stem, trace, each, seeds) for each in nodes]
    else:
        for name, several in NODES.items():
            trace = drawn(name, 0)
            jobs += [(name, trace, nodes, seeds) for nodes in several[: 1 if asked.quick else None]]
        jobs.append((AGAIN, drawn("llama-4-maverick", 1), 8, seeds))
        jobs.append(("controls", None, 0, seeds))
    if asked.quick:
        jobs = [each for each in jobs if each[0] not in ("qwen3-235b", AGAIN)]
    begun = time.perf_counter()
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # of each process that is started
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        running = [pool.submit(job, *each) for each in jobs]
        for (name, _, nodes, _), each in zip(jobs, running, strict=True):
            report.rows += each.result().rows
            report.checks += each.result().checks
            print(f"{time.perf_counter() - begun:6.0f} s  {name} {nodes or ''}", file=sys.stderr)
    if not asked.trace:
        speed(report)
    show(report)
    report.finish(asked.json)


if __name__ == "__main__":
    main()
