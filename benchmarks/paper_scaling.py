"""The scaling studies of GenZ's paper (arXiv 2406.01698), by its assumptions and by ours.

The paper's assumptions, from which all 40 published times follow: fp8 throughout, at 1600 TFLOP/s;
GB/s of 2**30 B; prompts without a causal mask; no embedding, LM head, norms or router; what stays
on chip as in `genz.layers`; rings that take 5 us and 2 (n - 1) hops; stages in turn.
"""

from typing import NamedTuple

from genz.evaluation import measure, run
from genz.graph import (
    ACTIVATIONS_ON_CHIP,
    OFF_CHIP,
    Entry,
    Graph,
    Heads,
    Message,
    Pattern,
    attend,
    matmul,
    repeated,
)
from genz.system import GIGA, System

NODE = System(
    peak_flops=1600e12,
    memory_bandwidth=4000 * GIGA,
    on_chip_bandwidth=18000 * GIGA,
    offload_bandwidth=128 * GIGA,
    memory_capacity=40 * GIGA,
    link_bandwidth=300 * GIGA,
    link_latency=2e-6,
    compute_efficiency=1.0,
    memory_efficiency=1.0,
    comm_efficiency=1.0,
    element_size=1.0,
)
"""The node of the paper's scaling studies."""

HEAD = 128
"""Size of each head of all of the paper's models."""


class Sizes(NamedTuple):
    """A model of the paper.

    Arguments:
        layers: of the model.
        heads: query heads of 128.
        kv_heads: KV heads.
        hidden: size of the hidden states.
        width: of the feed-forward part, or of one expert.
        before: matrices before the activation: 2 where it is gated, else 1.
        experts: routed experts; 1 in a dense model.
        active: routed experts of a token.
    """

    layers: int
    heads: int
    kv_heads: int
    hidden: int
    width: int
    before: int
    experts: int
    active: int


MODELS = {
    "Mixtral": Sizes(32, 32, 8, 4096, 14336, 2, 8, 2),
    "GPT3": Sizes(96, 96, 96, 12288, 4 * 12288, 1, 1, 1),
    "GPT4": Sizes(128, 84, 84, 10752, 4 * 10752, 1, 16, 2),
}


class Curve(NamedTuple):
    """One published curve.

    Arguments:
        study: name of the study and of its file in examples/genz.
        number: the number of `System` that varies.
        model: of `MODELS`.
        tensor, stages: tensor and pipeline ranks.
        tokens: input tokens.
        generated: output tokens; 0 where prefill is timed.
        beams: of decode.
        factors: of the number, over that of `NODE`.
        published: ms.
    """

    study: str
    number: str
    model: str
    tensor: int
    stages: int
    tokens: int
    generated: int
    beams: int
    factors: tuple[float, ...]
    published: tuple[float, ...]


_COMPUTE, _MEMORY, _LINKS = (12, 8, 4, 2, 1), (8, 6, 4, 2, 1), (6, 4, 3, 2, 1)
_LATENCY = (0.05, 0.125, 0.25, 0.5, 1.0)
CURVES = (
    Curve("compute", "peak_flops", "Mixtral", 2, 1, 10000, 0, 1,
          _COMPUTE, (24.22, 24.35, 34.11, 56.33, 103.95)),
    Curve("compute", "peak_flops", "GPT3", 8, 1, 10000, 0, 1,
          _COMPUTE, (172.08, 182.46, 215.75, 288.84, 443.16)),
    Curve("memory", "memory_bandwidth", "Mixtral", 2, 1, 15000, 1000, 4,
          _MEMORY, (0.83, 0.91, 1.07, 1.56, 2.54)),
    Curve("memory", "memory_bandwidth", "GPT3", 8, 1, 15000, 1000, 4,
          _MEMORY, (7.19, 7.45, 7.98, 9.58, 12.76)),
    Curve("link_bandwidth", "link_bandwidth", "GPT3", 6, 4, 20000, 0, 1,
          _LINKS, (967.27, 987.81, 1008.35, 1049.42, 1172.63)),
    Curve("link_bandwidth", "link_bandwidth", "GPT4", 21, 4, 20000, 0, 1,
          _LINKS, (494.22, 521.52, 548.81, 603.40, 767.16)),
    Curve("link_latency", "link_latency", "GPT3", 6, 4, 20000, 50, 4,
          _LATENCY, (9.82, 10.11, 10.59, 11.55, 13.48)),
    Curve("link_latency", "link_latency", "GPT4", 21, 4, 20000, 50, 4,
          _LATENCY, (6.29, 7.82, 10.38, 15.51, 25.75)),
)  # fmt: skip
"""The paper says TP6 PP2 of GPT-3; its prefill has the passes of four stages."""


