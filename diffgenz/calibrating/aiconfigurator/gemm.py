"""gemm_perf: dense matrix products."""

from pathlib import Path

from diffgenz.calibrating.aiconfigurator.frames import format_of, frame_of, need, parts, seconds_of
from diffgenz.calibrating.samples import Samples
from diffgenz.formats import FORMATS as SIZES
from diffgenz.kernels.families import form_of
from diffgenz.kernels.shapes import GemmShape


def gemm(path: Path) -> list[Samples]:
    """The samples of a gemm_perf table: m, n, k and latency in ms, by gemm_dtype and kernel_source."""
    frame = frame_of(path)
    need(frame, ("framework", "version", "kernel_source", "gemm_dtype", "m", "n", "k", "latency"), path)
    found = []
    for source, kernel, (dtype,), rows in parts(frame, "gemm_dtype"):
        format = format_of(dtype, "gemm_dtype", path)
        weights, _, activations = format.partition("/")
        m, n, k = (rows[name].to_numpy(float) for name in "mnk")
        moved = SIZES[weights].size * n * k + SIZES[activations or weights].size * m * k + 2 * m * n
        found.append(Samples(form_of("gemm", format), "gemm", format, source, kernel, GemmShape(m, n, k, moved), seconds_of(rows)))
    return found
