"""Formats whose kernels stand in for one that has none of its own, and how far off they are.

What is said here was measured on tables that have both formats, on seven GPUs and three engines: a
fit of one predicts the rows of the other, with the bytes and the peak of the latter.

- Products. Weight-only kernels time each other within 7 % (A100, TensorRT-LLM; int8 and int4), and
  kernels of 16 bits are 28 % too fast for them, for nothing is dequantised there: a third with up
  to 4 rows, half with 64, 5 % with a thousand and more. fp8 by fp8_block and the other way round:
  14 to 16 %. nvfp4 by fp8_block or fp8: 20 to 23 %.
- Experts. They live by the bytes of their weights: those of bf16 are nearest to int4 (22 % in the
  median), mxfp4 (29), fp8_block (17) and fp8 (12), nearer than another engine's weight-only kernels
  (34 to 37), which may be 2.5 times as slow. nvfp4 and mxfp4/mxfp8 time each other within 15 %.
- No factor makes up for it, since it is no rule of formats but of kernels. Marlin's weight-only
  experts reach 1.0 times what bf16 products reach of the peak on L40S (Ada), 0.3 times on Hopper
  and 0.17 times on Blackwell, where it keeps to Ampere's instructions. Products on Hopper have
  another kernel (Machete), said to keep up with 16 bits, of which there is no table.
- Weight-only products that start late (`STARTS_LATE`) dequantise in kernels of their own. They
  stand in for nothing: SGLang's int8 on H100 takes 3.8 times as long as bf16.
"""

from collections.abc import Collection, Mapping

from diffgenz.core.formats import FORMATS
from diffgenz.kernels.families import FAMILIES, KnownBy
from diffgenz.kernels.kernel_format import KernelFormat

STARTS_LATE = 6.0
"""Launch latencies after which a product starts that stands in for no other format.

Kernels that stand in for others start after 0.6 to 3.5.
"""

WIDE: dict[str, tuple[str, ...]] = {
    "bf16": ("fp16",),
    "fp16": ("bf16",),
    "tf32": ("bf16", "fp16"),
    "fp32": ("bf16", "fp16"),
}
"""Formats of 16 and 32 bits, best first."""

PRODUCTS: dict[str, tuple[str, ...]] = WIDE | {
    "mxfp8": ("fp8_block", "fp8"),
    "fp8": ("fp8_block", "int8"),
    "fp8_block": ("fp8",),
    "int8": ("fp8",),
    "nvfp4": ("mxfp4", "fp8_block", "fp8"),
    "mxfp4": ("nvfp4", "fp8_block", "fp8"),
    "fp8/bf16": ("int8/bf16", "int4/bf16"),
    "int8/bf16": ("int4/bf16", "fp8/bf16"),
    "int4/bf16": ("int8/bf16", "mxfp4/bf16"),
    "mxfp4/bf16": ("int4/bf16", "int8/bf16"),
    "nvfp4/bf16": ("mxfp4/bf16", "int4/bf16", "int8/bf16"),
}
"""Formats of all kernels but experts, best first."""

EXPERTS: dict[str, tuple[str, ...]] = WIDE | {
    "mxfp8": ("fp8_block", "fp8", "bf16"),
    "fp8": ("bf16", "fp8_block"),
    "fp8_block": ("bf16", "fp8"),
    "int8": ("bf16", "fp8"),
    "nvfp4": ("mxfp4/mxfp8", "mxfp4", "bf16"),
    "mxfp4": ("nvfp4", "mxfp4/mxfp8", "bf16"),
    "mxfp4/mxfp8": ("nvfp4", "fp8", "bf16"),
    "fp8/bf16": ("bf16", "int4/bf16"),
    "int8/bf16": ("bf16", "int4/bf16"),
    "int4/bf16": ("bf16", "mxfp4/bf16"),
    "mxfp4/bf16": ("bf16", "int4/bf16"),
    "nvfp4/bf16": ("bf16", "mxfp4/bf16", "int4/bf16"),
}
"""Formats of experts, best first."""

MISFIT: Mapping[str, float] = {"alike": 0.15, "narrow": 0.4, "by wide": 0.6, "experts": 0.3}
"""Standard deviations of ln(measured / predicted) by a relative: four of five rows are within 1.28.

Of products: weight-only kernels by each other, other narrow formats by each other, narrow formats
by wide ones. Of experts: all.
"""


def nearest_format(
    forms: Collection[str], family: str, format: str, alone: Collection[str] = ()
) -> str | None:
    """Which of the formats of a family times its kernels in `format`; None where none does.

    It is the format itself, or its nearest relative: another of `PRODUCTS` or `EXPERTS`, or what
    weights (of latent attention: its cache) and activations are alone. Bytes and peak remain those
    of the format itself.

    Arguments:
        forms: the formats that there are.
        family: of the kernels.
        format: the one wanted.
        alone: formats whose kernels stand in for no other.
    """
    relatives = EXPERTS if family == "experts" else PRODUCTS
    weights, activations = KernelFormat.of(format)
    names = list(relatives.get(format, ()))
    if weights != activations:
        names += [weights] if FAMILIES[family].known_by is KnownBy.CACHE else []
        names += [activations, *relatives.get(activations, ())]
    if format in forms:
        return format
    return next((name for name in names if name in forms and name not in alone), None)


def misfit(family: str, format: str, found: str) -> float:
    """The standard deviation of ln(measured / predicted) that standing in for a format adds.

    Arguments:
        family: of the kernels.
        format: the format that they run in.
        found: that of the kernels that time them.
    """
    if format == found or (format in WIDE and found in WIDE) or family in _MESSAGES:
        return 0.0
    if family == "experts":
        return MISFIT["experts"]
    both = KernelFormat.of(format), KernelFormat.of(found)
    if all(_is_weight_only(each) for each in both):
        return MISFIT["alike"]
    return MISFIT["by wide" if found in WIDE else "narrow"]


_MESSAGES = {name for name, family in FAMILIES.items() if family.kind == "network"}
"""Families to which a format is no more than a number of bytes."""


def _is_weight_only(format: KernelFormat) -> bool:
    return FORMATS[format.weights].bits < 16 <= FORMATS[format.activations].bits
