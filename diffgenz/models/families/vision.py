"""Vision towers, one function each: from the facts of a config.json to a `Tower`.

`VISION` maps the outer `model_type` to the function. Parameter counts follow the checkpoints'
tensors, and are compared with the published totals.
"""

from collections.abc import Callable, Mapping

from diffgenz.core.errors import InputError
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.blocks.norm import Norm
from diffgenz.models.config import Config
from diffgenz.models.vision import PatchAttention, Projector, Tower

IMAGE_SIZE = 1024
"""Pixels of an image's side where a tower takes any size (Qwen-VL) and config.json states none.

This is an assumption: set `Tower.image_size` to yours.
"""


def _tower(
    vision: Config,
    *projectors: Projector,
    norm: Norm = Norm.LAYER,
    gated: bool = False,
    rotary: bool = False,
    **differences,
) -> Tower:
    """A tower whose sizes have the names that most families give them, with biases everywhere.

    Arguments:
        vision: the facts of the tower.
        projectors: the projectors that follow its layers.
        norm: the norm before each block.
        gated: whether the MLPs are gated.
        rotary: whether positions are rotary.
        differences: fields of `Tower` in which the family differs.
    """
    hidden, heads = vision.number("hidden_size"), vision.number("num_attention_heads", "num_heads")
    vision.expect(in_channels=3, num_channels=3, in_chans=3)
    facts = {
        "hidden": hidden,
        "layers": vision.count("num_hidden_layers", "depth"),
        "attention": PatchAttention(heads=heads, head_dim=hidden / heads, norm=norm, rotary=rotary),
        "mlp": MLP(
            intermediate=vision.number("intermediate_size"), gated=gated, bias=True, norm=norm
        ),
        "projectors": projectors,
        "patch": vision.number("patch_size"),
    }
    return Tower(**(facts | differences))


