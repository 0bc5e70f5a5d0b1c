"""`diffgenz sweep` and `diffgenz merge`: a space file in; a folder, a progress line and a summary out."""

import argparse
import json
import math
import shlex
import sys
from pathlib import Path
from typing import Any

from diffgenz.core.errors import InputError, NoSolution
from diffgenz.studies.sweep.checkpoint import MANIFEST, read_manifest, write_text
from diffgenz.studies.sweep.findings import Findings
from diffgenz.studies.sweep.on_ray import on_ray
from diffgenz.studies.sweep.reductions.histogram import Histogram
from diffgenz.studies.sweep.reductions.pareto import Pareto
from diffgenz.studies.sweep.reductions.reduction import Reduction
from diffgenz.studies.sweep.space import Space
from diffgenz.studies.sweep.space_file import SpaceFile, load_space
from diffgenz.studies.sweep.sweep import CHUNK, Pace, findings_in, merge, sweep
from diffgenz.ui.cli.estimate import cache_compilations, sharpness_of

COPY, ORIGIN = "space.toml", "origin.json"
"""In the folder of a sweep: its space file, and what else made the space of it."""

_LEAST = 2**18  # configurations between checkpoints, at least
_STEPS = 64  # checkpoints of a small sweep


def run_sweep(options: argparse.Namespace) -> tuple[str, Any]:
    """Run a sweep: text and JSON."""
    cache_compilations()
    out, source = Path(options.out), Path(options.space)
    space, reductions = load_space(source, n=options.n)
    shard = _shard(options.shard)
    if options.engine != "ray" and options.address is not None:
        raise InputError(f"--address: {options.address!r} is of no use without --engine ray")
    if not (out / MANIFEST).exists():
        write_text(out / COPY, source.read_text(encoding="utf-8"))
        write_text(
            out / ORIGIN,
            json.dumps({"folder": str(source.parent.resolve()), "n": options.n}) + "\n",
        )
    progress = _Line(reductions, space) if options.progress or sys.stderr.isatty() else None
    try:
        findings = sweep(
            space,
            reductions,
            out=out,
            resume=options.resume,
            shard=shard,
            chunk=min(CHUNK, max(_LEAST, math.ceil(space.size / shard[1] / _STEPS))),
            sharpness=sharpness_of(options.sharpness),
            reducer=on_ray(options.address) if options.engine == "ray" else None,
            progress=progress,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"; go on with: {_again(options, (out / MANIFEST).exists())}"
        ) from None
    finally:
        if progress is not None:
            progress.close()
    return summary(findings, options.out, whole=shard[1] == 1)


def run_merge(options: argparse.Namespace) -> tuple[str, Any]:
    """Merge the shards of a sweep: text and JSON."""
    cache_compilations()
    first, out = Path(options.folders[0]), Path(options.out)
    space, reductions = sweep_in(first)
    findings = merge(space, reductions, options.folders, out)
    for name in (COPY, ORIGIN):
        write_text(out / name, (first / name).read_text(encoding="utf-8"))
    return summary(findings, options.out, whole=True)


def sweep_in(folder: Path) -> SpaceFile:
    """The space and the reductions of the sweep that `diffgenz sweep` has put in `folder`.

    Raises:
        InputError: there is none, or a model or system that it names by its path is no longer there.
    """
    read_manifest(folder)
    try:
        origin = json.loads((folder / ORIGIN).read_text())
    except (OSError, ValueError):
        raise InputError(
            f"{folder}: has no readable {ORIGIN}; it is not one of `diffgenz sweep`: use diffgenz.findings_in from Python"
        ) from None
    return load_space(folder / COPY, n=origin["n"], folder=Path(origin["folder"]))


def read_findings(folder: Path) -> Findings:
    """What the sweep in `folder` has found so far."""
    return findings_in(*sweep_in(folder), folder)


