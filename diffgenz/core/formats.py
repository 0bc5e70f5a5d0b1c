"""Number formats: what a value occupies in memory, and at which peak it is multiplied."""

from typing import NamedTuple

from diffgenz.core.errors import unknown


class Format(NamedTuple):
    """A number format.

    Arguments:
        size: B per element, its part of the scales included.
        peak: the key of `Accelerator.peak_flops` for the rate at which it is multiplied.
        note: what the format is, and where it is defined.
    """

    size: float
    peak: str
    note: str

    @property
    def bits(self) -> int:
        """Bits of one element, without its part of the scales."""
        return int(8 * self.size)


FORMATS: dict[str, Format] = {
    "fp32": Format(4, "fp32", "IEEE 754 single precision"),
    "tf32": Format(4, "tf32", "stored as fp32, multiplied with 10 bits of mantissa"),
    "bf16": Format(2, "bf16", "bfloat16"),
    "fp16": Format(2, "fp16", "IEEE 754 half precision"),
    "fp8": Format(1, "fp8", "OCP E4M3 or E5M2, one scale per tensor or channel"),
    "fp8_block": Format(
        1 + 4 / 128**2,
        "fp8",
        "E4M3 with an fp32 scale per 128 x 128 block (DeepSeek-V3, arXiv 2412.19437)",
    ),
    "int8": Format(1, "int8", "one scale per tensor or channel"),
    "fp6": Format(
        6 / 8, "fp6", "E3M2 or E2M3, one scale per tensor or channel (FP6-LLM, arXiv 2401.14112)"
    ),
    "mxfp8": Format(1 + 1 / 32, "fp8", "OCP Microscaling v1.0: an 8-bit scale per 32 elements"),
    "mxfp6": Format(6 / 8 + 1 / 32, "fp6", "OCP Microscaling v1.0: an 8-bit scale per 32 elements"),
    "mxfp4": Format(
        4 / 8 + 1 / 32, "mxfp4", "OCP Microscaling v1.0: an 8-bit scale per 32 elements"
    ),
    "nvfp4": Format(4 / 8 + 1 / 16, "nvfp4", "NVIDIA Blackwell: an fp8 scale per 16 elements"),
    "int4": Format(4 / 8 + 2 / 128, "int4", "a 16-bit scale per group of 128 (GPTQ, AWQ)"),
    "int2": Format(
        2 / 8 + 4 / 64,
        "int4",
        "a 16-bit scale and zero per group of 64; multiplied, where it is, as int4",
    ),
}
"""Every format by name. A new one is one line."""


def format_named(name: str, field: str = "format") -> Format:
    """The format called `name`.

    Arguments:
        name: a key of `FORMATS`.
        field: what an error calls the input that gave the name.

    Raises:
        InputError: no format is called that.
    """
    if name not in FORMATS:
        raise unknown(field, name, FORMATS)
    return FORMATS[name]
