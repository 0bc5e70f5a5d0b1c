"""Which experts tokens go to, as text for people and as JSON."""

from typing import Any

from diffgenz.core.record import numbers_of
from diffgenz.operators.phases import PerPhase
from diffgenz.operators.routing import PerKind, PowerLaw, Routing, Traced, Uniform
from diffgenz.ui.tables import number

_TOLD = {
    "rows": "rows {} x the mean on the fullest rank",
    "dispersion": "varying by {} x their mean",
    "variation": "popularity with a squared variation of {}",
    "far": "{} x the copies to other nodes",
    "near": "{} x the copies inside nodes",
    "remote": "{} x the choices on other nodes",
    "pair": "largest message between nodes {} x the mean",
    "wire": "busiest node {} x the mean",
    "slots": "{} x the experts' slots",
}
"""How people are told the numbers of `Traced`."""

_KINDS = {
    Uniform: "uniform",
    PowerLaw: "power_law",
    Traced: "traced",
    PerKind: "per_kind",
    PerPhase: "per_phase",
}
"""What `--json` calls each record."""


def routing_lines(routing: Routing) -> list[str]:
    """Which experts tokens go to, for people: a line for each kind and phase; none if uniform."""
    match routing:
        case Uniform():
            return []
        case PowerLaw():
            return [f"experts: the i-th in popularity as i**-{number(float(routing.spread))}"]
        case Traced():
            told = [
                text.format(number(value))
                for name, text in _TOLD.items()
                if (value := _of(routing, name)) is not None
            ]
            note = f" ({routing.note})" if routing.note else ""
            return [f"experts{note}: {', '.join(told) or 'as in uniform routing'}"]
        case PerKind():
            lines = [routing_lines(kind) or ["experts: uniform"] for kind in routing.kinds]
            return [f"layers of kind {i}: {line}" for i, (line,) in enumerate(lines, 1)]
        case PerPhase():
            phases = {"prefill": routing.prefill, "decode": routing.decode}
            return [
                f"{phase}: {line}"
                for phase, its in phases.items()
                for line in routing_lines(its) or ["experts: uniform"]
            ]
    raise TypeError(f"{type(routing).__name__} is no routing that people can be told")


def routing_json(routing: Routing) -> dict[str, Any]:
    """Which experts tokens go to: its kind, and its numbers by field."""
    told: dict[str, Any] = {"kind": _KINDS[type(routing)]}
    told |= {name: _of(routing, name) for name in numbers_of(type(routing))}
    if isinstance(routing, Traced):
        told["note"] = routing.note
    if isinstance(routing, PerKind):
        told["kinds"] = [routing_json(each) for each in routing.kinds]
    if isinstance(routing, PerPhase):
        told |= {"prefill": routing_json(routing.prefill), "decode": routing_json(routing.decode)}
    return told


def _of(routing: Routing, name: str) -> float | None:
    value = getattr(routing, name)
    return None if value is None else float(value)