def _grid(vision: Config) -> int:
    """Patches of an image of fixed size."""
    return (vision.count("image_size") // vision.count("patch_size")) ** 2


def _listed(vision: Config, key: str, default: list[int]) -> int:
    """How many layers `key` lists."""
    layers = vision.get(key, default=default)
    if not isinstance(layers, list):
        raise InputError(f"{vision.name}: {key}: {layers!r} is not a list of layers")
    return len(layers)


def llava(config: Config, vision: Config, width: float) -> Tower | None:
    """CLIP and a two-layer projector: LLaVA 1.5.

    All layers are computed, while vLLM stops before the last. None for any other tower (Pixtral),
    which is not modelled.

    Arguments:
        config: the whole config.json.
        vision: its part about the tower.
        width: width of the language model.
    """
    if vision.get("model_type") != "clip_vision_model":
        return None
    config.ignore("image_seq_length", "vision_feature_layer", "vision_feature_select_strategy")
    vision.ignore("projection_dim", "vocab_size")  # of CLIP's other uses
    return _tower(
        vision,
        Projector(
            (vision.number("hidden_size"), width, width),
            bias=config.flag("multimodal_projector_bias", default=True),
        ),
        image_size=vision.number("image_size"),
        positions=_grid(vision) + 1,
        class_token=True,
        norms=2,
    )


def gemma3(config: Config, vision: Config, width: float) -> Tower:
    """SigLIP, whose patches are averaged to `mm_tokens_per_image` tokens: Gemma 3.

    The tokens are normalised and projected once. Arguments as in `llava`.
    """
    hidden, patches = vision.number("hidden_size"), _grid(vision)
    return _tower(
        vision,
        Projector((hidden, width), bias=False, norm=Norm.RMS, norm_width=hidden),
        image_size=vision.number("image_size"),
        merge=(patches / config.number("mm_tokens_per_image", default=256)) ** 0.5,
        positions=patches,
        patch_bias=True,
        norms=1,
    )


def llama4(config: Config, vision: Config, width: float) -> Tower:
    """A tower with pixel shuffle, a two-layer adapter and a projection: Llama 4.

    An image here is one tile of `image_size`, so that each tile of a large image counts as one.
    Arguments as in `llava`.
    """
    merge = 1 / vision.number("pixel_shuffle_ratio", default=0.5, fraction=True)
    widths = (
        vision.number("hidden_size") * merge**2,
        vision.number("projector_input_dim"),
        vision.number("projector_output_dim"),
        width,
    )
    vision.expect(vision_output_dim=vision.get("projector_output_dim"))
    return _tower(
        vision,
        Projector(widths, bias=False),
        image_size=vision.number("image_size"),
        merge=merge,
        positions=_grid(vision) + 1,
        class_token=True,
        norms=2,
        rotary=True,
    )


def qwen2_5_vl(config: Config, vision: Config, width: float) -> Tower:
    """A tower with RMS norms, gated MLPs and windows, for images of any size: Qwen2.5-VL.

    All layers have windows, except for those in `fullatt_block_indexes`. Arguments as in `llava`.
    """
    hidden, merge = vision.number("hidden_size"), vision.number("spatial_merge_size", default=2)
    merged, out = hidden * merge**2, vision.number("out_hidden_size", default=width)
    layers = vision.count("depth")
    vision.ignore("tokens_per_second")  # of videos
    vision.expect(spatial_patch_size=vision.get("patch_size"))
    return _tower(
        vision,
        Projector((merged, merged, out), norm=Norm.RMS, norm_width=hidden),
        norm=Norm.RMS,
        gated=True,
        rotary=True,
        image_size=vision.number("image_size", default=IMAGE_SIZE),
        merge=merge,
        inputs=3 * vision.number("temporal_patch_size", default=2),
        windowed=layers - _listed(vision, "fullatt_block_indexes", [7, 15, 23, 31]),
        window=(vision.number("window_size", default=112) / vision.number("patch_size")) ** 2,
    )


def qwen3_vl(config: Config, vision: Config, width: float) -> Tower:
    """A tower with learned and rotary positions, for images of any size: Qwen3-VL and Qwen3.5.

    In Qwen3-VL, the states of some layers are handed on through projectors of their own
    (DeepStack); in Qwen3.5, those of none are. Arguments as in `llava`.
    """
    hidden, merge = vision.number("hidden_size"), vision.number("spatial_merge_size", default=2)
    merged, out = hidden * merge**2, vision.number("out_hidden_size", default=width)
    deep = _listed(vision, "deepstack_visual_indexes", [])
    projectors = [Projector((merged, merged, out), norm=Norm.LAYER, norm_width=hidden)]
    if deep:
        projectors.append(
            Projector((merged, merged, out), norm=Norm.LAYER, norm_width=merged, count=deep)
        )
    return _tower(
        vision,
        *projectors,
        rotary=True,
        image_size=vision.number("image_size", default=IMAGE_SIZE),
        merge=merge,
        inputs=3 * vision.number("temporal_patch_size", default=2),
        positions=vision.count("num_position_embeddings"),
        patch_bias=True,
    )


VISION: dict[str, Callable[[Config, Config, float], Tower | None]] = {
    "llava": llava,
    "gemma3": gemma3,
    "llama4": llama4,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "qwen3_vl_moe": qwen3_vl,
    "qwen3_5": qwen3_vl,
    "qwen3_5_moe": qwen3_vl,
}
"""The function that reads the tower of each outer `model_type`.

It is called with the whole config.json, its vision_config, and the width of the language model.
"""


def tower_of(config: Config, language: Config) -> Tower | None:
    """The vision tower that a whole config.json describes.

    None where it describes no tower, or one that is not modelled.

    Arguments:
        config: the whole file.
        language: its part about the language model, whose width is that of image tokens.

    Raises:
        InputError: a field of vision_config is missing or out of range.
    """
    kind = config.get("model_type")
    read = VISION.get(kind) if isinstance(kind, str) else None
    if read is None or not isinstance(config.get("vision_config"), Mapping):
        return None
    return read(config, config.section("vision_config"), float(language.hidden))
