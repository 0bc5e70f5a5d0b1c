"""`sweep`: a space and what to keep of it in, the findings out.

A sweep may be interrupted and resumed, cut into shards, and run on one machine or many.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffgenz.core.checks import demand
from diffgenz.core.errors import InputError
from diffgenz.studies.sweep.checkpoint import (
    MANIFEST,
    Progress,
    check_same,
    load,
    manifest_of,
    read_manifest,
    save,
    write_manifest,
)
from diffgenz.studies.sweep.engine import BATCH, Engine, Outcome
from diffgenz.studies.sweep.findings import Findings
from diffgenz.studies.sweep.reductions.reduction import Reduction
from diffgenz.studies.sweep.reductions.rows import Rows
from diffgenz.studies.sweep.space import Space

CHUNK = 2**23
"""Configurations from one checkpoint to the next, and of one task on another machine."""


class Pace(NamedTuple):
    """How a sweep is getting on.

    Arguments:
        done: configurations done.
        total: configurations of the whole.
        rate: configurations/s since it began or was resumed.
        outcome: what they came to so far.
    """

    done: int
    total: int
    rate: float
    outcome: Outcome

    @property
    def seconds_left(self) -> float:
        """s until it is done at this rate."""
        return (self.total - self.done) / self.rate if self.rate else float("inf")


Chunks = Iterator[tuple[int, Callable[[Outcome], Outcome]]]
"""Chunk numbers in any order, each with a function that adds the chunk's outcome to another."""

Reducer = Callable[[Engine, list[tuple[int, int, int]]], Chunks]
"""Where and how chunks (number, start, stop) are reduced."""


def sweep(
    space: Space,
    reductions: Mapping[str, Reduction],
    *,
    out: str | Path | None = None,
    resume: bool = False,
    shard: tuple[int, int] = (1, 1),
    chunk: int = CHUNK,
    batch: int = BATCH,
    reducer: "Reducer | None" = None,
    progress: Callable[[Pace], Any] | None = None,
) -> Findings:
    """Estimate every configuration of a space and keep what was asked for.

    The result does not depend on shards, chunks, interruptions or the order of anything, to the
    bit. The one exception is a front that overflows, and it says that it does. Another batch or
    number of devices is another program, which may round the last bit of a metric differently.

    Arguments:
        space: the configurations.
        reductions: what to keep of them, by names of your choice.
        out: a folder for the manifest and a checkpoint after every chunk; None: nothing is written.
        resume: whether to go on from the checkpoint there, which must be of the same sweep.
        shard: (i, n) for only the i-th of n equal ranges, counted from 1; `merge` joins the folders
            of all.
        chunk: configurations between checkpoints.
        batch: configurations of one call to one device.
        reducer: what reduces the chunks, see `on_ray`. Default: this process.
        progress: called after every chunk.

    Raises:
        InputError: a folder that holds another sweep, or this one while `resume` is false; a
            damaged checkpoint; a disk that is full; a shard that is not one.
    """
    demand("space", space, Space, "Space(scenario, axes)")
    _check(reductions, out, shard, chunk)
    number, shards = shard
    start, stop = space.size * (number - 1) // shards, space.size * number // shards
    engine = Engine(space, tuple(reductions.values()), batch=batch)
    bounds = [
        (index, at, min(at + chunk, stop)) for index, at in enumerate(range(start, stop, chunk))
    ]
    state = Progress(np.zeros(len(bounds), bool), engine.start())
    engine.check_names()
    folder = None if out is None else Path(out)
    if folder is not None:
        manifest = manifest_of(space, dict(reductions), start, stop, chunk)
        state = _prepared(folder, manifest, resume, len(reductions)) or state
        if not bounds:
            save(folder, state)  # a shard of nothing is finished too
    begun, done_before = time.perf_counter(), state.outcome.tally.tried
    waiting = [bound for bound, done in zip(bounds, state.done, strict=True) if not done]
    for index, added_to in (reducer or in_turn)(engine, waiting):
        outcome = added_to(state.outcome)
        state.done[index] = True
        state = Progress(state.done, outcome)
        if folder is not None:
            outcome = _finished(reductions, outcome, folder, index)
            state = Progress(state.done, outcome)
            save(folder, state)
        if progress is not None:
            done = outcome.tally.tried
            rate = (done - done_before) / max(time.perf_counter() - begun, 1e-9)
            progress(Pace(done, stop - start, rate, outcome))
    return Findings(space, dict(reductions), state.outcome)


