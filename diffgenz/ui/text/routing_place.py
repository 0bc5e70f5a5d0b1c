"""What a placement does, as text for people and as JSON."""

from typing import Any

from diffgenz.ui.cli.routing_case import Served, title
from diffgenz.ui.tables import number, table

_NAMES = {"eplb": "EPLB"}
_KERNELS = {
    True: "kernels send a token once to each node that holds any of its experts",
    False: "kernels send a token for each of its experts",
}
_CAUSES = {
    "structure": "request structure",
    "coactivation": "co-activation",
    "skew": "skew (balance, replicas)",
}


def effects_table(effects: dict[str, Any], phase: str) -> str:
    """A row for each placement, and its change over the first in percent.

    Arguments:
        effects: by method (`routing.effects.Effect`).
        phase: "prefill" or "decode".
    """
    time = "TPOT ms" if phase == "decode" else "TTFT ms"
    header = (
        "placement",
        "inter-node MB",
        "",
        "largest pair MB",
        "",
        "straggler",
        "active experts",
        "exchange ms",
        "MoE ms",
        time,
        "",
    )
    first = next(iter(effects.values()))
    rows = []
    for name, each in effects.items():
        rows.append(
            (
                _NAMES.get(name, name),
                number(each.inter / 1e6),
                change(each.inter, first.inter),
                number(each.pair / 1e6),
                change(each.pair, first.pair),
                number(each.straggler),
                number(each.active),
                number(1e3 * each.exchange) if each.fits else "-",
                number(1e3 * each.layers),
                number(1e3 * each.time, 4) if each.fits else "does not fit",
                change(each.time, first.time) if each.fits else "",
            )
        )
    return table(header, rows, "l")


def change(now: float, was: float) -> str:
    """By how many percent something changed: "-12.3 %"; "" for less than a tenth."""
    share = 100 * (now / was - 1) if was else 0.0
    return f"{share:+.1f} %" if abs(share) >= 0.05 else ""


def placed_text(asked: Served, found: Any) -> str:
    """What a placement does, for people.

    Arguments:
        asked: the question.
        found: the answer (`routing.placing.Placing`).
    """
    slots, experts = found.chosen.slots.shape[1], found.chosen.experts
    took = ", ".join(f"{_NAMES.get(name, name)} {n}" for name, n in found.methods.items())
    held = "held out" if found.held_out else "the same that were placed for: no requests are told"
    lines = [
        title(asked),
        f"{asked.name}: {found.tokens:,} {asked.phase} tokens, {held}; "
        f"{len(asked.layers)} layers, {slots} slots of {experts} experts; "
        f"{_KERNELS[found.deduplicated]}",
        f"layers by method, the fastest of each: {took}",
        "",
        effects_table(found.effects, asked.phase),
        "",
        "inter-node MB, MoE ms: of one iteration, all layers of the trace; exchange: in the "
        f"{'TPOT' if asked.phase == 'decode' else 'TTFT'}; the rest: means of layers. Linear: "
        "experts in order, no replicas. Straggler: rows of the fullest rank over the mean.",
    ]
    base = next(iter(found.effects))
    if found.method != base:
        rows = [
            (label, *(percent(getattr(found.gains[what], cause)) for what in ("bytes", "time")))
            for cause, label in _CAUSES.items()
        ]
        whole = [percent(sum(found.gains[what])) for what in ("bytes", "time")]
        head = (f"saved by {found.method} over {base}", "bytes", "MoE time")
        lines += ["", table(head, [*rows, ("together", *whole)], "l")]
    if len(found.by_slots) > 1:
        rows = [(f"{s:,}", number(1e3 * t, 4)) for s, t in found.by_slots.items()]
        lines += ["", table(("slots", "MoE layers ms"), rows, "r")]
    if found.moved is not None:
        lines.append(f"from the present placement the busiest rank fetches {found.moved} experts")
    return "\n".join(lines)


def percent(share: float) -> str:
    """A share in percent, to a tenth."""
    return f"{100 * share:.1f} %" if abs(share) >= 5e-4 else "0 %"


def placed_json(asked: Served, found: Any) -> dict[str, Any]:
    """What a placement does, in SI.

    Arguments:
        asked: the question.
        found: the answer (`routing.placing.Placing`).
    """
    return {
        "model": asked.case.model.name,
        "trace": asked.name,
        "phase": asked.phase,
        "tokens": found.tokens,
        "held_out": found.held_out,
        "nodes": found.chosen.nodes,
        "ranks_per_node": found.chosen.ranks_per_node,
        "experts": found.chosen.experts,
        "slots": found.chosen.slots.shape[1],
        "deduplicated": found.deduplicated,
        "method": found.method,
        "layers_by_method": found.methods,
        "effects": {
            name: {k: v for k, v in each._asdict().items() if each.fits or k != "exchange"}
            for name, each in found.effects.items()
        },
        "saved": {what: each._asdict() for what, each in found.gains.items()},
        "seconds_by_slots": {str(s): t for s, t in found.by_slots.items()},
        "moved": found.moved,
        "matrices": {name: each.tolist() for name, each in found.matrices.items()},
    }
