"""Requirements as text for people and as JSON."""

import math
from typing import Any, NamedTuple

from diffgenz.core.record import numbers_of
from diffgenz.core.units import show
from diffgenz.hardware.accelerator import Accelerator
from diffgenz.hardware.network import Level
from diffgenz.models.model import Model
from diffgenz.scenario.from_words import Asked
from diffgenz.scenario.scenario import Scenario
from diffgenz.scenario.use_cases import UseCase
from diffgenz.studies.requirements import Needs, Requirements
from diffgenz.ui.tables import number, table
from diffgenz.ui.text.routing import routing_json, routing_lines
from diffgenz.ui.text.scenario import (
    kernels_line,
    note_lines,
    notes_of,
    parameters,
    precision_json,
    ranks_json,
    ranks_line,
    serving_json,
    serving_lines,
)

_BOUND = {"at least": ">=", "at most": "<="}
_PHASES = ("prefill", "decode")
_LINK = ("bandwidth", "latency")


class Required(NamedTuple):
    """A use case and what it requires.

    Arguments:
        use_case: the workload and its objectives.
        asked: what the words said; beams are the use case's.
        result: what each accelerator must have.
        kernels: what times the kernels (`inference.timed_by`).
    """

    use_case: UseCase
    asked: Asked
    result: Requirements
    kernels: dict[str, str]

    @property
    def scenario(self) -> Scenario:
        """The question, without the workload and beams of the use case."""
        return self.asked.scenario

    @property
    def needs(self) -> dict[str, dict[str, float]]:
        """By phase, the requirement of each number."""
        levels = _levels_in_use(self.scenario)
        return {phase: _named(getattr(self.result, phase), levels) for phase in _PHASES}


def requirements_text(required: Required) -> str:
    """The use case, how it is served, and the table of requirements."""
    case, result = required.scenario, required.result
    now = _now(case) if required.asked.system is not None else None
    others = "unlimited" if now is None else f"as on {case.platform.accelerator.name}"
    return "\n".join(
        [
            _title(case.model, required.use_case, int(case.plan.ranks)),
            *note_lines(case),
            ranks_line(case.model, case.plan),
            *routing_lines(case.routing),
            *serving_lines(case.serving),
            case.precision.summary + required.asked.note,
            f"each number on its own, the others {others}",
            kernels_line(required.kernels),
            "",
            _table(required.needs, float(result.memory_capacity), now),
        ]
    )


def requirements_json(required: Required) -> dict[str, Any]:
    """The same in SI; null stands for infinite numbers."""
    case, use_case, system = required.scenario, required.use_case, required.asked.system
    counts = ("batch", "input_tokens", "output_tokens", "beams")
    phases = {
        phase: {
            name: {"value": finite(value), "bound": verdict(name, value)}
            for name, value in needs.items()
        }
        for phase, needs in required.needs.items()
    }
    serving = serving_json(case.serving)
    return {
        "model": case.model.name,
        "use_case": use_case.name or None,
        **{name: float(getattr(use_case, name)) for name in counts},
        **{name: finite(float(getattr(use_case, name))) for name in ("ttft", "tpot")},
        "system": system,
        "accelerators": int(case.plan.ranks),
        **ranks_json(case.plan),
        "precision": precision_json(case.precision),
        "serving": {name: value for name, value in serving.items() if name != "beams"},
        "routing": routing_json(case.routing),
        "kernels": required.kernels,
        "notes": notes_of(case),
        **phases,
        "memory_capacity": float(required.result.memory_capacity),
        "now": None if system is None else _now(case),
    }


def verdict(name: str, value: float) -> str:
    """How a number is bounded.

    "at least", or for latencies "at most"; "any" where any will do; "out of reach" where none is
    enough.
    """
    latency = name.endswith("latency")
    if math.isfinite(value) and value > 0:
        return "at most" if latency else "at least"
    return "any" if value == (math.inf if latency else 0) else "out of reach"


def finite(value: float) -> float | None:
    """The value as JSON takes it."""
    return value if math.isfinite(value) else None


def _title(model: Model, use_case: UseCase, ranks: int) -> str:
    u = use_case
    objectives = {"TTFT": float(u.ttft), "TPOT": float(u.tpot)}
    goals = [f"{name} {number(1e3 * s)} ms" for name, s in objectives.items() if math.isfinite(s)]
    tokens = f"{float(u.input_tokens):g} tokens in, {float(u.output_tokens):g} out"
    beams = f"{float(u.beams):g} beams, " if u.name or float(u.beams) != 1 else ""
    requests = f"batch {float(u.batch):g}, {beams}{tokens}"
    machines = "an accelerator" if ranks == 1 else f"{ranks} accelerators"
    purpose = f" for {u.name}" if u.name else ""
    first = f"{model.name} ({parameters(model)}){purpose} on {machines}"
    return f"{first}\n{requests}; {', '.join(goals)}"


def _levels_in_use(case: Scenario) -> int:
    """Network levels, from the innermost, over which the ranks communicate."""
    network = case.platform.network
    inner_sizes = [1.0, *(float(level.size) for level in network[:-1])]
    return sum(int(case.plan.ranks) > size for size in inner_sizes) if network else 0


def _named(needs: Needs, levels: int) -> dict[str, float]:
    links = {
        f"{link.level} {name}": float(getattr(link, name))
        for link in needs.links[:levels]
        for name in _LINK
    }
    own = {name: float(getattr(needs, name)) for name in ("compute", "memory_bandwidth")}
    return own | links


def _now(case: Scenario) -> dict[str, float]:
    """What the platform has of each number."""
    accelerator = case.platform.accelerator
    links = {
        f"{level.name} {name}": float(getattr(level, name))
        for level in case.platform.network
        for name in _LINK
    }
    own = {
        "compute": float(accelerator.peak(case.precision.linear_peak)),
        "memory_bandwidth": float(accelerator.memory_bandwidth),
    }
    return {**own, **links, "memory_capacity": float(accelerator.memory_capacity)}


def _unit(name: str) -> str:
    """The unit of a requirement: that of the number of the platform."""
    if name == "compute":
        return numbers_of(Accelerator)["peak_flops"].unit
    if name in numbers_of(Accelerator):
        return numbers_of(Accelerator)[name].unit
    return numbers_of(Level)[name.rsplit(" ", 1)[1]].unit


def _table(
    needs: dict[str, dict[str, float]], capacity: float, now: dict[str, float] | None
) -> str:
    def cell(name: str, value: float) -> str:
        bound = verdict(name, value)
        return f"{_BOUND[bound]} {show(value, _unit(name))}" if bound in _BOUND else bound

    def today(name: str) -> tuple[str, ...]:
        return () if now is None else (show(now[name], _unit(name)),)

    rows = [
        (name.replace("_", " "), *(cell(name, needs[phase][name]) for phase in needs), *today(name))
        for name in needs["prefill"]
    ]
    rows.append(("memory capacity", "", f">= {show(capacity, 'B')}", *today("memory_capacity")))
    columns = () if now is None else ("now",)
    return table(("of each accelerator", "for TTFT", "for TPOT", *columns), rows, "l")
