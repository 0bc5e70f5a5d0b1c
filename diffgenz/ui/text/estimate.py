"""Estimates as text for people and as JSON: metrics, memory, and where the time goes."""

import math
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from diffgenz.core.smooth import Leaf
from diffgenz.hardware.platform import Platform
from diffgenz.inference.breakdown import RESOURCES, Breakdown
from diffgenz.inference.capacity import requests_that_fit
from diffgenz.inference.estimate import Estimate
from diffgenz.inference.memory import Memory
from diffgenz.inference.metrics import METRICS
from diffgenz.scenario.engines.refusals import engine_notes
from diffgenz.scenario.from_words import Asked
from diffgenz.scenario.scenario import Scenario
from diffgenz.studies.search.remedies import Remedy
from diffgenz.ui.labels import SCALARS
from diffgenz.ui.tables import number, table
from diffgenz.ui.text.routing import routing_json
from diffgenz.ui.text.scenario import notes_of, plain, precision_json, ranks_json, serving_json

_COLUMNS = tuple(name for name in METRICS if name in {*SCALARS, "memory.total"} - {"power"})
_SPREAD = ("ttft", "tpot", "end_to_end")


class Estimated(NamedTuple):
    """One scenario and what is known of it.

    Arguments:
        scenario: the question.
        result: its estimate.
        breakdown: where its time goes; None where it does not fit in memory.
        deviation: the standard deviations of the estimate; None where they were not asked for.
        remedy: where it does not fit, the options with which it fits on the same accelerators;
            None where it fits, or none of them is enough.
        needed: where no option is enough, the scenario on the fewest accelerators that hold it;
            None where no number of them does.
        system: what people call the accelerator, where several are compared; else "".
    """

    scenario: Scenario
    result: Estimate
    breakdown: Breakdown | None = None
    deviation: Estimate | None = None
    remedy: Remedy | None = None
    needed: Scenario | None = None
    system: str = ""

    @property
    def fits(self) -> bool:
        """Whether it fits in memory."""
        return bool(self.result.memory.fits)

    @property
    def batch(self) -> str:
        """Requests in flight."""
        return f"{float(self.scenario.workload.batch):g}"


def estimates_text(points: Sequence[Estimated]) -> str:
    """A table of estimates with a row each, what does not fit, and the details of a single one."""
    text = [_summary(points)]
    text += [_misfit(point) for point in points if not point.fits]
    if len(points) == 1 and points[0].breakdown is not None:
        point = points[0]
        memory = memory_line(point.result.memory, point.scenario.platform)
        times = [time_table(points[0].breakdown, phase) for phase in ("ttft", "tpot")]
        text += ["", memory, _room(point), "", times[0], "", times[1]]
    else:
        last = {point.system: point for point in points}.values()  # of each system
        rooms = [_room(point) for point in last if point.fits]
        text += ["", *rooms] if rooms else []
    return "\n".join(text)


def estimate_json(point: Estimated, asked: Asked, kernels: dict[str, str]) -> dict[str, Any]:
    """An estimate in SI; metrics are null where it does not fit.

    Arguments:
        point: what was estimated.
        asked: what the words said.
        kernels: what times them (`inference.timed_by`).
    """
    case, workload = point.scenario, point.scenario.workload
    where = point.breakdown
    smallest = case if point.fits else point.needed
    if point.remedy is not None:
        smallest = point.remedy.scenario
    phases = ("ttft", "tpot")
    return {
        "model": case.model.name,
        "parameters": float(case.model.parameters),
        "active_parameters": float(case.model.active_parameters),
        "system": asked.system,
        "accelerators": int(case.plan.ranks),
        **ranks_json(case.plan),
        "batch": float(workload.batch),
        "input_tokens": int(workload.input_tokens),
        "output_tokens": int(workload.output_tokens),
        "images": int(workload.images),
        "precision": precision_json(case.precision),
        "serving": serving_json(case.serving),
        "routing": routing_json(case.routing),
        "kernels": kernels,
        "notes": [*notes_of(case), *engine_notes(case)],
        **_scalars(point.result if point.fits else None),
        "deviation": None if point.deviation is None else _scalars(point.deviation),
        "memory": memory_json(point.result.memory, case.platform),
        "requests_that_fit": _finite(requests_that_fit(case, point.result.memory)),
        "fits_with": point.remedy and point.remedy.options,
        "accelerators_needed": None if smallest is None else int(smallest.plan.ranks),
        "bound_by": None if where is None else {phase: where.bound_by(phase) for phase in phases},
        "breakdown": None if where is None else {phase: where.rows(phase) for phase in phases},
    }


def _scalars(result: Estimate | None) -> dict[str, float | None]:
    return {name: None if result is None else plain(attrgetter(name)(result)) for name in SCALARS}


def _finite(value: Leaf) -> float | None:
    """A number as JSON takes it; None for infinity."""
    return float(value) if math.isfinite(float(value)) else None


def _summary(points: Sequence[Estimated]) -> str:
    """The table of metrics: a row for each estimate."""
    names = [name for name in _COLUMNS if any(_is_shown(name, each.result) for each in points)]
    compared = any(point.system for point in points)
    capacities = {_capacity(point.result.memory, 1) for point in points}
    capacity = capacities.pop() if len(capacities) == 1 else None  # in the header, if one for all
    labels = {name: METRICS[name].label for name in names}
    if capacity is not None:
        labels["memory.total"] += f" of {capacity}"
    header = ("batch", *labels.values(), "bound by")
    header = ("system", *header) if compared else header
    rows = []
    for point in points:
        bounds = "does not fit"
        if point.breakdown is not None:
            bounds = ", ".join(point.breakdown.bound_by(phase) for phase in ("ttft", "tpot"))
        system = (point.system,) if compared else ()
        cells = (_cell(name, point, capacity is None) for name in names)
        rows.append((*system, point.batch, *cells, bounds))
    numbers = "r" * (len(names) + 1)
    return table(header, rows, f"l{numbers}l" if compared else f"{numbers}l", keys=1 + compared)


