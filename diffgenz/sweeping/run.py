"""`sweep`: a space and what to keep of it in, the findings out; interrupted and resumed, in shards, on one machine or many."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffgenz.errors import InputError
from diffgenz.smooth import SHARPNESS, check_sharpness
from diffgenz.sweeping.checkpoint import MANIFEST, Progress, check_same, load, manifest_of, read_manifest, save, write_manifest
from diffgenz.sweeping.engine import BATCH, Engine, Outcome
from diffgenz.sweeping.findings import Findings
from diffgenz.sweeping.reductions import Reduction
from diffgenz.sweeping.space import Space

CHUNK = 2**23
"""Configurations between two checkpoints, and of one task on another machine."""


class Pace(NamedTuple):
    """How a sweep is getting on: configurations done and to do, and configurations/s since it began or was resumed."""

    done: int
    total: int
    rate: float
    outcome: Outcome

    @property
    def seconds_left(self) -> float:
        """At this rate."""
        return (self.total - self.done) / self.rate if self.rate else float("inf")


Chunks = Iterator[tuple[int, Outcome]]
"""Chunk numbers with what each came to, in any order."""

Reducer = Callable[[Engine, list[tuple[int, int, int]], Outcome], Chunks]
"""Reduces chunks (number, start, stop), given what is known."""


def sweep(
    space: Space,
    reductions: Mapping[str, Reduction],
    *,
    out: str | Path | None = None,
    resume: bool = False,
    shard: tuple[int, int] = (1, 1),
    chunk: int = CHUNK,
    batch: int = BATCH,
    sharpness: float = SHARPNESS,
    reducer: "Reducer | None" = None,
    progress: Callable[[Pace], Any] | None = None,
) -> Findings:
    """Estimate every configuration of `space` and keep what `reductions` say.

    Arguments:
        reductions: by a name of your choice.
        out: a folder for the manifest and a checkpoint after every chunk; None: nothing is written.
        resume: go on from the checkpoint there, which must be of the same sweep.
        shard: (i, n): only the i-th of n equal ranges; merge the folders of all with `merge`.
        chunk: configurations between checkpoints. batch: configurations of one call to one device. sharpness: of the estimates.
        reducer: what reduces the chunks; default: this process. See `on_ray`.
        progress: called after every chunk.

    The result does not depend on shards, chunks, batches, interruptions or the order of anything (but for a front that overflows, which it says).

    Raises:
        InputError: a folder that holds another sweep, or one without `resume`; a damaged checkpoint; a disk that is full; a shard that is not one.
    """
    check_sharpness(sharpness)
    number, shards = shard
    if not 1 <= number <= shards:
        raise InputError(f"shard: {number} of {shards} is not possible; number them from 1 to {shards}")
    if chunk < 1:
        raise InputError(f"chunk: {chunk} is not allowed; it must be at least 1")
    start, stop = space.size * (number - 1) // shards, space.size * number // shards
    engine = Engine(space, tuple(reductions.values()), batch=batch, sharpness=sharpness)
    bounds = [(index, at, min(at + chunk, stop)) for index, at in enumerate(range(start, stop, chunk))]
    state = Progress(np.zeros(len(bounds), bool), engine.start())
    folder = None if out is None else Path(out)
    if folder is not None:
        manifest = manifest_of(space, dict(reductions), start, stop, chunk, sharpness)
        state = _prepared(folder, manifest, resume, len(reductions)) or state
    begun, done_before = time.perf_counter(), state.outcome.tally.tried
    waiting = [bound for bound, done in zip(bounds, state.done, strict=True) if not done]
    for index, outcome in (reducer or in_turn)(engine, waiting, state.outcome):
        state.done[index] = True
        state = Progress(state.done, outcome if reducer is None else engine.merge(state.outcome, outcome))
        if folder is not None:
            save(folder, state)
        if progress is not None:
            done = state.outcome.tally.tried
            progress(Pace(done, stop - start, (done - done_before) / max(time.perf_counter() - begun, 1e-9), state.outcome))
    return Findings(space, dict(reductions), state.outcome, sharpness)


def in_turn(engine: Engine, chunks: list[tuple[int, int, int]], known: Outcome) -> Chunks:
    """One chunk after the other, in this process: each adds to what is known."""
    for index, start, stop in chunks:
        known = engine.reduce(start, stop, known)
        yield index, known


def _prepared(folder: Path, manifest: dict[str, Any], resume: bool, reductions: int) -> Progress | None:
    """What the folder holds of the sweep already; makes it one of this sweep where it is new."""
    if (folder / MANIFEST).exists():
        check_same(manifest, read_manifest(folder), folder)
        if not resume:
            raise InputError(f"out: {folder} holds this sweep already; resume it, or choose another folder")
        return load(folder, reductions)
    if resume:
        raise InputError(f"resume: {folder} holds no sweep to go on with; leave --resume out to begin one")
    write_manifest(folder, manifest)
    return None
