"""The formats that a search tries, and which of them can be ranked together."""

from collections.abc import Mapping, Sequence

from diffgenz.hardware.accelerator import Accelerator
from diffgenz.kernels.selection import ROOFLINE
from diffgenz.operators.gear import Gear
from diffgenz.operators.precision import Precision


def formats_for(
    accelerator: Accelerator,
    kv_caches: Sequence[str | Gear] | None = None,
    messages: str | None = None,
) -> tuple[Precision, ...]:
    """Formats that serving engines commonly offer on an accelerator.

    These are bf16 (fp16 where the accelerator does not multiply bf16), 4-bit weights, and fp8 and a
    4-bit format where it multiplies them. Of the 4-bit formats NVIDIA's own, nvfp4, is preferred:
    accelerators that multiply both have kernels and checkpoints for it.

    Arguments:
        accelerator: what multiplies them.
        kv_caches: formats of the KV cache to combine them with. Default: dtype and fp8, and dtype
            alone beside 4-bit weights.
        messages: as in `Precision`.
    """
    dtype = "bf16" if "bf16" in accelerator.peak_flops else "fp16"
    narrow = [name for name in ("nvfp4", "mxfp4") if name in accelerator.peak_flops][:1]
    multiplied = [name for name in ("fp8", *narrow) if name in accelerator.peak_flops]
    layers = [(dtype, dtype), ("int4", dtype), *((name, name) for name in multiplied)]

    def caches(weights: str) -> Sequence[str | Gear]:
        return kv_caches or ((dtype,) if weights == "int4" else (dtype, "fp8"))

    return tuple(
        Precision(dtype, weights, activations, cache, messages)
        for weights, activations in layers
        for cache in caches(weights)
    )


def timed_alike(kernels: Sequence[Mapping[str, str]]) -> list[bool]:
    """Which formats can be ranked together: those of which the roofline times the least.

    A bound is faster than a measured kernel. A format of which the roofline times what is measured
    in another format would therefore win without being faster. Where nothing is measured, all are
    bounds.

    Arguments:
        kernels: of each format, what times its kernels (`timed_by`).
    """
    if all(source == ROOFLINE for each in kernels for source in each.values()):
        return [True] * len(kernels)
    bounds = [
        {kernel.partition(" ")[0] for kernel, source in each.items() if source == ROOFLINE}
        for each in kernels
    ]
    fewest = min(bounds, key=len)
    return [each <= fewest for each in bounds]
