"""What all of aiconfigurator's tables have in common."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffgenz.core.errors import InputError

if TYPE_CHECKING:
    import pandas

FORMATS = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "fp8": "fp8",
    "fp8_block": "fp8_block",
    "nvfp4": "nvfp4",
    "int8": "int8",
    "sq": "int8",
    "int8_wo": "int8/bf16",
    "int4_wo": "int4/bf16",
    "w4a16_mxfp4": "mxfp4/bf16",
    "w4a8_mxfp4_mxfp8": "mxfp4/mxfp8",
}
"""Formats by the names that tables have for them; "weights/activations" where these differ."""


def format_of(name: str, column: str, path: Path) -> str:
    """The format that the tables call `name`, which stands in `column`.

    Raises:
        InputError: there is none.
    """
    if name not in FORMATS:
        raise InputError(
            f"{path}: {column}: {name!r} is not known; "
            f"it is one of {', '.join(FORMATS)}: leave other rows out"
        )
    return FORMATS[name]


def seconds_of(rows: "pandas.DataFrame") -> np.ndarray:
    """Latencies in s, from a column in ms."""
    return rows["latency"].to_numpy(float) * 1e-3


def need(frame: "pandas.DataFrame", columns: tuple[str, ...], path: Path) -> None:
    """Raise `InputError` unless the table has `columns`."""
    missing = [column for column in columns if column not in frame]
    if missing:
        raise InputError(
            f"{path}: column {missing[0]!r} is missing; "
            f"an aiconfigurator table of this name has {', '.join(columns)}"
        )


def parts(
    frame: "pandas.DataFrame", *by: str
) -> Iterator[tuple[str, str, tuple[str, ...], "pandas.DataFrame"]]:
    """The parts of a table, one for each kernel of each software.

    Arguments:
        frame: the table.
        by: more columns to split it by.

    Returns:
        of each part, "software-version", the kernel, its values of `by`, and its rows.
    """
    for key, rows in frame.groupby(["framework", "version", "kernel_source", *by], sort=True):
        framework, version, kernel, *rest = (
            str(part) for part in (key if isinstance(key, tuple) else (key,))
        )
        yield f"{framework.lower()}-{version}", kernel, tuple(rest), rows
