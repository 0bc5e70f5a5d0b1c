"""Number formats: what a value occupies in memory, and at which peak an accelerator multiplies it."""

from typing import NamedTuple, Self

import equinox as eqx

from diffgenz.errors import unknown
from diffgenz.smooth import Leaf, as_leaf


class Format(NamedTuple):
    """A number format: bytes per element with its scales, and the key of `Accelerator.peak_flops` that multiplies it."""

    size: float
    peak: str
    note: str

    @property
    def bits(self) -> int:
        """Of one element, its share of the scales apart."""
        return int(8 * self.size)


FORMATS: dict[str, Format] = {
    "fp32": Format(4, "fp32", "IEEE 754 single precision"),
    "tf32": Format(4, "tf32", "stored as fp32, multiplied with 10 bits of mantissa"),
    "bf16": Format(2, "bf16", "bfloat16"),
    "fp16": Format(2, "fp16", "IEEE 754 half precision"),
    "fp8": Format(1, "fp8", "OCP E4M3 or E5M2, one scale per tensor or channel"),
    "fp8_block": Format(1 + 4 / 128**2, "fp8", "E4M3 with an fp32 scale per 128 x 128 block (DeepSeek-V3, arXiv 2412.19437)"),
    "int8": Format(1, "int8", "one scale per tensor or channel"),
    "fp6": Format(6 / 8, "fp6", "E3M2 or E2M3, one scale per tensor or channel (FP6-LLM, arXiv 2401.14112)"),
    "mxfp8": Format(1 + 1 / 32, "fp8", "OCP Microscaling v1.0: an 8-bit scale per 32 elements"),
    "mxfp6": Format(6 / 8 + 1 / 32, "fp6", "OCP Microscaling v1.0: an 8-bit scale per 32 elements"),
    "mxfp4": Format(4 / 8 + 1 / 32, "fp4", "OCP Microscaling v1.0: an 8-bit scale per 32 elements"),
    "nvfp4": Format(4 / 8 + 1 / 16, "fp4", "NVIDIA Blackwell: an fp8 scale per 16 elements"),
    "int4": Format(4 / 8 + 2 / 128, "int4", "a 16-bit scale per group of 128 (GPTQ, AWQ)"),
    "int2": Format(2 / 8 + 4 / 64, "int4", "a 16-bit scale and zero per group of 64; multiplied, where it is, as int4"),
}
"""Every format by name. A new one is one line."""


def format_named(name: str, field: str = "format") -> Format:
    """The format called `name`.

    Raises:
        InputError: there is none.
    """
    if name not in FORMATS:
        raise unknown(field, name, FORMATS)
    return FORMATS[name]


class Precision(eqx.Module):
    """The formats a model is served in.

    Arguments:
        dtype: residual stream, norms, attention arithmetic, embedding, LM head and messages; what serving engines call dtype.
        weights: the linear layers' weights as stored. Default: `dtype`.
        activations: the linear layers' inputs. Default: `dtype`. It sets their arithmetic: weights narrower than it are expanded on
            the fly (W4A16: 4-bit traffic, 16-bit peak); W8A8 is weights="fp8", activations="fp8".
        kv_cache: keys and values as stored. Default: `dtype`.

    The names are static; the sizes, in bytes per element, are leaves (`dtype_size`, `weight_size`, ...).
    """

    dtype: str = eqx.field(static=True)
    weights: str = eqx.field(static=True)
    activations: str = eqx.field(static=True)
    kv_cache: str = eqx.field(static=True)
    dtype_size: Leaf
    weight_size: Leaf
    activation_size: Leaf
    kv_cache_size: Leaf

    def __init__(self, dtype: str = "bf16", weights: str | None = None, activations: str | None = None, kv_cache: str | None = None):
        self.dtype = dtype
        self.weights = weights or dtype
        self.activations = activations or dtype
        self.kv_cache = kv_cache or dtype
        self.dtype_size = as_leaf(format_named(self.dtype, "dtype").size)
        self.weight_size = as_leaf(format_named(self.weights, "weights").size)
        self.activation_size = as_leaf(format_named(self.activations, "activations").size)
        self.kv_cache_size = as_leaf(format_named(self.kv_cache, "kv_cache").size)

    def with_sizes(self, dtype: Leaf, weights: Leaf, activations: Leaf, kv_cache: Leaf) -> Self:
        """The same formats, but of these B per element: what a sweep over sizes varies."""
        sizes = [as_leaf(size) for size in (dtype, weights, activations, kv_cache)]
        return eqx.tree_at(lambda p: [p.dtype_size, p.weight_size, p.activation_size, p.kv_cache_size], self, sizes)

    @property
    def linear_peak(self) -> str:
        """The peak at which linear layers multiply: that of the wider of weights and activations."""
        weights, activations = FORMATS[self.weights], FORMATS[self.activations]
        return (weights if weights.bits > activations.bits else activations).peak

    @property
    def attention_peak(self) -> str:
        """The peak at which attention multiplies: that of `dtype`."""
        return FORMATS[self.dtype].peak
