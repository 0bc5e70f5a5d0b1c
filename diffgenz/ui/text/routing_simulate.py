"""The traffic and the load of a placement, as text for people and as JSON."""

from typing import Any, NamedTuple

import numpy as np

from diffgenz.routing.batches import Batches
from diffgenz.routing.routed import Both
from diffgenz.routing.traffic import Traffic
from diffgenz.ui.cli.routing_case import Served, title
from diffgenz.ui.tables import number, table

SHOWN = 8
"""Nodes whose matrix is shown, at most; `--json` has all."""


class Simulated(NamedTuple):
    """What a placement gives a trace.

    Arguments:
        both: the traffic of the long run, by both kinds of kernels.
        batches: single iterations; None where only counts are known.
        token_bytes: B of one copy of a token, to its expert and back.
        tokens: tokens of all ranks in an iteration of the scenario.
    """

    both: Both
    batches: Batches | None
    token_bytes: float
    tokens: float


def simulated_text(asked: Served, found: dict[str, Simulated], deduplicated: bool) -> str:
    """What placements give a trace, for people.

    Arguments:
        asked: the question.
        found: by the name of the placement.
        deduplicated: whether the scenario's kernels send a token to a node once.
    """
    header = (
        "placement",
        "a token is sent",
        "copies to other nodes",
        "inter-node MB",
        "largest pair",
        "wire",
        "rank straggler",
        "node straggler",
    )
    rows, batches = [], []
    for name, each in found.items():
        for how, traffic in _ways(each.both).items():
            scale = each.tokens * each.token_bytes / 1e6
            rows.append(
                (
                    name,
                    how,
                    number(float(traffic.far.mean())),
                    number(float(traffic.far.sum()) * scale),
                    number(float(traffic.largest_pair.mean())),
                    number(float(traffic.wire.mean())),
                    number(float(traffic.rank_straggler.mean())),
                    number(float(traffic.node_straggler.mean())),
                )
            )
        if each.batches is not None:
            straggler = each.batches.straggler.mean(1)
            most = np.percentile(each.batches.straggler, 95)
            batches.append(
                (
                    name,
                    f"{each.batches.tokens:,}",
                    number(float(straggler.mean())),
                    number(float(most)),
                    number(float(each.batches.active.mean())),
                )
            )
    kernels = "once to each node" if deduplicated else "for each expert"
    lines = [
        title(asked),
        f"{asked.name}: {asked.phase} tokens, {len(asked.layers)} layers; the kernels of this "
        f"scenario send a token {kernels}",
        "",
        table(header, rows, "ll", keys=2),
        "",
        "means of layers; inter-node MB: of one iteration, all layers of the trace. Largest pair: "
        "over the mean of all pairs of nodes; wire: the most that a node sends or receives over "
        "its mean tokens, own included.",
    ]
    if batches:
        head = ("iterations", "tokens", "straggler", "95th percentile", "active slots of a rank")
        lines += ["", table(head, batches, "l")]
    for name, each in found.items():
        traffic = each.both.once if deduplicated and each.both.once is not None else each.both.each
        pairs = traffic.to_nodes.mean(0)
        if len(pairs) > SHOWN or len(pairs) == 1:
            continue
        pairs = 100 * pairs / pairs.sum()
        head = (f"{name}, % of tokens from", *(f"to {n}" for n in range(len(pairs))))
        cells = [(str(n), *(f"{p:.2f}" for p in row)) for n, row in enumerate(pairs)]
        lines += ["", table(head, cells, "l")]
    return "\n".join(lines)


def simulated_json(
    asked: Served, found: dict[str, Simulated], deduplicated: bool
) -> dict[str, Any]:
    """What placements give a trace, per layer.

    Arguments:
        asked: the question.
        found: by the name of the placement.
        deduplicated: whether the scenario's kernels send a token to a node once.
    """
    placements = {}
    for name, each in found.items():
        own: dict[str, Any] = {
            how: {
                "far": traffic.far.tolist(),
                "largest_pair": traffic.largest_pair.tolist(),
                "wire": traffic.wire.tolist(),
                "rank_straggler": traffic.rank_straggler.tolist(),
                "node_straggler": traffic.node_straggler.tolist(),
                "to_nodes": (traffic.to_nodes / traffic.tokens).tolist(),
                "rows": (traffic.rows / traffic.tokens).tolist(),
            }
            for how, traffic in _ways(each.both).items()
        }
        if each.batches is not None:
            own["iterations"] = {
                "tokens": each.batches.tokens,
                "straggler": each.batches.straggler.mean(0).tolist(),
                "active": each.batches.active.mean(0).tolist(),
            }
        placements[name] = own
    return {
        "model": asked.case.model.name,
        "trace": asked.name,
        "phase": asked.phase,
        "layers": list(asked.layers),
        "deduplicated": deduplicated,
        "token_bytes": next(iter(found.values())).token_bytes,
        "placements": placements,
    }


def _ways(both: Both) -> dict[str, Traffic]:
    """The traffic by how a token is sent."""
    once = {} if both.once is None else {"once to a node": both.once}
    return once | {"for each expert": both.each}
