"""AMD Quark: a scheme for all layers, and others for some by wildcard or by class.

Read as by vLLM (`quark`). The format of keys and values is that of the outputs of their
projections.
"""

from collections.abc import Iterable, Mapping

from diffgenz.models.checkpoints.compressed_tensors import LINEAR
from diffgenz.models.checkpoints.floating import block_of
from diffgenz.models.checkpoints.kv_cache import cache_of, cache_of_dtype
from diffgenz.models.checkpoints.rules import Rule, Rules, everywhere, left_wide
from diffgenz.models.checkpoints.schemes import Scheme, floats, fp8_block, integers
from diffgenz.models.checkpoints.settings import Settings

DTYPES = {
    **dict.fromkeys(("fp8_e4m3", "fp8_e5m2", "fp8"), ("float", 8)),
    **dict.fromkeys(("fp6_e3m2", "fp6_e2m3"), ("float", 6)),
    **dict.fromkeys(("fp4", "fp4_e2m1"), ("float", 4)),
    **dict.fromkeys(("int8", "uint8"), ("int", 8)),
    **dict.fromkeys(("int4", "uint4"), ("int", 4)),
    **dict.fromkeys(("int2", "uint2"), ("int", 2)),
}
"""Type and bits of each dtype; 16-bit ones are none."""

WIDE = ("bfloat16", "float16", "float32", "bf16", "fp16")


def quark(settings: Settings) -> Rules:
    """The rules of a section.

    Raises:
        InputError: it cannot be read.
    """
    if not isinstance(settings.get("global_quant_config"), Mapping):
        raise settings.bad("global_quant_config", "is no object")
    usual = _scheme(settings.part("global_quant_config"))
    for name, part in settings.parts("layer_type_quant_config").items():
        if name.split(".")[-1] in LINEAR:
            usual = _scheme(part)
    rules = [*left_wide(settings.texts("exclude"), "exclude")]
    layers = settings.parts("layer_quant_config")
    rules += [Rule(entry, _scheme(part), "layer_quant_config") for entry, part in layers.items()]
    return Rules(tuple(rules), everywhere(usual, head=True), _cache(settings, layers))


def _scheme(part: Settings | None) -> Scheme | None:
    """The scheme of a set of layers; None where their weights are in dtype."""
    if part is None:
        return None
    weights = _number(part, "weight")
    inputs = _number(part, "input_tensors")
    return weights and weights._replace(activations=inputs and inputs.weights)


def _number(part: Settings, key: str) -> Scheme | None:
    """The format of weights or inputs; None for dtype.

    Two of them are two levels of scales: the one with fewer bits is what is stored (int4 with an
    fp8 scale, or NVFP4 with a scale for a tensor).
    """
    value = part.get(key)
    if not isinstance(value, list):
        found = part.part(key)
        return None if found is None else _single(found)
    if not value or not all(isinstance(each, Mapping) for each in value):
        raise part.bad(key, "is no list of formats")
    levels = [_single(Settings(f"{part.where}: {key}", each)) for each in value]
    return min((each for each in levels if each), key=lambda each: each.size, default=None)


def _single(part: Settings) -> Scheme | None:
    """The format that a `dtype` states, with its groups; None for 16 bits.

    Raises:
        InputError: it is no format here.
    """
    name = (part.text("dtype") or "").lower()
    if name in WIDE:
        return None
    if name not in DTYPES:
        raise part.bad("dtype", f"is not known; known are {', '.join([*DTYPES, *WIDE])}")
    kind, bits = DTYPES[name]
    qscheme = part.text("qscheme")
    group = part.whole("group_size") if qscheme in (None, "per_group") else None
    if kind == "int":
        zeros = part.flag("symmetric", default=True) is False
        found = integers(bits, group, shared=2 + zeros * bits / 8)
    elif qscheme == "per_block" and bits == 8:
        found = fp8_block(*(block_of(part, "block_size") or (128, 128)))
    else:
        found = floats(bits, 32 if bits < 8 and group is None else group)
    if found is None:
        raise part.bad("dtype", f"in groups of {group} is no format here")
    return found


def _cache(settings: Settings, layers: Mapping[str, Settings | None]) -> str | None:
    """The format of keys and values; None for dtype.

    It stands under `kv_cache_quant_config`, or else under those layers that `export` calls the
    cache's.

    Raises:
        InputError: `export` names layers that nothing is said of.
    """
    export = settings.part("export")
    group = () if export is None else export.texts("kv_cache_group")
    own = settings.parts("kv_cache_quant_config")
    settings.flag("kv_cache_post_rope", default=False)
    parts: Iterable[Settings | None] = own.values()
    if not own:
        parts = [layers[entry] for entry in group if entry in layers]
    outputs = [part.part("output_tensors") for part in parts if part is not None]
    found = {cache_of_dtype(each) for each in outputs if each is not None}
    if len(found) > 1:
        raise settings.bad("kv_cache_quant_config", "has keys and values in different formats")
    if group and not found and export is not None:
        raise export.bad("kv_cache_group", "names layers whose output_tensors have no format")
    return found.pop() if found else cache_of(settings)
