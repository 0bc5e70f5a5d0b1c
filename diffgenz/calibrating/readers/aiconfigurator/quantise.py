"""The table scale_matrix_perf: activations quantised with a scale that is known.

That is one pass over memory, the cleanest of elementwise kernels. The table beside it,
computescale_perf, is not read: it is the difference of two kernels (vLLM), or zero (SGLang).
"""

from pathlib import Path

from diffgenz.calibrating.readers.aiconfigurator.frames import format_of, need, parts, seconds_of
from diffgenz.calibrating.readers.frames import frame_of
from diffgenz.calibrating.samples import Samples
from diffgenz.core.formats import FORMATS as SIZES
from diffgenz.kernels.shapes import ElementwiseShape


def quantise(path: Path) -> list[Samples]:
    """The samples of a scale_matrix_perf table, by kernel_source.

    Rows have m rows of k elements of bf16, which come out in quant_dtype, and latency in ms.
    """
    frame = frame_of(path)
    need(frame, ("framework", "version", "kernel_source", "quant_dtype", "m", "k", "latency"), path)
    found = []
    for source, kernel, (dtype,), rows in parts(frame, "quant_dtype"):
        elements = rows["m"].to_numpy(float) * rows["k"].to_numpy(float)
        written = SIZES[format_of(dtype, "quant_dtype", path)]
        shape = ElementwiseShape((SIZES["bf16"].size + written.size) * elements)
        found.append(Samples.of("elementwise", "bf16", source, kernel, shape, seconds_of(rows)))
    return found
