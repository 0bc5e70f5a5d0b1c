"""Groups of requests, as text for people and as JSON."""

from typing import Any

from diffgenz.routing.effects import Effect, Gains
from diffgenz.routing.grouped import Grouping
from diffgenz.ui.cli.routing_case import Served, title
from diffgenz.ui.tables import table
from diffgenz.ui.text.routing_place import effects_table, percent


def grouped_text(
    asked: Served, found: Grouping, effects: dict[str, Effect], trained: int, tested: int
) -> str:
    """How well requests are grouped, for people.

    Arguments:
        asked: the question.
        found: the answer.
        effects: with requests at random, and grouped.
        trained: requests that groups were learned from.
        tested: requests that were held out.
    """
    rows = [
        ("at random", percent(found.chance), ""),
        ("by prompts, all known, equal groups", percent(found.prompts), _regret(found, 0)),
        ("by prompts, one by one as they come", percent(found.online), _regret(found, 1)),
        ("by decodes, which only an oracle knows", percent(found.known), "0 points"),
    ]
    drift = found.drift
    lines = [
        title(asked),
        f"{asked.name}: groups learned from {trained:,} requests, tested on {tested:,} held out",
        "",
        table(("requests sent", "choices served by own node", "regret"), rows, "l"),
        "",
        effects_table(effects, "decode"),
        "",
        f"drift: earlier half of the test {percent(drift.expected)}, later half "
        f"{percent(drift.seen)} ({percent(drift.low)} to {percent(drift.high)}); "
        + ("group and place anew" if drift.refit else "groups still hold"),
    ]
    if len(found.domains) > 1:
        told = ", ".join(f"{name} {percent(part)}" for name, part in found.domains.items())
        lines.append(f"by domain: {told}")
    lines.append(
        "Groups hold for mixes of requests like those learned from: of new domains, group anew."
    )
    return "\n".join(lines)


def _regret(found: Grouping, online: int) -> str:
    now = found.online if online else found.prompts
    return f"{100 * (found.known - now):.1f} points"


def grouped_json(
    asked: Served, found: Grouping, effects: dict[str, Effect], saved: dict[str, Gains]
) -> dict[str, Any]:
    """How well requests are grouped, in SI.

    Arguments:
        asked: the question.
        found: the answer.
        effects: with requests at random, and grouped.
        saved: what grouping saves, by cause.
    """
    return {
        "model": asked.case.model.name,
        "trace": asked.name,
        "own_node": {
            "random": found.chance,
            "prompts": found.prompts,
            "online": found.online,
            "oracle": found.known,
        },
        "domains": found.domains,
        "drift": found.drift._asdict(),
        "effects": {name: each._asdict() for name, each in effects.items()},
        "saved": {what: each._asdict() for what, each in saved.items()},
    }
