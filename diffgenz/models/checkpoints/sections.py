"""Where a checkpoint says how it is quantised.

It does so in config.json, or in the part of it about the language model, or in
hf_quant_config.json beside it (NVIDIA ModelOpt). What is in both must be the same.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from diffgenz.core.errors import InputError
from diffgenz.models.checkpoints.kv_cache import cache_of
from diffgenz.models.checkpoints.modelopt import algorithm_of
from diffgenz.models.checkpoints.settings import REMEDY, Settings
from diffgenz.models.files import read_config, read_sidecar

KEYS = ("quantization_config", "compression_config")
"""The fields of config.json that hold a quantisation section."""

SIDECAR = "hf_quant_config.json"


class Source(NamedTuple):
    """The files of a checkpoint.

    Arguments:
        name: what errors call it.
        config: the content of its config.json.
        sidecar: the content of its hf_quant_config.json; None where there is none.
    """

    name: str
    config: Mapping[str, Any]
    sidecar: Mapping[str, Any] | None = None


def read_source(model: str | Path) -> Source:
    """The files of a checkpoint.

    Arguments:
        model: as in `load_model`.

    Raises:
        InputError: as in `read_config`, or a sidecar that is not a JSON object.
    """
    name, config = read_config(model)
    return Source(name, config, read_sidecar(model, SIDECAR))


def sections_of(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The whole config.json, and its parts about the language model where it has them."""
    nested = [config.get(key) for key in ("text_config", "llm_config", "language_config")]
    return [config, *(part for part in nested if isinstance(part, Mapping))]


def quantization_section(source: Source) -> tuple[str, Mapping[str, Any]] | None:
    """What errors call the quantisation section of a checkpoint, and its content.

    None where the checkpoint is not quantised. A KV format that only the sidecar states is in it,
    too.

    Raises:
        InputError: it is no object, or config.json and its sidecar contradict each other.
    """
    stated = _in_config(source)
    if source.sidecar is None:
        return stated
    where = f"{source.name}: {SIDECAR}"
    beside = dict(source.sidecar) | {"quant_method": "modelopt"}
    if stated is None:
        return where, beside
    sidecar = Settings(where, beside)
    key, own = stated[0], Settings(*stated)
    if _agreed(own, algorithm_of(own), where, algorithm_of(sidecar), key, "quant_algo"):
        inner = sidecar.part("quantization") or sidecar
        cache = cache_of(inner)
        mine = own.part("quantization") or own
        mine_cache = cache_of(mine) if own.raw.get("quant_method") != "quark" else cache
        if _agreed(own, mine_cache, where, cache, key, "KV format"):
            return key, {**stated[1], **({} if mine_cache else {"kv_cache_scheme": cache})}
    return stated


def _agreed(own: Settings, mine: Any, where: str, other: Any, key: str, what: str) -> bool:
    """Whether the sidecar states something, which then is what config.json states, if it does.

    Raises:
        InputError: the two contradict each other.
    """
    if mine is not None and other is not None and mine != other:
        raise InputError(
            f"{key}: {what} {mine} contradicts {where}, {other}; remove one of the two, or {REMEDY}"
        )
    return other is not None


def _in_config(source: Source) -> tuple[str, Mapping[str, Any]] | None:
    """The section in config.json; None where there is none, or an empty one."""
    for part in sections_of(source.config):
        for key in KEYS:
            value = part.get(key)
            if value is None or value == {} or value is False:
                continue
            if not isinstance(value, Mapping):
                raise InputError(f"{source.name}: {key}: {value!r:.60} is no object; {REMEDY}")
            return f"{source.name}: {key}", value
    return None