def _is_shown(name: str, result: Estimate) -> bool:
    """Whether a metric has a column: those that are not known have none, except for the price."""
    return name == "cost_per_million_output_tokens" or attrgetter(name)(result) is not None


def _cell(name: str, point: Estimated, with_capacity: bool) -> str:
    """A metric in the units of people, with its standard deviation where that is known."""
    if name == "memory.total":
        memory = point.result.memory
        return _total_of_capacity(memory, 1) if with_capacity else _gigabytes(memory.total, 1)
    value = attrgetter(name)(point.result)
    if value is None or not point.fits:
        return "-"
    factor = METRICS[name].factor
    text = number(float(value) * factor)
    if point.deviation is not None and name in _SPREAD:
        text += f" +-{number(float(attrgetter(name)(point.deviation)) * factor, 2)}"
    return text


def _room(point: Estimated) -> str:
    """How many requests of the scenario's lengths the memory has room for."""
    workload = point.scenario.workload
    count = float(requests_that_fit(point.scenario, point.result.memory))
    if not math.isfinite(count):
        return "memory has room for any number of requests: they keep nothing"
    length = float(workload.input_tokens + workload.output_tokens)
    tokens = f"{count * length:,.0f} tokens of KV cache"
    where = f"{point.system}: " if point.system else ""
    return f"{where}memory has room for {count:,.0f} such requests ({tokens})"


def _misfit(point: Estimated) -> str:
    """That an estimate does not fit, and what would hold it."""
    memory = memory_line(point.result.memory, point.scenario.platform)
    where = f"{point.system}, " if point.system else ""
    start = f"\n{where}batch {point.batch} does not fit: {memory}."
    if point.remedy is not None:
        options, _, result = point.remedy
        total = _total_of_capacity(result.memory, 1)
        return f"{start}\nIt fits on these accelerators with {options}: {total} GB."
    if point.needed is None:
        remedy = "reduce the batch, the lengths, or the bytes per weight or KV element"
        return f"{start}\nNo layout of it fits: {remedy}."
    plan = point.needed.plan
    context = "" if plan.context is None else f"cp {int(plan.context)}, "
    ranks = f"tp {int(plan.tensor)}, {context}pp {int(plan.pipeline)}, dp {int(plan.data)}"
    return f"{start}\nIt fits on {int(plan.ranks)}: {ranks}."


def memory_json(memory: Memory, platform: Platform) -> dict[str, Any]:
    """The memory of the fullest accelerator, in B."""
    names = ("weights", "kv_cache", "activations", "total", "capacity")
    return {
        **{name: float(getattr(memory, name)) for name in names},
        "reserve": float(platform.accelerator.memory_reserve),
        "offloaded": _offloaded(memory, platform),
        "fits": bool(memory.fits),
    }


def memory_line(memory: Memory, platform: Platform) -> str:
    """The memory of the fullest accelerator, for people."""
    labelled = {
        "weights": memory.weights,
        "KV cache": memory.kv_cache,
        "activations": memory.activations,
        "reserve": platform.accelerator.memory_reserve,
    }
    parts = ", ".join(f"{label} {float(value) / 1e9:.2f}" for label, value in labelled.items())
    moved = "".join(
        f"; {held / 1e9:.2f} GB of it in {name} memory"
        for name, held in _offloaded(memory, platform).items()
    )
    total = _total_of_capacity(memory, 2)
    return f"memory per accelerator, GB: {parts}; total {total}{moved}"


def _offloaded(memory: Memory, platform: Platform) -> dict[str, float]:
    """B in each tier of slower memory, by its name, where something may live there."""
    tiers = zip(platform.accelerator.tiers, memory.offloaded, strict=False)
    return {tier.name: float(held) for tier, held in tiers}


def _total_of_capacity(memory: Memory, decimals: int) -> str:
    """GB in use of those there are: of main memory and of slower memory that may be used."""
    return f"{_gigabytes(memory.total, decimals)} of {_capacity(memory, decimals)}"


def _capacity(memory: Memory, decimals: int) -> str:
    """GB that there are: of main memory and of slower memory that may be used."""
    room = "" if memory.room is None else f" + {_gigabytes(memory.room, decimals)}"
    return f"{_gigabytes(memory.capacity, decimals)}{room}"


def _gigabytes(size: Any, decimals: int) -> str:
    return f"{float(size) / 1e9:.{decimals}f}"


def time_table(breakdown: Breakdown, phase: str) -> str:
    """The operators of one phase, slowest first.

    What is below a millionth of the total is shown as 0.
    """
    rows, sums = breakdown.rows(phase), breakdown.by_resource(phase)
    total = sum(sums.values())
    decimals = max(0, 3 - math.floor(math.log10(total * 1e3)))

    def cells(name: str, seconds: dict[str, float]) -> tuple[str, ...]:
        own = sum(seconds.values())
        milliseconds = (
            f"{1e3 * value:,.{decimals}f}" if value > 1e-6 * total else "0"
            for value in (*seconds.values(), own)
        )
        return name, *milliseconds, f"{100 * own / total:.1f} %"

    taking = [item for item in rows.items() if sum(item[1].values()) > 0]
    ordered = sorted(taking, key=lambda item: -sum(item[1].values()))
    body = [cells(name, seconds) for name, seconds in (*ordered, ("total", sums))]
    return table((f"{phase.upper()}, ms", *RESOURCES, "total", "share"), body, "l")
