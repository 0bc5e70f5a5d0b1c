"""`diffgenz pareto`: what a sweep kept, as a table, a file or a picture."""

import argparse
from pathlib import Path
from typing import Any

from diffgenz.core.errors import InputError, NoSolution, unknown
from diffgenz.ui.cli.cache import cache_compilations
from diffgenz.ui.cli.flags import COUNT, add_plot


def flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("folder", metavar="DIR", help="what `diffgenz sweep ... --out DIR` saved")
    parser.add_argument(
        "--keep", metavar="NAME", help="which [keep.NAME] of the file (default: the first front)"
    )
    parser.add_argument("--top", type=COUNT, default=20, help="rows to show (default: 20)")
    parser.add_argument(
        "--sort",
        metavar="GOAL",
        help="of a front: the goal whose best come first (default: the first to maximize)",
    )
    parser.add_argument(
        "--value",
        metavar="AXIS",
        help="of a map: draw what the best of each cell has at this axis (default: the goal's "
        "value)",
    )
    parser.add_argument(
        "--out", metavar="FILE", help="save all rows as .csv or .parquet (needs diffgenz[tables])"
    )
    add_plot(parser, "draw it")
    parser.add_argument("--parallel", metavar="FILE", help="draw it in parallel coordinates")


def run(options: argparse.Namespace) -> tuple[str, Any]:
    """What a reduction kept: text and JSON, files and pictures."""
    from diffgenz.studies.sweep.kernels import kernels_of
    from diffgenz.studies.sweep.reductions.best import Best
    from diffgenz.studies.sweep.reductions.histogram import Histogram
    from diffgenz.studies.sweep.reductions.pareto import Pareto
    from diffgenz.ui.plots.figure import check_picture
    from diffgenz.ui.plots.parallel import parallel_plot
    from diffgenz.ui.plots.sweep import plot
    from diffgenz.ui.sweep_folder import read_findings
    from diffgenz.ui.text.scenario import kernel_lines
    from diffgenz.ui.text.sweep import cells_json, histogram_table

    for picture in (options.plot, options.parallel):
        if picture is not None:
            check_picture(Path(picture))
    cache_compilations()
    findings = read_findings(Path(options.folder))
    name = _name(findings.reductions, options.keep)
    reduction, tally = findings.reductions[name], findings.tally
    if options.top < 1:
        raise InputError(f"--top: {options.top} is not allowed; it must be at least 1")
    if options.value is not None and not isinstance(reduction, Best):
        raise InputError(f"--value: {name} is not a map; choose with --keep one whose kind is best")
    if not tally.feasible:
        raise NoSolution(
            f"{options.folder}: nothing is feasible among the {tally.tried:,} configurations tried"
        )
    data: dict[str, Any] = {
        "keep": name,
        "kind": type(reduction).__name__.lower(),
        "tally": tally._asdict(),
    }
    others = [other for other in findings.reductions if other != name]
    have = f" (--keep has {', '.join(others)} too)" if others else ""
    among = f"{tally.feasible:,} feasible among {tally.tried:,} configurations"
    kernels = kernels_of(findings.space)
    data["kernels"] = kernels
    text = [f"{name}, of {among}{have}", *kernel_lines(kernels), ""]
    sort = options.sort
    if sort is None and isinstance(reduction, Pareto):
        sort = (*reduction.maximize, *reduction.minimize)[0]
    if isinstance(reduction, Histogram):
        edges, counts = findings.counts(name)
        data |= {"edges": edges.tolist(), "counts": counts.tolist()}
        text.append(histogram_table(findings, name))
    else:
        lines, rows = _configurations(findings, name, options.top, sort)
        text += lines
        data |= rows
    if isinstance(reduction, Best):
        levels = {axis: findings.space.level_values(axis) for axis in reduction.by}
        cells = cells_json(findings.map(name, options.value))
        data["map"] = {"by": levels, "cells": cells}
    if options.out is not None:
        findings.write_table(name, Path(options.out), sort=sort)
    if options.plot is not None:
        plot(findings, name, Path(options.plot), options.value)
    if options.parallel is not None:
        parallel_plot(findings, name, Path(options.parallel))
    files = (options.out, options.plot, options.parallel)
    text += [f"wrote {file}" for file in files if file is not None]
    return "\n".join(text), data


def _name(reductions: dict[str, Any], asked: str | None) -> str:
    """The reduction asked for; where none is, the first front, or else the first of all."""
    from diffgenz.studies.sweep.reductions.pareto import Pareto
    from diffgenz.studies.sweep.reductions.rows import Rows

    shows = [name for name, reduction in reductions.items() if not isinstance(reduction, Rows)]
    if asked is None and not shows:
        raise InputError("--keep: this sweep kept rows only; read its .parquet files")
    if asked is not None:
        if asked not in reductions:
            raise unknown("--keep", asked, reductions)
        return asked
    return next((name for name in shows if isinstance(reductions[name], Pareto)), shows[0])


def _configurations(
    findings: Any, name: str, top: int, sort: str | None
) -> tuple[list[str], dict[str, Any]]:
    """The first configurations that a reduction kept: lines of text and entries of JSON."""
    from diffgenz.ui.text.sweep import configurations_table, overflow_warning, rows_json

    columns = findings.table(name, top, sort)
    order = findings.order(name, sort)[:top]
    goals = {goal: values[order] for goal, values in findings.goals(name).items()}
    count, overflow = len(findings.indices(name)), findings.overflow(name)
    rows = rows_json(columns | {goal: values.tolist() for goal, values in goals.items()})
    lines = [configurations_table(findings, columns, goals)]
    more = count - len(columns["index"])
    if more:
        lines.append(f"... and {more:,} more: --top, or all of them with --out FILE.csv")
    if overflow:
        lines.append(overflow_warning(name, count, overflow))
    return lines, {"count": count, "overflow": overflow, "rows": rows}
