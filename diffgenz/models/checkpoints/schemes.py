"""Schemes: the formats that a module's weights and inputs are in, scales included.

The sizes of scales are those of the public formats: a 16-bit scale for a group of integers, and
possibly a zero point as wide as the weights (GPTQ, AWQ); fp32 for a block of fp8; one byte for 16
elements of NVFP4 or 32 of MXFP4. One scale for a tensor or a channel is too small to count.
"""

from typing import NamedTuple

from diffgenz.core.formats import FORMATS


class Scheme(NamedTuple):
    """The formats of a module.

    Arguments:
        weights: the format of its weights.
        size: B of a weight, with its share of the scales.
        activations: the format of its inputs; None for dtype.
    """

    weights: str
    size: float
    activations: str | None = None


def scheme(weights: str, activations: str | None = None) -> Scheme:
    """The scheme of a format that has one size."""
    return Scheme(weights, FORMATS[weights].size, activations)


def integers(
    bits: int, group: int | None, *, shared: float = 2.0, activations: str | None = None
) -> Scheme | None:
    """Integer weights that share a scale, and possibly a zero point, in groups.

    None where the number of bits is no format here.

    Arguments:
        bits: of each weight.
        group: weights of a group; None, 0 or -1: a channel.
        shared: B that the weights of a group share.
        activations: as in `Scheme`.
    """
    name = f"int{bits}"
    if name not in FORMATS:
        return None
    overhead = 0.0 if group is None or group < 1 else shared / group
    return Scheme(name, bits / 8 + overhead, activations)


def fp8_block(
    rows: int, columns: int, *, scale: float = 4.0, activations: str | None = None
) -> Scheme:
    """E4M3 weights with a scale of `scale` B for each block of rows x columns."""
    return Scheme("fp8_block", 1 + scale / (rows * columns), activations)


FLOATS = {(4, 16): "nvfp4", (4, 32): "mxfp4", (6, 32): "mxfp6", (8, 32): "mxfp8"}
"""The formats of floating-point numbers by their bits and the elements that share a scale."""


def floats(bits: int, group: int | None, activations: str | None = None) -> Scheme | None:
    """Floating-point weights that share scales in groups; None where they are no format here.

    Arguments:
        bits: of each weight.
        group: elements that share a scale; None, 0 or -1: a channel or more.
        activations: as in `Scheme`.
    """
    size = 0 if group is None or group < 0 else group
    if (bits, size) in FLOATS:
        return scheme(FLOATS[bits, size], activations)
    if bits == 8:
        return Scheme("fp8", 1 + (2 / size if size else 0.0), activations)
    return scheme("fp6", activations) if bits == 6 and not size else None
