"""Presets of synthetic routing: the statistics that they were made for, gains that they were not.

    python benchmarks/synthetic_traces.py [--quick] [--json OUT]

For each preset, statistics of traces drawn from it (mean over draws, and their standard deviation)
beside those of the real model. The gain of a placement is not fitted, and is the test of a preset:
tokens that go to other nodes, relative to linear placement with requests in turn. Where tokens
choose one expert it comes from requests: half of them teach groups and an exact assignment of
experts to nodes, and the others follow their prompts. Where they choose several and are sent once
to each node it comes from experts that are chosen together.

Real figures are those of the traces that calibration/routing_presets.py names, and of arXiv
2604.23150. The last rows say how fast traces are drawn.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from report import Report, parser_of

from diffgenz.routing.baselines import linear, on_nodes
from diffgenz.routing.coactivation import gathered, pairs_of
from diffgenz.routing.fit_synthetic import Layout, log_normal_lengths
from diffgenz.routing.grouping import balanced_kmeans, fit_router, signatures
from diffgenz.routing.locality import assigned
from diffgenz.routing.moments import moments
from diffgenz.routing.parts import parts
from diffgenz.routing.synthetic import synthesize
from diffgenz.routing.synthetic_files import load_synthetic
from diffgenz.routing.trace import DECODE, PREFILL, Trace
from diffgenz.routing.traffic import tally_of_counts, tally_of_tokens
from diffgenz.ui.tables import number, table

REAL = {
    "llama-4-maverick": {
        "gini": 0.69,
        "peak": 15.3,
        "participation": 0.056,
        "same_domain": 0.52,
        "other_domain": 0.20,
        "domain_cosine": 0.38,
        "prefill_pearson": 0.77,
        "request_pearson": 0.51,
        "traffic, 4 nodes": 0.695,
        "traffic, 8 nodes": 0.807,
        "traffic, 16 nodes": 0.893,
    },
    "deepseek-v2-lite": {
        "gini": 0.121,
        "peak": 1.80,
        "participation": 0.694,
        "same_domain": 0.725,
        "lift": 1.99,
        "traffic, 2 nodes": 0.856,
        "traffic, 4 nodes": 0.740,
        "traffic, 8 nodes": 0.731,
    },
    "olmoe": {"gini": 0.228, "domain_cosine": 0.571, "traffic, 4 nodes": 0.709},
    "mixtral": {"gini": 0.049, "domain_cosine": 0.992, "traffic, 4 nodes": 0.971},
    "deepseek-v3": {"gini": 0.31, "prefill_pearson": 0.55, "traffic, 8 nodes": 0.94},
    "qwen3-235b": {"prefill_pearson": 0.68, "traffic, 8 nodes": 0.88},
}
"""Figures of the real models."""


def grouped(trace: Trace, nodes: int, seed: int = 0) -> float:
    """Choices that leave their node, relative to linear: groups of requests, told by prompts."""
    past, coming = trace.halves(seed)
    decode, prefill = past.counts(phase=DECODE), past.counts(phase=PREFILL)
    group = balanced_kmeans(signatures(decode), nodes, seed=seed)
    uses = np.stack([decode[group == each].sum(0) for each in range(nodes)], axis=1)
    placement = on_nodes(assigned(parts(uses)), decode.sum(0), nodes, 1)
    node = fit_router(prefill, decode, placement).assigned(coming.counts(phase=PREFILL))
    sent = tally_of_counts(coming.counts(phase=DECODE), node, placement, k=trace.k).traffic
    return float(sent.inter.mean() / (1 - 1 / nodes))


def together(trace: Trace, nodes: int, seed: int = 0) -> float:
    """Copies of tokens to other nodes, relative to linear: experts chosen together on one node."""
    past, coming = trace.halves(seed)
    load = past.counts("all")[0]
    uses = np.repeat(load[:, None] / nodes, nodes, axis=1)
    pairs = pairs_of(past.chosen, trace.experts, seed)
    placement = on_nodes(gathered(pairs, uses, load=0.3, seed=seed), load, nodes, 1)
    requests, index = np.unique(coming.request, return_inverse=True)
    node = np.arange(len(requests)) % nodes
    plain = linear(len(trace.layers), trace.experts, nodes, 1, trace.experts)
    far = [
        tally_of_tokens(coming.chosen, index, node, each).traffic.far.mean()
        for each in (placement, plain)
    ]
    return float(far[0] / far[1])


def by_domain(trace: Trace, nodes: int, _: int = 0) -> float:
    """Choices that leave their node, relative to linear: each node has the requests of a domain.

    The domains are those of four nodes in the real figure: all but C4.
    """
    kept = [name != "c4" for name in trace.domains]
    uses = trace.counts("domain")[kept]
    placement = on_nodes(assigned(parts(uses.swapaxes(0, 1))), uses.sum(0), nodes, 1)
    sent = tally_of_counts(uses, np.arange(nodes), placement, k=trace.k).traffic
    return float(sent.inter.mean() / (1 - 1 / nodes))


def layout(requests: int, prefill: int, decode: int, domains: int) -> Layout:
    """Requests of one length, of domains in turn."""
    return Layout(
        np.full(requests, prefill), np.full(requests, decode), np.arange(requests) % domains
    )


MMLU = Layout(log_normal_lengths(387, 15, 0.66, 59), np.full(387, 126), np.arange(387) % 3)
"""Requests as long as those of the trace of Llama-4-Maverick."""

LAYOUTS: dict[str, tuple[Layout, slice | tuple[int, ...], Callable[..., float]]] = {
    "llama-4-maverick": (MMLU, slice(None), grouped),
    "deepseek-v2-lite": (layout(600, 0, 95, 1), slice(None), together),
    "olmoe": (layout(5, 0, 20_000, 5), (0, 7, 15), by_domain),
    "mixtral": (layout(5, 0, 20_000, 5), (0, 7, 15), by_domain),
    "deepseek-v3": (layout(200, 32, 64, 4), slice(0, None, 6), grouped),
    "qwen3-235b": (layout(200, 32, 64, 4), slice(0, None, 10), grouped),
}
"""Of each preset the requests, the layers that are drawn, and what placement gains by."""


def drawn(name: str, seed: int) -> dict[str, float]:
    """The figures of one draw of a preset."""
    requests, some, gain = LAYOUTS[name]
    preset = load_synthetic(name)
    layers = preset.layers[some] if isinstance(some, slice) else some
    trace = requests.draw(preset.select(layers), seed)
    have = moments(trace)
    return {
        key: gain(trace, int(key.split()[1]), seed) if key.startswith("traffic") else value
        for key in REAL[name]
        if (value := getattr(have, key, 0.0)) == value
    }


def speed(name: str, tokens: int) -> float:
    """Token and layer rows that are drawn in a second."""
    preset = load_synthetic(name)
    some = preset.select(preset.layers[:8])
    begin = time.perf_counter()
    synthesize(some, 64, 0, tokens // 64)
    return tokens // 64 * 64 * len(some.layers) / (time.perf_counter() - begin)


def main() -> None:
    """Draw, measure, and report."""
    options = parser_of(__doc__).parse_args()
    report = Report()
    lines: list[Any] = []
    for name, real in REAL.items():
        draws = [drawn(name, seed) for seed in range(2 if options.quick else 5)]
        for key, target in real.items():
            values = [draw[key] for draw in draws]
            mean, spread = float(np.mean(values)), float(np.std(values, ddof=1))
            lines.append(
                (name, key.replace("_", " "), number(target), number(mean), number(spread))
            )
            report.rows.append(
                {"preset": name, "figure": key, "real": target, "model": mean, "sd": spread}
            )
            if key.startswith("traffic"):
                report.check(f"{name}: {key}, off the real one", abs(mean - target), "", 0.07)
    print(table(("preset", "figure", "real", "model", "sd"), lines, "ll"))
    tokens = 16_000 if options.quick else 64_000
    rates = {name: speed(name, tokens) for name in REAL}
    print(
        "\n" + table(("preset", "M rows/s"), [(n, number(r / 1e6)) for n, r in rates.items()], "l")
    )
    report.rows += [{"preset": name, "rows_per_second": rate} for name, rate in rates.items()]
    report.finish(options.json)


if __name__ == "__main__":
    main()