def entries(curve: Curve) -> tuple[Entry, ...]:
    """What one node of a curve executes, by the paper's assumptions."""
    sizes, ranks = MODELS[curve.model], curve.tensor
    heads = Heads(sizes.heads / ranks, sizes.kv_heads / ranks, HEAD)
    if curve.generated:
        batch, tokens, sequences = curve.beams, 1, curve.beams
        inner = _decoding(sizes, heads, curve)
        chip, held, rows = ACTIVATIONS_ON_CHIP, sizes.active, 1.0
    else:
        batch, tokens, sequences = 1, curve.tokens, 1
        inner = attend("", 1, heads, tokens, tokens, decoding=False)
        chip, held = OFF_CHIP, sizes.experts
        rows = tokens * sizes.active / sizes.experts
    elements = sequences * tokens * sizes.hidden
    width, queries = held * sizes.width / ranks, sizes.heads * HEAD / ranks
    projected = queries + 2 * sizes.kv_heads * HEAD / ranks
    reduce = Message("all-reduce", Pattern.ALL_REDUCE, ranks, elements)
    layer = (
        matmul("QKV", tokens, projected, sizes.hidden, batch, chip),
        *inner,
        matmul("out", tokens, sizes.hidden, queries, batch, chip),
        reduce,
        matmul("up", rows, sizes.before * width, sizes.hidden, batch, chip),
        matmul("down", rows, sizes.hidden, width, batch, chip),
        reduce,
    )
    hop = Message("pass", Pattern.PASS, 2, elements, repeats=curve.stages - 1)
    return *repeated(layer, sizes.layers), *((hop,) if curve.stages > 1 else ())


def _decoding(sizes: Sizes, heads: Heads, curve: Curve) -> tuple[Entry, ...]:
    """Attention of one token of each beam; beams share a prompt with multi-head attention only."""
    if sizes.kv_heads < sizes.heads:
        keys = curve.tokens + curve.generated
        return attend("", curve.beams, heads, 1, keys, decoding=True)
    return (
        *attend(" prompt", 1, heads, 1, curve.tokens, decoding=True),
        *attend(" own", curve.beams, heads, 1, curve.generated, decoding=True),
    )


STEP = 1e-5
"""The share by which a number moves for its elasticity, which is a central difference."""


class Reproduced(NamedTuple):
    """A curve by the paper's assumptions.

    Arguments:
        milliseconds: at each factor.
        elasticities: d ln time / d ln number there.
    """

    milliseconds: list[float]
    elasticities: list[float]


def reproduce(curves: tuple[Curve, ...] = CURVES) -> list[Reproduced]:
    """The times of curves by the paper's assumptions, and how they hang on what varies."""
    graphs = []
    for curve in curves:
        work = entries(curve)
        for factor in curve.factors:
            for move in (1.0, 1 + STEP, 1 - STEP):
                value = getattr(NODE, curve.number) * factor * move
                graphs.append(Graph(NODE._replace(**{curve.number: value}), work))
    timings = iter(run(measure(graphs), [graph.system.memory_bandwidth for graph in graphs]))
    found = []
    for curve in curves:
        points = [[next(timings).latency for _ in range(3)] for _ in curve.factors]
        found.append(
            Reproduced(
                [1e3 * here for here, _, _ in points],
                [(more - less) / (2 * STEP * here) for here, more, less in points],
            )
        )
    return found
