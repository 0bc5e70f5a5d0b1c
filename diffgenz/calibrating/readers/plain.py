"""A plain CSV of one's own measurements.

Its columns are family, format, source, the fields of the family's shape, and a latency. Columns
that a row's family does not have stay empty. `kernel` may be left out, and so may `moved` of gemm
and batched, which follows from the format, `window` of attention, and fields that have a default.
A `window` that is empty, 0 or negative is none: the query attends to all keys. One that is longer
than the sequence is a kernel's of its own.
"""

from pathlib import Path
from typing import Any

import numpy as np

from diffgenz.calibrating.readers.csv_table import CsvTable, read_csv
from diffgenz.calibrating.readers.products import batched_moved, gemm_moved
from diffgenz.calibrating.readers.reader import Layout, has
from diffgenz.calibrating.samples import Samples
from diffgenz.core.errors import InputError, unknown
from diffgenz.core.formats import format_named
from diffgenz.kernels.families import FAMILIES, family_named
from diffgenz.kernels.form import Form
from diffgenz.kernels.kernel_format import KernelFormat
from diffgenz.kernels.shapes import BatchedShape, DecodeShape, GemmShape, PrefillShape

UNITS = {"latency_s": 1.0, "latency_ms": 1e-3, "latency_us": 1e-6}
"""Seconds of each column of latencies that a file may have."""

WORDS = ("family", "format", "source")
"""Columns of words that every file has."""

MOVED = {
    GemmShape: lambda shape, format: gemm_moved(shape.m, shape.n, shape.k, format),
    BatchedShape: lambda shape, format: batched_moved(shape.n, shape.k, shape.groups, format),
}
"""The bytes that shapes move, where they follow from the others of its fields and the format."""

WINDOWED: tuple[Any, ...] = (PrefillShape, DecodeShape)
"""Shapes that may have a window."""

EXAMPLE = "family,format,source,m,n,k,latency_us\ngemm,bf16,mine-1.0,4096,4096,4096,229.5"
"""A file of one row."""


def plain(path: Path) -> list[Samples]:
    """The samples of a plain CSV, by family, format, source and kernel."""
    table = read_csv(path)
    latency = _latency(list(table.columns), path)
    for column in WORDS:
        if column not in table:
            raise InputError(
                f"{path}: column {column!r} is missing; "
                f"a plain CSV has {', '.join(WORDS)}, a shape and a latency"
            )
        empty = np.flatnonzero(table.words(column) == "")
        if len(empty):
            raise InputError(
                f"{path}: column {column!r}, row {table.lines[empty[0]]}: it is empty; "
                f"every row must say its {column}"
            )
    keys = np.array([table.words(column) for column in (*WORDS, "kernel")])
    found = []
    for key in sorted(set(zip(*keys, strict=True))):
        family, format, source, kernel = (str(word) for word in key)
        rows = table.where((keys == np.array(key, object)[:, None]).all(axis=0))
        form = family_named(family, f"{path}: column 'family'").form_in(format)
        for part in KernelFormat.of(format):
            format_named(part, f"{path}: column 'format'")
        seconds, shape = rows.numbers(latency) * UNITS[latency], _shape(form, family, format, rows)
        found.append(Samples.of(family, format, source, kernel, shape, seconds))
    if not found:
        raise InputError(f"{path}: it has no rows; add measurements below the header")
    return found


def _latency(columns: list[str], path: Path) -> str:
    """The column of latencies."""
    given = [unit for unit in UNITS if unit in columns]
    if len(given) != 1:
        raise InputError(
            f"{path}: it has {' and '.join(given) or 'no latency'}; "
            f"give exactly one of {', '.join(UNITS)}"
        )
    fields = {field for family in FAMILIES.values() for field in family.form.Shape._fields}
    for column in columns:
        if column not in fields | {*WORDS, "kernel", *given}:
            raise unknown(f"{path}: column", column, fields | {"kernel"})
    return given[0]


def _shape(form: type[Form], family: str, format: str, rows: CsvTable) -> Any:
    """The shape, of the class that `form` is fitted to, that the rows of one family have."""
    shape = form.Shape
    filled = {field for field in shape._fields if any(rows.words(field))}
    follows = {name for name, of in (("moved", MOVED), ("window", WINDOWED)) if shape in of}
    for field in shape._fields:
        if field not in filled | follows | shape._field_defaults.keys():
            raise InputError(
                f"{rows.path}: column {field!r} is missing or empty; "
                f"{family} has {', '.join(shape._fields)}"
            )
    columns: dict[str, Any] = {
        field: np.full(len(rows), default) for field, default in shape._field_defaults.items()
    }
    rows = rows.filled("window", "0")
    columns |= {field: rows.numbers(field) for field in shape._fields if field in filled}
    if shape in WINDOWED:
        window = columns.get("window", np.zeros(len(rows)))
        columns["window"] = np.where(window > 0, window, np.inf)
    if shape in MOVED and "moved" not in columns:
        columns["moved"] = MOVED[shape](shape(**columns, moved=0.0), format)
    return shape(**columns)


LAYOUTS = (Layout("a plain CSV", has("family", "format"), plain),)
