"""Dimensions that the columns of a file do not state.

They are those of the model that its path names, or of shipped models that its columns fit.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

from diffgenz.core.errors import InputError
from diffgenz.models.files import list_models, read_config


class Dimensions(NamedTuple):
    """What a config.json says of the whole model.

    Arguments:
        hidden: width of the model.
        width: width of its MLP; 0 where it is not stated.
        heads: query heads.
        kv_heads: key and value heads.
        head_dim: elements of a head.
        vocabulary: tokens of the vocabulary; 0 where it is not stated.
    """

    hidden: float
    width: float
    heads: float
    kv_heads: float
    head_dim: float
    vocabulary: float


def dimensions(path: Path) -> tuple[Dimensions, str]:
    """The dimensions of the model of a file, and the rest of its path.

    The model is that of the config.json beside the file, whose name is then the rest, or else the
    one whose Hugging Face id stands in the path (with a slash or an underscore); the rest is then
    what follows the id.

    Raises:
        InputError: neither is there.
    """
    beside, text = path.parent / "config.json", path.resolve().as_posix()
    if beside.is_file():
        return _dimensions(read_config(beside)[1], path), f"/{path.name}"
    for model in sorted(list_models(), key=len, reverse=True):
        match = re.search(re.escape(model).replace("/", "[/_]") + "(?=[/_])", text)
        if match:
            return _dimensions(read_config(model)[1], path), text[match.end() :]
    raise InputError(
        f"{path}: its columns state no sizes, and its path names no shipped model; "
        "put the model's config.json beside the file"
    )


def head_dim(hidden: float, heads: float, kv_heads: float, path: Path) -> float:
    """The head_dim of the config.json beside the file, or else of the shipped models of its sizes.

    Arguments:
        hidden: width of the model.
        heads: query heads of the whole model.
        kv_heads: key and value heads of the whole model.
        path: the file.

    Raises:
        InputError: no model has them, or several that differ.
    """
    beside = path.parent / "config.json"
    if beside.is_file():
        return _dimensions(read_config(beside)[1], path).head_dim
    found = set()
    for model in list_models():
        config = read_config(model)[1]
        if {"hidden_size", "num_attention_heads"} <= config.keys():
            sizes = _dimensions(config, path)
            if (sizes.hidden, sizes.heads, sizes.kv_heads) == (hidden, heads, kv_heads):
                found.add(sizes.head_dim)
    if len(found) == 1:
        return found.pop()
    those = "differ in it" if found else "do not include it"
    raise InputError(
        f"{path}: head_dim is not stated, and shipped models of hidden size {hidden:g}, {heads:g} "
        f"heads and {kv_heads:g} KV heads {those}; put the model's config.json beside the file"
    )


def _dimensions(config: dict[str, Any], path: Path) -> Dimensions:
    try:
        hidden, heads = config["hidden_size"], config["num_attention_heads"]
    except KeyError as error:
        raise InputError(
            f"{path}: the model's config.json has no {error.args[0]}; "
            "this layout is of models that state it"
        ) from None
    return Dimensions(
        hidden=float(hidden),
        width=float(config.get("intermediate_size") or 0),
        heads=float(heads),
        kv_heads=float(config.get("num_key_value_heads") or heads),
        head_dim=float(config.get("head_dim") or hidden // heads),
        vocabulary=float(config.get("vocab_size") or 0),
    )
