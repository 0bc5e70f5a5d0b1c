"""`diffgenz pareto`: what a sweep kept, as a table, a file or a picture."""

import argparse
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from diffgenz.core.errors import InputError, NoSolution, unknown
from diffgenz.studies.sweep.findings import Findings
from diffgenz.studies.sweep.reductions.best import Best
from diffgenz.studies.sweep.reductions.histogram import Histogram
from diffgenz.studies.sweep.reductions.pareto import Pareto
from diffgenz.studies.sweep.reductions.rows import Rows
from diffgenz.ui.cli.estimate import cache_compilations
from diffgenz.ui.cli.sweep import overflow_warning, read_findings
from diffgenz.ui.labels import shown
from diffgenz.ui.plots.sweep import parallel_plot, plot
from diffgenz.ui.tables import bar, number, table

_METRICS = (
    "ttft",
    "tpot",
    "tokens_per_second_per_user",
    "tokens_per_second_per_accelerator",
    "memory.total",
)
"""Metrics that every table on the screen has."""


def pareto(options: argparse.Namespace) -> tuple[str, Any]:
    """What a reduction kept: text and JSON, files and pictures."""
    cache_compilations()
    findings = read_findings(Path(options.folder))
    name = _name(findings, options.keep)
    reduction = findings.reductions[name]
    if options.top is not None and options.top < 1:
        raise InputError(f"--top: {options.top} is not allowed; it must be at least 1")
    if options.value is not None and not isinstance(reduction, Best):
        raise InputError(f"--value: {name} is not a map; choose with --keep one whose kind is best")
    if not findings.tally.feasible:
        raise NoSolution(
            f"{options.folder}: nothing is feasible among the {findings.tally.tried:,} configurations tried"
        )
    data: dict[str, Any] = {
        "keep": name,
        "kind": type(reduction).__name__.lower(),
        "tally": findings.tally._asdict(),
    }
    text = [
        f"{name}, of {findings.tally.feasible:,} feasible among {findings.tally.tried:,} configurations{_others(findings, name)}",
        "",
    ]
    if isinstance(reduction, Histogram):
        edges, counts = findings.counts(name)
        data |= {"edges": edges.tolist(), "counts": counts.tolist()}
        text.append(_bars(findings, reduction.of, edges, counts))
    else:
        columns = findings.table(name, options.top)
        goals = {goal: values[: options.top] for goal, values in findings.goals(name).items()}
        count = len(findings.indices(name))
        data |= {
            "count": count,
            "overflow": findings.overflow(name),
            "rows": _rows(columns | {goal: v.tolist() for goal, v in goals.items()}),
        }
        text.append(_table(findings, columns, goals))
        if len(columns["index"]) < count:
            text.append(
                f"... and {count - len(columns['index']):,} more: --top, or all of them with --out FILE.csv"
            )
        if findings.overflow(name):
            text.append(overflow_warning(name, findings.overflow(name)))
    if isinstance(reduction, Best):
        cells = findings.map(name, options.value)
        data["map"] = {
            "by": {axis: findings.space.level_values(axis) for axis in reduction.by},
            "cells": _plain(cells),
        }
    if options.out is not None:
        findings.write_table(name, Path(options.out))
    if options.plot is not None:
        plot(findings, name, Path(options.plot), options.value)
    if options.parallel is not None:
        parallel_plot(findings, name, Path(options.parallel))
    text += [
        f"wrote {file}"
        for file in (options.out, options.plot, options.parallel)
        if file is not None
    ]
    return "\n".join(text), data


def _name(findings: Findings, asked: str | None) -> str:
    """The reduction asked for; the first front, or else the first of all, where none is."""
    shows = [
        name for name, reduction in findings.reductions.items() if not isinstance(reduction, Rows)
    ]
    if asked is None and not shows:
        raise InputError("--keep: this sweep kept rows only; read its .parquet files")
    if asked is not None:
        if asked not in findings.reductions:
            raise unknown("--keep", asked, findings.reductions)
        return asked
    return next((name for name in shows if isinstance(findings.reductions[name], Pareto)), shows[0])


def _others(findings: Findings, name: str) -> str:
    others = [other for other in findings.reductions if other != name]
    return f" (--keep has {', '.join(others)} too)" if others else ""


def _table(findings: Findings, columns: dict[str, list[Any]], goals: dict[str, np.ndarray]) -> str:
    """Index, axes, quantities, goals, and the usual metrics."""
    names = dict.fromkeys(
        [
            *findings.space.axes,
            *findings.space.quantities,
            *goals,
            *(name for name in _METRICS if name in columns),
        ]
    )
    everything = columns | {goal: values.tolist() for goal, values in goals.items()}
    header, cells = ["index"], [[str(index) for index in columns["index"]]]
    for name in names:
        label, factor = shown(name, findings.space.quantities)
        header.append(label)
        cells.append(
            [
                entry if isinstance(entry, str) else number(entry * factor)
                for entry in everything[name]
            ]
        )
    return table(header, list(zip(*cells, strict=True)))


def _bars(findings: Findings, formula: str, edges: np.ndarray, counts: np.ndarray) -> str:
    label, factor = shown(formula, findings.space.quantities)
    bounds = [("", edges[0]), *pairwise(edges), (edges[-1], "")]
    most = max(int(counts.max()), 1)
    rows = []
    for (low, high), count in zip(bounds, counts, strict=True):
        words = [
            "" if isinstance(bound, str) else number(float(bound) * factor) for bound in (low, high)
        ]
        rows.append((*words, f"{count:,}", bar(count / most)))
    return table((f"{label} from", "to", "configurations", ""), rows, "rrrl")


def _rows(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [
        dict(zip(columns, map(_finite, row), strict=True))
        for row in zip(*columns.values(), strict=True)
    ]


def _plain(cells: np.ndarray) -> list[Any]:
    return (
        [_plain(row) for row in cells]
        if cells.ndim > 1
        else [_finite(cell) for cell in cells.tolist()]
    )


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
