"""Samples of matrix products from their dimensions: the B that they move follow from the format."""

from collections.abc import Iterable

import numpy as np

from diffgenz.calibrating.samples import Samples
from diffgenz.core.formats import FORMATS
from diffgenz.kernels.families import form_of
from diffgenz.kernels.shapes import GemmShape, Number


def sizes(format: str) -> tuple[float, float]:
    """B per element of weights and activations of a format, "weights/activations" where they differ."""
    weights, _, activations = format.partition("/")
    return FORMATS[weights].size, FORMATS[activations or weights].size


def gemm_moved(m: Number, n: Number, k: Number, format: str) -> Number:
    """B of (m, k) activations, (k, n) weights, and 16-bit outputs."""
    weights, activations = sizes(format)
    return weights * n * k + activations * m * k + 2 * m * n


def gemm_samples(
    products: Iterable[tuple[Number, Number, Number, Number]], format: str, source: str, kernel: str
) -> Samples:
    """All `products` (m, n, k and seconds of each: arrays, or numbers for all their rows) as samples of one kernel."""
    rows = [np.broadcast_arrays(*(np.asarray(x, float) for x in product)) for product in products]
    m, n, k, seconds = (np.concatenate(columns) for columns in zip(*rows, strict=True))
    return Samples(
        form_of("gemm", format),
        "gemm",
        format,
        source,
        kernel,
        GemmShape(m, n, k, gemm_moved(m, n, k, format)),
        seconds,
    )
