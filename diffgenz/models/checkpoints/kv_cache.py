"""The format of keys and values, in all the ways in which a section states it."""

from collections.abc import Mapping

from diffgenz.models.checkpoints.settings import Settings

SPELLED = {
    "fp8": "fp8",
    "nvfp4": "nvfp4",
    "int8": "int8",
    "int4": "int4",
    **dict.fromkeys(("fp8_e4m3", "fp8_e5m2", "float8_e4m3fn", "float8_e5m2", "e4m3"), "fp8"),
    **dict.fromkeys(("auto", "none", "null", "", "bf16", "bfloat16", "fp16", "float16"), None),
}
"""The format by its name, whose case does not matter; None for dtype."""


def cache_of(settings: Settings) -> str | None:
    """The format that `kv_cache_scheme` or `kv_cache_quant_algo` states; None for dtype.

    Raises:
        InputError: it cannot be read.
    """
    for key in ("kv_cache_scheme", "kv_cache_quant_algo", "kv_cache_dtype"):
        value = settings.get(key)
        if isinstance(value, str):
            if value.lower() not in SPELLED:
                raise settings.bad(key, f"is not known; known are {', '.join(map(str, _FORMATS))}")
            return SPELLED[value.lower()]
        if value is not None and value != {}:
            return _of_scheme(settings, key)
    return None


_FORMATS = tuple(name for name in SPELLED if SPELLED[name] == name)


def _of_scheme(settings: Settings, key: str) -> str | None:
    """The format of a compressed-tensors scheme under `key`."""
    if not isinstance(settings.raw[key], Mapping):
        raise settings.bad(key, "is neither the name of a format nor a scheme")
    part = settings.part(key)
    assert part is not None, "empty ones are skipped"
    if part.get("dtype") is not None:
        return cache_of_dtype(part)
    bits, kind = part.needed("num_bits"), part.text("type") or "int"
    known = {(8, "float"): "fp8", (4, "float"): "nvfp4", (8, "int"): "int8", (4, "int"): "int4"}
    if (bits, kind) not in known:
        raise part.bad("num_bits", f"of type {kind} is no format of a cache here")
    return known[bits, kind]


def cache_of_dtype(part: Settings) -> str | None:
    """The format that a `dtype` states (AMD Quark); None for dtype.

    Raises:
        InputError: it is no format of a cache.
    """
    name = part.text("dtype")
    if name is None or name.lower() not in SPELLED:
        raise part.bad("dtype", f"is not known; known are {', '.join(_FORMATS)}")
    return SPELLED[name.lower()]
