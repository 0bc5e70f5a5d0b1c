"""A plain CSV of one's own measurements: family, format, source, the fields of the family's shape, and one column of latencies.

Columns that a row's family does not have stay empty. `kernel` may be left out, `moved` of gemm and batched (it follows from the format), and what has
a default.
"""

from pathlib import Path
from typing import Any

import numpy as np

from diffgenz.calibrating.readers.frames import frame_of, numbers, rows_where, words
from diffgenz.calibrating.readers.products import gemm_moved, sizes
from diffgenz.calibrating.readers.reader import Layout, has
from diffgenz.calibrating.samples import Samples
from diffgenz.core.errors import InputError, unknown
from diffgenz.core.formats import FORMATS
from diffgenz.kernels.families import FAMILIES, form_of

UNITS = {"latency_s": 1.0, "latency_ms": 1e-3, "latency_us": 1e-6}
WORDS = ("family", "format", "source")
EXAMPLE = "family,format,source,m,n,k,latency_us\ngemm,bf16,mine-1.0,4096,4096,4096,229.5"


def plain(path: Path) -> list[Samples]:
    """The samples of a plain CSV, by family, format, source and kernel."""
    frame = frame_of(path)
    latency = _latency(list(frame.columns), path)
    for column in WORDS:
        if column not in frame:
            raise InputError(
                f"{path}: column {column!r} is missing; a plain CSV has {', '.join(WORDS)}, a shape and a latency"
            )
        empty = np.flatnonzero(words(frame, column) == "nan")
        if len(empty):
            raise InputError(
                f"{path}: column {column!r}, row {empty[0] + 1}: it is empty; every row must say its {column}"
            )
    kernels = words(frame, "kernel") if "kernel" in frame else np.full(len(frame), "nan")
    keys = np.array(
        [*(words(frame, column) for column in WORDS), np.where(kernels == "nan", "", kernels)]
    )
    found = []
    for key in np.unique(keys, axis=1).T:
        family, format, source, kernel = (str(word) for word in key)
        rows = rows_where(frame, (keys == key[:, None]).all(axis=0))
        if family not in FAMILIES:
            raise unknown(f"{path}: column 'family'", family, FAMILIES)
        for part in format.split("/"):
            if part not in FORMATS:
                raise unknown(f"{path}: column 'format'", part, FORMATS)
        (seconds,) = numbers(rows, (latency,), path)
        form = form_of(family, format)
        found.append(
            Samples(
                form,
                family,
                format,
                source,
                kernel,
                _shape(form.Shape, family, format, rows, path),
                seconds * UNITS[latency],
            )
        )
    if not found:
        raise InputError(f"{path}: it has no rows; add measurements below the header")
    return found


def _latency(columns: list[str], path: Path) -> str:
    given = [unit for unit in UNITS if unit in columns]
    if len(given) != 1:
        raise InputError(
            f"{path}: it has {' and '.join(given) or 'no latency'}; give exactly one of {', '.join(UNITS)}"
        )
    fields = {field for form in FAMILIES.values() for field in form.Shape._fields}
    for column in columns:
        if column not in fields | {*WORDS, "kernel", *given}:
            raise unknown(f"{path}: column", column, fields | {"kernel"})
    return given[0]


def _shape(shape: Any, family: str, format: str, rows: Any, path: Path) -> Any:
    """The shape of rows of one family; `shape`: its type."""
    filled = {field for field in shape._fields if field in rows and rows[field].notna().any()}
    follows = {"moved"} if family in ("gemm", "batched") else set()
    for field in shape._fields:
        if field not in filled | follows | shape._field_defaults.keys():
            raise InputError(
                f"{path}: column {field!r} is missing or empty; {family} has {', '.join(shape._fields)}"
            )
    columns: dict[str, Any] = {
        field: np.full(len(rows), default) for field, default in shape._field_defaults.items()
    }
    columns |= dict(zip(filled, numbers(rows, tuple(filled), path), strict=True))
    if follows and "moved" not in columns:
        m, n, k = (columns[name] for name in "mnk")
        columns["moved"] = (
            gemm_moved(m, n, k, format)
            if family == "gemm"
            else sizes(format)[0] * columns["groups"] * n * k
        )
    return shape(**columns)


LAYOUTS = (Layout("a plain CSV", has("family", "format"), plain),)
