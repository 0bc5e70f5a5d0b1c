"""What a sweep found, as text for people and as JSON: its summary, its progress, what it kept."""

import math
import shlex
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from diffgenz.core.errors import NoSolution
from diffgenz.studies.sweep.findings import Findings
from diffgenz.studies.sweep.kernels import kernels_of, notes_of
from diffgenz.studies.sweep.reductions.histogram import Histogram
from diffgenz.studies.sweep.reductions.pareto import Pareto
from diffgenz.studies.sweep.reductions.reduction import Reduction
from diffgenz.studies.sweep.space import Space
from diffgenz.studies.sweep.sweep import Pace
from diffgenz.ui.labels import shown
from diffgenz.ui.tables import number, table
from diffgenz.ui.text.scenario import kernel_lines

_ALWAYS = (
    "ttft",
    "tpot",
    "tokens_per_second_per_user",
    "tokens_per_second_per_accelerator",
    "memory.total",
)
"""Metrics that every table on the screen has."""

_COUNTED = {
    "pareto": "points",
    "top": "configurations",
    "best": "cells",
    "histogram": "configurations",
    "rows": "rows",
}
"""What each kind of reduction keeps."""


def summary(findings: Findings, out: str, whole: bool) -> tuple[str, Any]:
    """What a sweep came to: text and JSON.

    Arguments:
        findings: of the sweep.
        out: the folder that holds it.
        whole: whether it is all of its space.

    Raises:
        NoSolution: nothing of the whole space is feasible.
    """
    space, tally = findings.space, findings.tally
    said = f"{tally.tried:,} configurations tried, {tally.legal:,} legal"
    said += f", {tally.feasible:,} feasible"
    said += f"; {tally.broken:,} are not finite" if tally.broken else ""
    if whole and not tally.feasible:
        constraints = "; ".join(expression.text for expression in space.constraints)
        remedy = "loosen a constraint, or widen an axis"
        raise NoSolution(f"nothing is feasible: {said} ({constraints}); {remedy}; saved in {out}")
    kept = {name: _kept(findings, name) for name in findings.reductions}
    kernels = kernels_of(space)
    notes = notes_of(space)
    lines = [said, *kernel_lines(kernels)]
    lines += [f"note: {model}: {note}" for model, those in notes.items() for note in those]
    for name, entry in kept.items():
        is_exact = entry["kind"] == "pareto" and not entry["overflow"]
        exact = ", exact: nothing that was tried beats them in every goal" if is_exact else ""
        count = f"{entry['count']:,} {_COUNTED[entry['kind']]}"
        lines.append(f"{name}: {entry['kind']}, {count}{exact}")
        if entry["overflow"]:
            lines.append(overflow_warning(name, entry["count"], entry["overflow"]))
    shows = next((name for name, entry in kept.items() if entry["kind"] != "rows"), None)
    look = f"; look at it with: diffgenz pareto {shlex.quote(out)} --keep {shows}"
    lines.append(f"saved in {out}" + (look if shows else ""))
    data = {
        "size": space.size,
        "tally": tally._asdict(),
        "kept": kept,
        "out": out,
        "kernels": kernels,
        "notes": notes,
    }
    return "\n".join(lines), data


def overflow_warning(name: str, count: int, overflow: int) -> str:
    """What to say of a front that is not exact.

    Arguments:
        name: of the front.
        count: the points that it holds.
        overflow: those that it had no room for.
    """
    return (
        f"warning: {name}: the front is not exact: it had room for {count:,} points, and "
        f"{overflow:,} more of its best are missing. For all of them give [keep.{name}] capacity = "
        f"{2 * (count + overflow):_}"
        ", or goals that single out fewer (one that is itself an axis keeps nearly every value of "
        "it), or tighter constraints, and sweep again"
    )


def begun(space: Space) -> str:
    """The line of progress before the first chunk."""
    programs = f"{space.variant_count:,} program{'s' * (space.variant_count > 1)}"
    return f"{space.size:,} configurations, {programs}; compiling"


def progress(pace: Pace, reductions: Mapping[str, Reduction]) -> str:
    """The line of progress after a chunk.

    Arguments:
        pace: how far the sweep is.
        reductions: of the sweep, in order.
    """
    states = zip(reductions.values(), pace.outcome.states, strict=True)
    points = [len(state["indices"]) for each, state in states if isinstance(each, Pareto)]
    front = f", front {sum(points):,}" if points else ""
    left = f"{duration(pace.seconds_left)} left" if pace.done < pace.total else "done"
    share = f"{100 * pace.done / pace.total:5.1f} %"
    return f"{share}  {pace.done:,} of {pace.total:,}, {pace.rate:,.0f}/s, {left}{front}"


def duration(seconds: float) -> str:
    """Seconds in words, "?" where they are not known."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def configurations_table(
    findings: Findings, columns: Mapping[str, Sequence[Any]], goals: Mapping[str, np.ndarray]
) -> str:
    """Configurations that a reduction kept: what axes have, quantities, goals, usual metrics.

    Arguments:
        findings: of the sweep.
        columns: by name (`Findings.table`).
        goals: by formula, one value for each row (`Findings.goals`).
    """
    space = findings.space
    usual = [name for name in _ALWAYS if name in columns]
    names = dict.fromkeys([*space.axes, *space.quantities, *goals, *usual])
    everything = {**columns, **{goal: values.tolist() for goal, values in goals.items()}}
    header, cells = ["index"], [[str(index) for index in columns["index"]]]
    for name in names:
        label, factor = shown(name, space.scenario, space.quantities)
        header.append(label)
        cells.append(
            [each if isinstance(each, str) else number(each * factor) for each in everything[name]]
        )
    return table(header, list(zip(*cells, strict=True)))


def histogram_table(findings: Findings, name: str) -> str:
    """The counts of a histogram, with a bar for each bin."""
    reduction, space = findings.reductions[name], findings.space
    assert isinstance(reduction, Histogram)
    edges, counts = findings.counts(name)
    label, factor = shown(reduction.of, space.scenario, space.quantities)
    texts = ["", *(number(float(edge) * factor) for edge in edges), ""]
    most = max(int(counts.max()), 1)
    rows = [
        (low, high, f"{count:,}")
        for (low, high), count in zip(pairwise(texts), counts, strict=True)
    ]
    bars = [(count / most, "") for count in counts]
    return table((f"{label} from", "to", "configurations"), rows, keys=2, bars=bars)


def rows_json(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Columns as one record for each row."""
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, map(_finite, row), strict=True)) for row in rows]


def cells_json(cells: np.ndarray) -> list[Any]:
    """The cells of a map as nested lists."""
    if cells.ndim > 1:
        return [cells_json(row) for row in cells]
    return [_finite(cell) for cell in cells.tolist()]


def _kept(findings: Findings, name: str) -> dict[str, Any]:
    reduction, state = findings.reductions[name], findings.state(name)
    if isinstance(reduction, Histogram):
        count = int(state["counts"].sum())
    else:
        count = int(state["count"]) if "count" in state else len(findings.indices(name))
    kind, overflow = type(reduction).__name__.lower(), findings.overflow(name)
    return {"kind": kind, "count": count, "overflow": overflow}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
