"""Samples of matrix products from their dimensions; the bytes that they move follow from these."""

from collections.abc import Iterable

import numpy as np

from diffgenz.calibrating.samples import Samples
from diffgenz.kernels.kernel_format import KernelFormat
from diffgenz.kernels.shapes import GemmShape, Number


def gemm_moved(m: Number, n: Number, k: Number, format: str) -> Number:
    """Bytes of (m, k) activations, (k, n) weights, and 16-bit outputs."""
    weights, activations = KernelFormat.of(format).sizes
    return weights * n * k + activations * m * k + 2 * m * n


def batched_moved(n: Number, k: Number, groups: Number, format: str) -> Number:
    """Bytes of the (k, n) weights of all groups."""
    return KernelFormat.of(format).sizes[0] * groups * n * k


def gemm_samples(
    products: Iterable[tuple[Number, Number, Number, Number]], format: str, source: str, kernel: str
) -> Samples:
    """Samples of one kernel.

    Arguments:
        products: m, n, k and seconds of each; arrays (rows,), or numbers for all rows.
        format, source, kernel: as in `Samples`.
    """
    rows = [np.broadcast_arrays(*(np.asarray(x, float) for x in product)) for product in products]
    m, n, k, seconds = (np.concatenate(columns) for columns in zip(*rows, strict=True))
    shape = GemmShape(m, n, k, gemm_moved(m, n, k, format))
    return Samples.of("gemm", format, source, kernel, shape, seconds)
