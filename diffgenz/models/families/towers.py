"""What the functions that read vision towers share: sizes under the names that most files have."""

from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.blocks.norm import Norm
from diffgenz.models.config import Config, brief
from diffgenz.models.vision import PatchAttention, Projector, Tower

IMAGE_SIZE = 1024
"""Pixels of an image's side where a tower takes any size (Qwen-VL) and config.json states none.

This is an assumption: set `Tower.image_size` to yours.
"""


def tower_with(
    vision: Config,
    *projectors: Projector,
    norm: Norm = Norm.LAYER,
    gated: bool = False,
    bias: bool = True,
    attention: dict[str, Any] | None = None,
    **differences: Any,
) -> Tower:
    """A tower whose sizes have the names that most families give them.

    Arguments:
        vision: the facts of the tower.
        projectors: the projectors that follow its layers.
        norm: the norm before each block.
        gated: whether the MLPs are gated.
        bias: whether projections and MLPs have biases.
        attention: fields of `PatchAttention` in which the family differs.
        differences: fields of `Tower` in which the family differs.

    Raises:
        InputError: a size that is missing or unusable, or a width that the heads do not divide.
    """
    vision.expect(in_channels=3, num_channels=3, in_chans=3)
    hidden = differences.pop("hidden", None) or vision.number("hidden_size")
    heads = vision.number("num_attention_heads", "num_heads")
    if vision.get("head_dim") is None and hidden % heads:
        raise InputError(
            f"{vision.name}: num_attention_heads: {heads} does not divide hidden_size, {hidden}; "
            "correct one of them"
        )
    mixer: dict[str, Any] = {
        "heads": heads,
        "head_dim": vision.number("head_dim", default=hidden // heads),
        "norm": norm,
        "qkv_bias": bias,
        "out_bias": bias,
    }
    mlp = differences.pop("mlp", None) or MLP(
        intermediate=vision.number("intermediate_size"), gated=gated, bias=bias, norm=norm
    )
    facts = {
        "hidden": hidden,
        "layers": layers_of(vision),
        "attention": PatchAttention(**(mixer | (attention or {}))),
        "mlp": mlp,
        "projectors": projectors,
        "patch": side(vision, "patch_size"),
    }
    return Tower(**(facts | differences))


def layers_of(vision: Config) -> int:
    """Layers of a tower."""
    return vision.count("num_hidden_layers", "depth", most=4096)


def side(vision: Config, key: str, default: int | None = None) -> int:
    """A number of pixels, which files also write for both directions, as [448, 448].

    Raises:
        InputError: it is missing, no such number, or differs between the directions.
    """
    value = vision.get(key)
    if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
        return Config(vision.name, {key: value[0]}).count(key)
    return vision.count(key, default=default)


def grid(vision: Config) -> int:
    """Patches of an image of fixed size."""
    return (side(vision, "image_size") // side(vision, "patch_size")) ** 2


def listed(vision: Config, key: str, default: list[int]) -> int:
    """How many layers of a tower `key` lists.

    Raises:
        InputError: it is not a list of different layers.
    """
    found, layers = vision.get(key, default=default), layers_of(vision)
    if not isinstance(found, list):
        raise InputError(f"{vision.name}: {key}: {brief(found)} is not a list of layers")
    if not all(type(each) is int and 0 <= each < layers for each in found):
        raise InputError(
            f"{vision.name}: {key}: {brief(found)} lists a layer that is none of the {layers}"
        )
    if len(set(found)) < len(found):
        raise InputError(f"{vision.name}: {key}: {brief(found)} lists a layer twice")
    return len(found)


def states_of(config: Config) -> int:
    """How many of a tower's layers hand their states to the projector, side by side.

    That is one, or as many as `vision_feature_layer` lists.
    """
    layers = config.get("vision_feature_layer", default=-1)
    if type(layers) is int:
        return 1
    if not isinstance(layers, list) or not layers or any(type(each) is not int for each in layers):
        raise InputError(
            f"{config.name}: vision_feature_layer: {brief(layers)} is neither a layer nor a list "
            "of layers"
        )
    return len(layers)
