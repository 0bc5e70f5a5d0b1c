"""Vision towers, one function each: from the facts of a config.json to a `Tower`.

`VISION` maps the outer `model_type` to the function. Those for images of one size are here, those
for images of any size in `families.vision_any_size`. Parameter counts follow the checkpoints'
tensors, and are compared with the published totals.
"""

from collections.abc import Callable

from diffgenz.core.errors import InputError
from diffgenz.models.blocks.norm import Norm
from diffgenz.models.config import Config, brief
from diffgenz.models.families.towers import grid, side, states_of, tower_with
from diffgenz.models.families.vision_any_size import (
    gemma4,
    kimi_vl,
    pixtral,
    qwen2_5_vl,
    qwen2_vl,
    qwen3_vl,
)
from diffgenz.models.vision import Projector, Tower


def llava(config: Config, vision: Config, width: float) -> Tower | None:
    """CLIP, SigLIP or Pixtral and a two-layer projector: LLaVA 1.5, LLaVA-NeXT, LLaVA-OneVision.

    All layers are computed, while vLLM stops before the last. An image here is one tile of
    `image_size`, so that each tile of a large image counts as one. None for any other tower, which
    is not modelled.

    Arguments:
        config: the whole config.json.
        vision: its part about the tower.
        width: width of the language model.
    """
    kind, outer = vision.get("model_type"), config.get("model_type")
    config.ignore("image_seq_length", "vision_feature_select_strategy", "vision_aspect_ratio")
    config.ignore("image_grid_pinpoints", "vision_feature_layer")
    vision.ignore("projection_dim", "vocab_size", "vision_use_head")  # of their other uses
    if kind == "pixtral":
        return pixtral(config, vision, width)
    if kind not in ("clip_vision_model", "siglip_vision_model"):
        return None
    rows = config.flag("use_image_newline_parameter", default=outer != "llava")
    clip = kind == "clip_vision_model"
    projector = Projector(
        (states_of(config) * vision.number("hidden_size"), width, width),
        bias=config.flag("multimodal_projector_bias", default=True),
        separator=rows and outer != "llava",
    )
    return tower_with(
        vision,
        projector,
        image_size=side(vision, "image_size"),
        positions=grid(vision) + clip,
        class_token=clip,
        patch_bias=not clip,
        norms=2 if clip else 1,
    )


def gemma3(config: Config, vision: Config, width: float) -> Tower:
    """SigLIP, whose patches are averaged to `mm_tokens_per_image` tokens: Gemma 3.

    The tokens are normalised and projected once. Arguments as in `llava`.
    """
    hidden, patches = vision.number("hidden_size"), grid(vision)
    vision.ignore("vision_use_head")  # Gemma has none
    tokens = config.number("mm_tokens_per_image", default=256)
    if tokens > patches:
        raise InputError(
            f"{config.name}: mm_tokens_per_image: {tokens} exceeds the {patches} patches of an "
            "image (image_size, patch_size)"
        )
    return tower_with(
        vision,
        Projector((hidden, width), bias=False, norm=Norm.RMS, norm_width=hidden),
        image_size=side(vision, "image_size"),
        merge=(patches / tokens) ** 0.5,
        positions=patches,
        patch_bias=True,
        norms=1,
    )


def llama4(config: Config, vision: Config, width: float) -> Tower:
    """A tower with pixel shuffle, a two-layer adapter and a projection: Llama 4.

    An image here is one tile of `image_size`, so that each tile of a large image counts as one.
    Arguments as in `llava`.
    """
    merge = _merge(vision, "pixel_shuffle_ratio")
    widths = (
        vision.number("hidden_size") * merge**2,
        vision.number("projector_input_dim"),
        vision.number("projector_output_dim"),
        width,
    )
    vision.expect(vision_output_dim=vision.get("projector_output_dim"))
    return tower_with(
        vision,
        Projector(widths, bias=False),
        image_size=side(vision, "image_size"),
        merge=merge,
        positions=grid(vision) + 1,
        class_token=True,
        norms=2,
        attention={"rotary": True},
    )