def _check(
    reductions: Mapping[str, Reduction],
    out: str | Path | None,
    shard: tuple[int, int],
    chunk: int,
) -> None:
    for name, reduction in reductions.items():
        demand(f"reductions[{name}]", reduction, Reduction, "Pareto(...), Top(...) or another")
    number, shards = shard
    if out is None and any(isinstance(reduction, Rows) for reduction in reductions.values()):
        raise InputError("rows: they are written to a folder; give out")
    if not reductions:
        raise InputError("reductions: none; say what to keep")
    if not 1 <= number <= shards:
        raise InputError(
            f"shard: {number} of {shards} is not possible; number them from 1 to {shards}"
        )
    if chunk < 1:
        raise InputError(f"chunk: {chunk} is not allowed; it must be at least 1")


def _finished(
    reductions: Mapping[str, Reduction], outcome: Outcome, folder: Path, chunk: int
) -> Outcome:
    """The outcome after a chunk, what need not be held having been written to the folder."""
    states = (
        reduction.finish(state, folder / f"{name}-{chunk:06d}")
        for (name, reduction), state in zip(reductions.items(), outcome.states, strict=True)
    )
    return Outcome(outcome.tally, tuple(states))


def in_turn(engine: Engine, chunks: list[tuple[int, int, int]]) -> Chunks:
    """One chunk after the other, in this process."""
    for index, start, stop in chunks:
        yield index, partial(engine.reduce, start, stop)


def merge(
    space: Space,
    reductions: Mapping[str, Reduction],
    folders: str | Path | Sequence[str | Path],
    out: str | Path,
) -> Findings:
    """The findings of a sweep that was cut into shards, saved like those of one in one piece.

    Arguments:
        space: as of the shards.
        reductions: as of the shards.
        folders: of the shards, in any order, or one of them.
        out: a new folder, or one that holds the same sweep.

    Raises:
        InputError: shards of different sweeps, or one that is missing, unfinished, damaged or
            there twice.
    """
    demand("space", space, Space, "Space(scenario, axes)")
    places = [Path(each) for each in ([folders] if isinstance(folders, str | Path) else folders)]
    if not places:
        raise InputError("merge: no shards; name their folders")
    manifests = [read_manifest(place) for place in places]
    whole = manifest_of(space, dict(reductions), 0, space.size, space.size)
    for place, manifest in zip(places, manifests, strict=True):
        check_same(whole, manifest, place, apart=("start", "stop", "chunk"))
        check_same(manifests[0], manifest, place, apart=("start", "stop", "chunk"))
    engine = Engine(space, tuple(reductions.values()))
    outcome, reached = engine.start(), 0
    shards = zip(manifests, places, strict=True)
    for manifest, place in sorted(shards, key=lambda pair: pair[0]["start"]):
        if manifest["start"] != reached:
            what = "is missing" if manifest["start"] > reached else "is there twice"
            low, high = sorted((reached, manifest["start"]))
            raise InputError(
                f"merge: the range from {low} to {high} {what}; merge every shard once"
            )
        state = load(place, len(reductions))
        if state is None or not state.done.all():
            raise InputError(f"merge: the shard in {place} is not finished; resume it first")
        outcome, reached = engine.merge(outcome, state.outcome), manifest["stop"]
    if reached != space.size:
        raise InputError(
            f"merge: the range from {reached} to {space.size} is missing; merge every shard once"
        )
    folder = Path(out)
    manifest = manifests[0] | {"start": 0, "stop": space.size, "chunk": space.size}
    if (folder / MANIFEST).exists():
        check_same(manifest, read_manifest(folder), folder)
    write_manifest(folder, manifest)
    save(folder, Progress(np.ones(1, bool), outcome))
    return Findings(space, dict(reductions), outcome)


def findings_in(space: Space, reductions: Mapping[str, Reduction], folder: str | Path) -> Findings:
    """What the sweep in `folder` has found so far.

    Raises:
        InputError: it holds no sweep, or another one, or a damaged one.
    """
    demand("space", space, Space, "Space(scenario, axes)")
    place = Path(folder)
    manifest = read_manifest(place)
    check_same(
        manifest_of(space, dict(reductions), 0, space.size, 1),
        manifest,
        place,
        apart=("start", "stop", "chunk"),
    )
    state = load(place, len(reductions))
    outcome = Engine(space, tuple(reductions.values())).start() if state is None else state.outcome
    return Findings(space, dict(reductions), outcome)


def _prepared(
    folder: Path, manifest: dict[str, Any], resume: bool, reductions: int
) -> Progress | None:
    """How far the sweep in a folder is already; a new folder becomes one of this sweep."""
    if (folder / MANIFEST).exists():
        check_same(manifest, read_manifest(folder), folder)
        if not resume:
            raise InputError(
                f"out: {folder} holds this sweep already; resume it, or choose another folder"
            )
        return load(folder, reductions)
    if resume:
        raise InputError(
            f"resume: {folder} holds no sweep to go on with; leave --resume out to begin one"
        )
    write_manifest(folder, manifest)
    return None
