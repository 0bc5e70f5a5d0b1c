"""The table gemm_perf: dense matrix products."""

from pathlib import Path

from diffgenz.calibrating.readers.aiconfigurator.frames import format_of, need, parts, seconds_of
from diffgenz.calibrating.readers.frames import frame_of
from diffgenz.calibrating.readers.products import gemm_samples
from diffgenz.calibrating.samples import Samples

COLUMNS = ("framework", "version", "kernel_source", "gemm_dtype", "m", "n", "k", "latency")
"""Columns that every such table has."""


def gemm(path: Path) -> list[Samples]:
    """The samples of a gemm_perf table, by gemm_dtype and kernel_source.

    Rows have m, n, k and latency in ms.
    """
    frame = frame_of(path)
    need(frame, COLUMNS, path)
    found = []
    for source, kernel, (dtype,), rows in parts(frame, "gemm_dtype"):
        format = format_of(dtype, "gemm_dtype", path)
        m, n, k = (rows[name].to_numpy(float) for name in "mnk")
        found.append(gemm_samples([(m, n, k, seconds_of(rows))], format, source, kernel))
    return found
