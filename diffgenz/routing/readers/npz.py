"""Traces and counts in .npz files: this package's own format, and arrays of similar names.

The format is in docs/routing.md. `Trace.save` writes it.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.routing.readers.archive import Archive
from diffgenz.routing.readers.reader import BLOCK, Asked, Reader, experts_of, routed
from diffgenz.routing.trace import FORMAT, PREFILL, Counts, Trace

CHOSEN = ("chosen", "expert", "experts", "topk_ids", "routed_experts", "expert_ids", "indices")
"""How the array of chosen experts is called, the first that has three dimensions."""

COUNTS = ("counts", "logical_count", "expert_counts", "load", "weight")
"""How an array of counts is called."""

NAMES = {
    "request": ("request", "request_id", "prompt", "prompt_id", "sample"),
    "phase": ("phase", "is_decode"),
    "domain": ("domain", "category", "task"),
    "weights": ("weights", "topk_weights", "gates"),
    "rank": ("rank", "dp_rank"),
    "step": ("step", "forward_pass_id"),
}
"""How the other arrays are called."""


def knows(path: Path) -> bool:
    """Whether it is a zip archive of arrays."""
    if path.suffix == ".npz":
        return True
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        names = file.namelist()
    return bool(names) and all(name.endswith(".npy") for name in names)


def read(path: Path, asked: Asked) -> Iterator[Trace | Counts]:
    """The tokens of a trace, some at a time; or the counts.

    Raises:
        InputError: it holds neither, or is damaged.
    """
    archive = Archive(path)
    name = next((n for n in CHOSEN if len(archive.shapes.get(n, ())) == 3), None)
    if name is None:
        yield _counts(archive, asked)
        return
    fields = _fields(archive)
    tokens, layers, k = archive.shapes[name]
    own = "format" in archive
    if archive.types[name].kind not in "iu":
        raise InputError(f"{path}: {name!r} holds {archive.types[name]}; give integers")
    for field, array in fields.items():
        if len(array) != tokens:
            raise InputError(f"{path}: {field!r} has {len(array)} rows, {name!r} has {tokens}")
    order = _together(fields["request"])
    rows = max(BLOCK // max(layers * k, 1), 1) if order is None else max(tokens, 1)
    declared = int(archive.whole("experts")) if own else None
    if declared is None and asked.experts is None:
        largest = max((int(b.max(initial=0)) for b in archive.blocks(name, rows)), default=0)
        declared = max(largest + 1, k)
    indices = archive.whole("layers") if "layers" in archive else np.arange(layers)
    weights = next((n for n in NAMES["weights"] if n in archive), None)
    gates = archive.blocks(weights, rows) if weights else None
    common: dict[str, Any] = {
        "domains": _domains(archive, fields),
        "model": str(archive.whole("model")) if "model" in archive else None,
    }
    first = 0
    for block in archive.blocks(name, rows):
        part: Any = slice(first, first + len(block))
        own_weights = next(gates) if gates is not None else None
        if order is not None:
            part, block = order, block[order]
            own_weights = None if own_weights is None else own_weights[order]
        if block.dtype.kind == "i" and block.size and block.min() < 0:
            block, indices, mask = routed(block, np.asarray(indices))
            part = np.arange(first, first + len(mask))[mask]
        yield Trace(
            experts=experts_of(block, asked, declared),
            layers=tuple(int(i) for i in indices),
            chosen=block,
            weights=own_weights,
            **{field: array[part] for field, array in fields.items()},
            **common,
        )
        first += len(block)


def _fields(archive: Archive) -> dict[str, np.ndarray]:
    """What stands beside the chosen experts, by the names of `Trace`."""
    found: dict[str, np.ndarray] = {}
    for field, names in NAMES.items():
        name = next((n for n in names if n in archive), None)
        if name is not None and field != "weights":
            found[field] = archive.whole(name)
    tokens = next(archive.shapes[n][0] for n in CHOSEN if len(archive.shapes.get(n, ())) == 3)
    found.setdefault("request", np.zeros(tokens, np.int32))
    # Without phases these are the tokens of prompts, of which collections are made most easily.
    found.setdefault("phase", np.full(tokens, PREFILL))
    if found["phase"].dtype.kind in "US":
        found["phase"] = np.array([str(p).lower().startswith("d") for p in found["phase"]], np.int8)
    if found["request"].dtype.kind in "US":
        found["request"] = np.unique(found["request"], return_inverse=True)[1]
    return found


def _domains(archive: Archive, fields: dict[str, np.ndarray]) -> tuple[str, ...]:
    """The names of the domains; those written per token become indices."""
    domain = fields.get("domain")
    if domain is not None and domain.dtype.kind in "US":
        names, fields["domain"] = np.unique(domain, return_inverse=True)
        return tuple(map(str, names))
    if "domains" in archive:
        return tuple(str(name) for name in archive.whole("domains"))
    return ("all",) if domain is None else tuple(map(str, range(int(domain.max(initial=0)) + 1)))


def _together(request: np.ndarray) -> np.ndarray | None:
    """The order that brings the tokens of each request together; None where they are."""
    starts = np.count_nonzero(request[1:] != request[:-1]) + 1
    return np.argsort(request, kind="stable") if starts > len(np.unique(request)) else None


def _counts(archive: Archive, asked: Asked) -> Counts:
    """The counts of a file without tokens."""
    name = next((n for n in COUNTS if len(archive.shapes.get(n, ())) in (2, 3)), None)
    if name is None:
        raise InputError(
            f"{archive.path}: has {', '.join(archive.shapes) or 'no arrays'}; a trace has "
            f"{CHOSEN[0]!r} [tokens, layers, k], counts have {COUNTS[0]!r} "
            "[groups, layers, experts]"
        )
    counts = archive.whole(name)
    counts = counts[None] if counts.ndim == 2 else counts
    groups = archive.whole("groups") if "groups" in archive else np.arange(len(counts))
    by = str(archive.whole("by")) if "by" in archive else "step" if len(counts) > 1 else "all"
    return Counts(
        counts=counts,
        groups=tuple(map(str, groups)),
        by=by,
        layers=tuple(int(i) for i in archive.whole("layers"))
        if "layers" in archive
        else tuple(range(counts.shape[1])),
        k=asked.k,
    )


READERS = (Reader(f"a trace in .npz ({FORMAT})", knows, read, declares=True),)
