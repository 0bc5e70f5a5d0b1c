"""A sweep on disk.

`manifest.json` says what it is, `checkpoint.npz` how far it has come and with what. Both are
written aside, then renamed.
"""

import hashlib
import io
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.core.files import written_aside
from diffgenz.studies.sweep.engine import Outcome, Tally
from diffgenz.studies.sweep.reductions.reduction import Reduction
from diffgenz.studies.sweep.space import Space

MANIFEST, CHECKPOINT = "manifest.json", "checkpoint.npz"


class Progress(NamedTuple):
    """How far a sweep is.

    Arguments:
        done: whether each chunk is done, shape (chunks,).
        outcome: what those came to that are.
    """

    done: np.ndarray
    outcome: Outcome


def manifest_of(
    space: Space,
    reductions: dict[str, Reduction],
    start: int,
    stop: int,
    chunk: int,
) -> dict[str, Any]:
    """What makes a sweep the same sweep, the versions that compute it among it.

    Arguments:
        space: what is swept.
        reductions: what is kept of it.
        start: the first index of its range.
        stop: the index after the last.
        chunk: configurations between checkpoints.
    """
    return {
        "space": space.description(),
        "reductions": {name: repr(reduction) for name, reduction in reductions.items()},
        "versions": {name: version(name) for name in ("diffgenz", "jax")},
        "size": space.size,
        "start": start,
        "stop": stop,
        "chunk": chunk,
    }


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest in `folder`.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    try:
        return json.loads((folder / MANIFEST).read_text())
    except FileNotFoundError:
        raise InputError(f"{folder}: holds no sweep; there is no {MANIFEST} in it") from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder / MANIFEST}: cannot be read ({error}); "
            "start the sweep again in another folder"
        ) from None


def check_same(
    mine: dict[str, Any], other: dict[str, Any], folder: Path, *, apart: tuple[str, ...] = ()
) -> None:
    """Raise `InputError` where two manifests differ; it names the first difference.

    Arguments:
        mine: of this sweep.
        other: of the sweep in `folder`.
        folder: where that one lies.
        apart: entries in which they may differ.
    """
    for key in mine:
        if key not in apart and mine[key] != other.get(key):
            ours, theirs = _difference(mine[key], other.get(key))
            raise InputError(
                f"{folder}: holds another sweep: its {key} has {theirs}, this one {ours}; "
                "choose another folder, or repeat the same"
            )


def _difference(mine: Any, other: Any) -> tuple[str, str]:
    if isinstance(mine, dict) and isinstance(other, dict):
        for key in sorted({*mine, *other}):
            if mine.get(key) != other.get(key):
                return f"{key} = {mine.get(key)!r}", f"{key} = {other.get(key)!r}"
    return repr(mine), repr(other)


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest.

    Raises:
        InputError: the folder cannot be written.
    """
    write_text(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file, aside first, into a folder that is made where it is missing.

    Raises:
        InputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"out: {path.parent} cannot be made: {error.strerror}; choose another place"
        ) from None
    _write(path, text.encode())


def save(folder: Path, progress: Progress) -> None:
    """Write the checkpoint, with a digest of itself.

    Raises:
        InputError: it cannot be written; the one before stands.
    """
    arrays = {
        "done": np.packbits(progress.done),
        "chunks": np.asarray(len(progress.done)),
        "tally": np.asarray(progress.outcome.tally, np.int64),
    }
    for number, state in enumerate(progress.outcome.states):
        arrays |= {f"{number}.{name}": array for name, array in state.items()}
    buffer = io.BytesIO()
    np.savez(buffer, digest=np.asarray(_digest(arrays)), **arrays)  # pyright: ignore[reportArgumentType]
    _write(folder / CHECKPOINT, buffer.getvalue())


def load(folder: Path, reductions: int) -> Progress | None:
    """The checkpoint in `folder`, or None where there is none yet.

    Raises:
        InputError: it is damaged.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes())) as file:
            arrays = {name: file[name] for name in file.files}
        digest = str(arrays.pop("digest"))
        states: list[dict[str, np.ndarray]] = [{} for _ in range(reductions)]
        for name, array in arrays.items():
            number, _, field = name.partition(".")
            if field:
                states[int(number)][field] = array
        done = np.unpackbits(arrays["done"], count=int(arrays["chunks"])).astype(bool)
        intact = digest == _digest(arrays)
    except Exception as error:  # zipfile and numpy have a dozen, one for each kind of damage
        raise InputError(
            f"{path}: is damaged ({type(error).__name__}); delete it to begin again from the start"
        ) from None
    if not intact:
        raise InputError(
            f"{path}: is damaged (its digest does not match); "
            "delete it to begin again from the start"
        )
    return Progress(done, Outcome(Tally(*arrays["tally"].tolist()), tuple(states)))


def _digest(arrays: dict[str, np.ndarray]) -> str:
    total = hashlib.sha256()
    for name in sorted(arrays):
        total.update(
            f"{name} {arrays[name].dtype} {arrays[name].shape} ".encode()
            + np.ascontiguousarray(arrays[name]).tobytes()
        )
    return total.hexdigest()


def _write(path: Path, content: bytes) -> None:
    remedy = "what was saved before stands: make room, then resume"
    with written_aside(path, "out", remedy) as aside, aside.open("wb") as file:
        file.write(content)
        file.flush()
        # The name must not be there before the content, should the machine stop.
        os.fsync(file.fileno())