def internvl(config: Config, vision: Config, width: float) -> Tower:
    """InternViT with layer scale, pixel shuffle and a two-layer projector: InternVL.

    An image here is one tile of `image_size`, so that each tile of a large image counts as one.
    The large tower (6B) has RMS norms, norms on queries and keys, and no bias on them. Arguments
    as in `llava`.
    """
    hidden, merge = vision.number("hidden_size"), _merge(config, "downsample_ratio")
    config.ignore("dynamic_image_size", "force_image_size", "max_dynamic_patch", "template")
    config.ignore("min_dynamic_patch", "pad2square", "ps_version", "use_thumbnail", "image_fold")
    config.ignore("select_layer", "system_message", "hidden_size", "vision_feature_layer")
    config.ignore("image_seq_length", "vision_feature_select_strategy", "min_dynamic_patch")
    config.expect(use_backbone_lora=0, use_llm_lora=0)
    vision.expect(use_moe=False, use_mean_pooling=True, use_mask_token=False)
    vision.expect(use_absolute_position_embeddings=True)
    vision.ignore("capacity_factor", "eval_capacity_factor", "moe_intermediate_size", "num_experts")
    vision.ignore("num_routed_experts", "num_shared_experts", "shared_expert_intermediate_size")
    vision.ignore("use_residual", "use_rts", "use_weighted_residual", "noisy_gate_policy")
    vision.ignore("moe_output_scale", "moe_coeff_ratio", "laux_allreduce", "layer_scale_init_value")
    norms = {"layer_norm": Norm.LAYER, "rms_norm": Norm.RMS}
    kind = vision.text("norm_type", default="layer_norm")
    if kind not in norms:
        raise InputError(
            f"{vision.name}: norm_type: {brief(kind)} is not known; known are {', '.join(norms)}"
        )
    normalised = vision.flag("qk_normalization", "use_qk_norm", default=False)
    merged = hidden * merge**2
    return tower_with(
        vision,
        Projector((merged, width, width), norm=Norm.LAYER, norm_width=merged),
        norm=norms[kind],
        attention={
            "qkv_bias": vision.flag("qkv_bias", "attention_bias", default=True),
            "query_key_norm": "all" if normalised else None,
        },
        image_size=side(vision, "image_size"),
        merge=merge,
        positions=grid(vision) + 1,
        class_token=True,
        patch_bias=True,
        scaled=True,
    )


def _merge(config: Config, key: str) -> float:
    """Patches, in each direction, that a pixel shuffle makes one token of.

    Raises:
        InputError: its ratio exceeds 1.
    """
    ratio = config.number(key, default=0.5, fraction=True, most=1.0)
    return 1 / ratio


VISION: dict[str, Callable[[Config, Config, float], Tower | None]] = {
    "llava": llava,
    "llava_next": llava,
    "llava_onevision": llava,
    "mistral3": pixtral,
    "gemma3": gemma3,
    "gemma4": gemma4,
    "llama4": llama4,
    "internvl_chat": internvl,
    "internvl": internvl,
    "kimi_vl": kimi_vl,
    "qwen2_vl": qwen2_vl,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen2_5_omni_thinker": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "qwen3_vl_moe": qwen3_vl,
    "qwen3_omni_moe_thinker": qwen3_vl,
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
        config: the whole file, or the section of it that holds the tower beside the language model.
        language: its part about the language model, whose width is that of image tokens.

    Raises:
        InputError: a field of vision_config is missing or out of range.
    """
    kind = config.get("model_type")
    read = VISION.get(kind) if isinstance(kind, str) else None
    if read is None or config.get("vision_config") in (None, {}):
        return None
    return read(config, config.section("vision_config"), float(language.hidden))