def summary(findings: Findings, out: str, whole: bool) -> tuple[str, Any]:
    """What a sweep came to: text and JSON.

    Raises:
        NoSolution: nothing of the `whole` space is feasible.
    """
    space, tally = findings.space, findings.tally
    said = (
        f"{tally.tried:,} configurations tried, {tally.legal:,} legal, {tally.feasible:,} feasible"
    )
    said += f"; {tally.broken:,} are not finite" if tally.broken else ""
    if whole and not tally.feasible:
        constraints = "; ".join(expression.text for expression in space.constraints)
        raise NoSolution(
            f"nothing is feasible: {said} ({constraints}); loosen a constraint, or widen an axis; saved in {out}"
        )
    kept = {name: _kept(findings, name) for name in findings.reductions}
    lines = [said]
    for name, entry in kept.items():
        lines.append(f"{name}: {entry['kind']}, {_of_kind(entry)}")
        if entry["overflow"]:
            lines.append(overflow_warning(name, entry["overflow"]))
    shows = next((name for name, entry in kept.items() if entry["kind"] != "rows"), None)
    lines.append(
        f"saved in {out}"
        + (f"; look at it with: diffgenz pareto {shlex.quote(out)} --keep {shows}" if shows else "")
    )
    return "\n".join(lines), {
        "size": space.size,
        "tally": tally._asdict(),
        "kept": kept,
        "out": out,
    }


def overflow_warning(name: str, overflow: int) -> str:
    """What to say of a front that is not exact."""
    return f"warning: {name}: {overflow:,} points did not fit, the front is not exact; give [keep.{name}] a larger capacity and sweep again"


def _kept(findings: Findings, name: str) -> dict[str, Any]:
    reduction, state = findings.reductions[name], findings.state(name)
    if isinstance(reduction, Histogram):
        count = int(state["counts"].sum())
    else:
        count = int(state["count"]) if "count" in state else len(findings.indices(name))
    return {
        "kind": type(reduction).__name__.lower(),
        "count": count,
        "overflow": findings.overflow(name),
    }


def _of_kind(entry: dict[str, Any]) -> str:
    words = {
        "pareto": "points",
        "top": "configurations",
        "best": "cells",
        "histogram": "configurations",
        "rows": "rows",
    }
    return f"{entry['count']:,} {words[entry['kind']]}"


class _Line:
    """The line of progress on stderr, written over itself on a terminal."""

    def __init__(self, reductions: dict[str, Reduction], space: Space):
        self.fronts = [
            place
            for place, reduction in enumerate(reductions.values())
            if isinstance(reduction, Pareto)
        ]
        self.over = sys.stderr.isatty()
        self.write(
            f"{space.size:,} configurations, {space.variant_count:,} program{'s' * (space.variant_count > 1)}; compiling"
        )

    def __call__(self, pace: Pace) -> None:
        points = sum(len(pace.outcome.states[place]["indices"]) for place in self.fronts)
        front = f", front {points:,}" if self.fronts else ""
        left = f"{_duration(pace.seconds_left)} left" if pace.done < pace.total else "done"
        self.write(
            f"{100 * pace.done / pace.total:5.1f} %  {pace.done:,} of {pace.total:,}, {pace.rate:,.0f}/s, {left}{front}"
        )

    def write(self, text: str) -> None:
        print(
            f"\r{text:<100}" if self.over else text,
            end="" if self.over else "\n",
            file=sys.stderr,
            flush=True,
        )

    def close(self) -> None:
        if self.over:
            print(file=sys.stderr)


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes:02d} min"
        if hours
        else f"{minutes} min {rest:02d} s"
        if minutes
        else f"{rest} s"
    )


def _shard(text: str) -> tuple[int, int]:
    first, slash, last = text.partition("/")
    if not (slash and first.isdigit() and last.isdigit()):
        raise InputError(f"--shard: {text!r} is not i/n; write 1/4 for the first of four")
    return int(first), int(last)


def _again(options: argparse.Namespace, begun: bool) -> str:
    """The command that goes on with an interrupted sweep."""
    words = ["diffgenz", "sweep", options.space, "--out", options.out]
    for name in ("n", "engine", "address", "shard", "sharpness"):
        value = getattr(options, name)
        if value != DEFAULTS[name]:
            words += [f"--{name}", f"{value:.0f}" if name == "n" else str(value)]
    return shlex.join([*words, *(["--resume"] if begun else [])])


DEFAULTS = {"n": None, "engine": "local", "address": None, "shard": "1/1", "sharpness": "8"}
"""Of the flags that make a sweep what it is."""
