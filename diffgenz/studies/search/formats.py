"""The formats that a search tries, and which of them can be ranked together."""

from collections.abc import Mapping, Sequence

from diffgenz.core.formats import FORMATS, format_named
from diffgenz.hardware.accelerator import Accelerator
from diffgenz.inference.metrics import METRICS
from diffgenz.kernels.kernel_format import KernelFormat
from diffgenz.kernels.selection import ROOFLINE
from diffgenz.models.checkpoints import load_precision
from diffgenz.models.model import Model
from diffgenz.operators.gear import Gear
from diffgenz.operators.precision import Precision
from diffgenz.scenario.engines.formats import Offered, offered
from diffgenz.scenario.words import CHECKPOINT
from diffgenz.studies.search.deployment import Deployment

Caches = Sequence[str | Gear] | None
"""Formats of the KV cache to combine others with; None for the usual ones."""


def formats_for(
    accelerator: Accelerator,
    kv_caches: Caches = None,
    messages: str | None = None,
    weights: Sequence[str] | None = None,
) -> tuple[Precision, ...]:
    """Formats that serving engines commonly offer on an accelerator, or some by name.

    The usual ones are bf16 (fp16 where the accelerator does not multiply bf16), 4-bit weights, and
    fp8 and a 4-bit format where it multiplies them. Of the 4-bit formats NVIDIA's own, nvfp4, is
    preferred: accelerators that multiply both have kernels and checkpoints for it.

    Arguments:
        accelerator: what multiplies them. Inputs of linear layers are as narrow as their weights
            where it multiplies that, and in dtype elsewhere.
        kv_caches: formats of the KV cache to combine them with. Default: dtype and fp8, and dtype
            alone beside 4-bit integers.
        messages: as in `Precision`.
        weights: formats of weights by name. Default: the usual ones.

    Raises:
        InputError: an unknown format.
    """
    dtype = _dtype(accelerator)
    narrow = [name for name in ("nvfp4", "mxfp4") if name in accelerator.peak_flops][:1]
    multiplied = [name for name in ("fp8", *narrow) if name in accelerator.peak_flops]
    chosen = (dtype, "int4", *multiplied) if weights is None else weights
    layers = [(name, _inputs(name, accelerator, dtype)) for name in dict.fromkeys(chosen)]

    def caches(weights: str) -> Sequence[str | Gear]:
        return kv_caches or ((dtype,) if weights == "int4" else (dtype, "fp8"))

    return tuple(
        Precision(dtype, weights, activations, cache, messages)
        for weights, activations in layers
        for cache in caches(weights)
    )


def _dtype(accelerator: Accelerator) -> str:
    """The format of hidden states."""
    return "bf16" if "bf16" in accelerator.peak_flops else "fp16"


def _inputs(weights: str, accelerator: Accelerator, dtype: str) -> str:
    """The format of the inputs that engines multiply weights in this format with."""
    peak = format_named(weights, "weights").peak
    if weights in ("int4", "int2") or peak not in accelerator.peak_flops:
        return dtype
    return "fp8" if peak == "fp8" else weights


def formats_of(
    model: Model,
    accelerator: Accelerator,
    weights: Sequence[str] | None = None,
    kv_caches: Caches = None,
    messages: str | None = None,
) -> tuple[tuple[Precision, ...], tuple[str, ...]]:
    """The formats to try for a model, and what to say of them.

    Arguments:
        model: what is served.
        accelerator: as in `formats_for`.
        weights: formats of weights by name, "checkpoint" for those of its checkpoint. Default: the
            formats of the checkpoint where that is quantised; else those of `formats_for` that an
            engine makes of it, or that a known variant of it is in.
        kv_caches: as in `formats_for`; beside a checkpoint's own, the default is its own and fp8.
        messages: as in `Precision`.

    Raises:
        InputError: an unknown format, or a checkpoint that is not known or cannot be read.
    """
    known, notes = offered(model), []
    chosen = weights
    if chosen is None:
        chosen = _usual(known, accelerator)
        if known is not None and known.checkpoint:
            notes.append(
                f"the checkpoint is in {', '.join(known.checkpoint)} ({known.method}), which is "
                "what is tried; name others in --weights (weights)"
            )
    found: list[Precision] = []
    for name in chosen:
        if name == CHECKPOINT:
            found += _as_stored(model, accelerator, kv_caches, messages)
            continue
        of_name = formats_for(accelerator, kv_caches, messages, (name,))
        found += of_name
        reason = None if known is None else known.refusal(of_name[0])
        if reason is not None:
            notes.append(f"no engine would load {reason}")
    distinct = {each.summary: each for each in reversed(found)}
    return tuple(reversed(distinct.values())), tuple(notes)


def _usual(known: Offered | None, accelerator: Accelerator) -> list[str]:
    """The names of the formats of a model that are tried unless others are asked for."""
    names = [each.weights for each in formats_for(accelerator)]
    if known is None:
        return names
    if known.checkpoint:
        return [CHECKPOINT]
    if "fp8_block" in known.variants and "fp8" in accelerator.peak_flops:
        names.append("fp8_block")
    return [each for each in names if known.refusal(Precision(weights=each)) is None]


def _as_stored(
    model: Model, accelerator: Accelerator, kv_caches: Caches, messages: str | None
) -> list[Precision]:
    """The formats of a model's checkpoint, with several of the KV cache."""
    dtype = _dtype(accelerator)
    source = model.source or model.name
    return [
        load_precision(source, accelerator, dtype=dtype, kv_cache=cache, messages=messages)
        for cache in kv_caches or (None, "fp8")
    ]


def slower_formats(deployments: Sequence[Deployment], sort: str) -> tuple[str, ...]:
    """Which formats are no faster than wider ones, each at its best; a sentence for each.

    Arguments:
        deployments: those that are ranked together, the best first.
        sort: the metric by which they are.
    """
    best: dict[KernelFormat, float] = {}
    for each in deployments:
        value = each.metrics[sort]
        if value is not None:
            own = KernelFormat(each.precision.weights, each.precision.activations)
            best.setdefault(own, value)
    metric, found = METRICS[sort], []
    for narrow, value in best.items():
        wider = [
            (other, its)
            for other, its in best.items()
            if FORMATS[other.weights].bits > FORMATS[narrow.weights].bits
            and (its > value if metric.more else its < value)
        ]
        if wider:
            other, its = wider[0]  # in the order of the ranking: the best
            shown = (f"{each * metric.factor:,.4g}" for each in (value, its))
            found.append(
                f"{narrow.known_as} is worse than {other.known_as} here, though narrower: at best "
                f"{' against '.join(shown)} {metric.label}"
            )
    return tuple(found)


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
