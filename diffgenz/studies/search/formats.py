"""The formats that a search tries, and how one program serves several of them.

Names of formats are structure: they select a peak and, for each kind of data, the bytes per element
while a program is compiled. A search writes what they select as numbers instead (`Formats`), so
that all formats of one structure share a program.
"""

from collections.abc import Sequence
from typing import Self

import equinox as eqx
import jax

from diffgenz.core.formats import FORMATS
from diffgenz.core.smooth import Scalar
from diffgenz.hardware.accelerator import Accelerator
from diffgenz.operators.gear import Gear
from diffgenz.operators.precision import Precision
from diffgenz.scenario.scenario import Scenario
from diffgenz.scenario.serving_options import Draft

_CORE = "bf16"
"""The format that stands for the core of every GEAR cache: its size is among the numbers."""


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


class Formats(eqx.Module):
    """What a choice of formats changes in an estimate, as numbers.

    Arguments:
        sizes: B per element of dtype, weights, activations, KV cache and messages.
        gear: what compresses the KV cache; None where nothing does.
        experts_only: as in `Precision`.
        linear: FLOP/s of linear layers.
        wide: FLOP/s of everything that stays in dtype.
    """

    sizes: tuple[Scalar, ...]
    gear: Gear | None
    experts_only: bool = eqx.field(static=True)
    linear: Scalar
    wide: Scalar

    @classmethod
    def of(cls, precision: Precision, accelerator: Accelerator) -> Self:
        """The numbers of `precision` on an accelerator.

        Raises:
            InputError: the accelerator does not multiply one of the formats.
        """
        sizes = (
            precision.dtype_size,
            precision.weight_size,
            precision.activation_size,
            precision.kv_cache_size,
            precision.message_size,
        )
        gear = None if precision.gear is None else precision.gear.replace(core=_CORE)
        linear = accelerator.peak(precision.linear_peak)
        wide = accelerator.peak(precision.attention_peak)
        return cls(sizes, gear, precision.experts_only, linear, wide)

    def applied_to(self, case: Scenario) -> Scenario:
        """The scenario in these formats.

        Two names stand for them, and the accelerator has the peaks of these two. A draft model on
        the same accelerators keeps its own formats, whose names are not taken.
        """
        accelerator, kept = case.platform.accelerator, {}
        draft = case.serving.draft
        if isinstance(draft, Draft) and draft.platform is None:
            its_peaks = (draft.precision.linear_peak, draft.precision.attention_peak)
            kept = {name: accelerator.peak(name) for name in its_peaks}
        free = (name for name, each in FORMATS.items() if each.peak == name and name not in kept)
        linear, wide = next(free), next(free)
        named = Precision(wide, linear, linear, self.gear, experts_only=self.experts_only)
        peaks = {**kept, linear: self.linear, wide: self.wide}
        accelerator = accelerator.replace(peak_flops=peaks)
        return case.replace(
            platform=case.platform.replace(accelerator=accelerator),
            precision=named.with_sizes(*self.sizes),
        )


def alike(formats: Sequence[Formats]) -> list[list[int]]:
    """The indices of formats by structure: with GEAR or without, experts alone or all layers."""
    groups: dict[object, list[int]] = {}
    for index, choice in enumerate(formats):
        groups.setdefault(jax.tree.structure(choice), []).append(index)
    return list(groups.values())
