"""Vision towers for images of any size, one function each, as in `families.vision`.

Arguments of all: as in `families.vision.llava`.
"""

import math

from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.blocks.norm import Norm
from diffgenz.models.config import Config
from diffgenz.models.families.towers import (
    IMAGE_SIZE,
    layers_of,
    listed,
    side,
    states_of,
    tower_with,
)
from diffgenz.models.vision import Projector, Tower


def qwen2_vl(config: Config, vision: Config, width: float) -> Tower:
    """A tower with rotary positions and plain MLPs: Qwen2-VL.

    What other files call the hidden size is its `embed_dim`, and `hidden_size` is the width of the
    language model.
    """
    vision = vision.with_defaults(
        depth=32, embed_dim=1280, num_heads=16, patch_size=14, mlp_ratio=4
    )
    hidden, merge = vision.number("embed_dim"), vision.number("spatial_merge_size", default=2)
    merged, out = hidden * merge**2, vision.number("hidden_size", default=width)
    vision.expect(spatial_patch_size=vision.get("patch_size"))
    ratio = vision.number("mlp_ratio", fraction=True)
    return tower_with(
        vision,
        Projector((merged, merged, out), norm=Norm.LAYER, norm_width=hidden),
        hidden=hidden,
        mlp=MLP(intermediate=ratio * hidden, gated=False, bias=True, norm=Norm.LAYER),
        attention={"rotary": True},
        image_size=side(vision, "image_size", IMAGE_SIZE),
        merge=merge,
        inputs=3 * vision.number("temporal_patch_size", default=2),
    )


def qwen2_5_vl(config: Config, vision: Config, width: float) -> Tower:
    """A tower with RMS norms, gated MLPs and windows: Qwen2.5-VL.

    All layers have windows, except for those in `fullatt_block_indexes`.
    """
    hidden, merge = vision.number("hidden_size"), vision.number("spatial_merge_size", default=2)
    merged, out = hidden * merge**2, vision.number("out_hidden_size", default=width)
    layers = layers_of(vision)
    vision.ignore("tokens_per_second")  # of videos
    vision.expect(spatial_patch_size=vision.get("patch_size"))
    return tower_with(
        vision,
        Projector((merged, merged, out), norm=Norm.RMS, norm_width=hidden),
        norm=Norm.RMS,
        gated=True,
        attention={"rotary": True},
        image_size=side(vision, "image_size", IMAGE_SIZE),
        merge=merge,
        inputs=3 * vision.number("temporal_patch_size", default=2),
        windowed=layers - listed(vision, "fullatt_block_indexes", [7, 15, 23, 31]),
        window=(vision.number("window_size", default=112) / vision.number("patch_size")) ** 2,
    )


def qwen3_vl(config: Config, vision: Config, width: float) -> Tower:
    """A tower with learned and rotary positions: Qwen3-VL, Qwen3.5 and Qwen3-Omni.

    In Qwen3-VL, the states of some layers are handed on through projectors of their own
    (DeepStack); in Qwen3.5, those of none are.
    """
    hidden, merge = vision.number("hidden_size"), vision.number("spatial_merge_size", default=2)
    merged, out = hidden * merge**2, vision.number("out_hidden_size", default=width)
    deep = listed(vision, "deepstack_visual_indexes", [])
    vision.ignore("tokens_per_second")  # of videos
    vision.expect(spatial_patch_size=vision.get("patch_size"), apply_vit_abs_pos_embed=True)
    projectors = [Projector((merged, merged, out), norm=Norm.LAYER, norm_width=hidden)]
    if deep:
        projectors.append(
            Projector((merged, merged, out), norm=Norm.LAYER, norm_width=merged, count=deep)
        )
    return tower_with(
        vision,
        *projectors,
        attention={"rotary": True},
        image_size=side(vision, "image_size", IMAGE_SIZE),
        merge=merge,
        inputs=3 * vision.number("temporal_patch_size", default=2),
        positions=vision.count("num_position_embeddings"),
        patch_bias=True,
    )


def pixtral(config: Config, vision: Config, width: float) -> Tower | None:
    """A tower with RMS norms, gated MLPs and no biases: Pixtral, Mistral Small 3.1.

    `image_size` is the largest side that it takes; images of `IMAGE_SIZE` are assumed. In Mistral
    Small 3.1 (`mistral3`), a projection merges neighbouring patches; in Pixtral, none do. None for
    any other tower, which is not modelled.
    """
    if vision.get("model_type", default="pixtral") != "pixtral":
        return None
    vision = vision.with_defaults(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=1024,
        patch_size=16,
    )
    hidden = vision.number("hidden_size")
    merges = config.get("model_type") != "llava"
    merge = config.number("spatial_merge_size", default=2) if merges else 1
    if states_of(config) > 1:
        raise config.not_modelled("vision_feature_layer")
    merged = hidden * merge**2
    bias = config.flag("multimodal_projector_bias", default=not merges)
    projectors = [Projector((hidden, width, width), bias=bias)]
    if merges:
        merger = Projector((merged, hidden), bias=False, norm=Norm.RMS, norm_width=hidden)
        projectors.insert(0, merger)
    return tower_with(
        vision,
        *projectors,
        norm=Norm.RMS,
        gated=True,
        bias=False,
        attention={"rotary": True},
        image_size=min(side(vision, "image_size", IMAGE_SIZE), IMAGE_SIZE),
        merge=merge,
        norms=1,
        outer_norm=Norm.RMS,
    )


def kimi_vl(config: Config, vision: Config, width: float) -> Tower:
    """MoonViT, a SigLIP with learned and rotary positions: Kimi-VL."""
    hidden, merge = vision.number("hidden_size"), side(vision, "merge_kernel_size", 2)
    merged = hidden * merge**2
    return tower_with(
        vision,
        Projector((merged, merged, width), norm=Norm.LAYER, norm_width=hidden),
        attention={"rotary": True},
        image_size=IMAGE_SIZE,
        merge=merge,
        positions=vision.count("init_pos_emb_height") * vision.count("init_pos_emb_width"),
        patch_bias=True,
        norms=1,
    )


def gemma4(config: Config, vision: Config, width: float) -> Tower:
    """A tower with two norms around each block, gated MLPs and no biases: Gemma 4.

    Its tokens are averages of pooling_kernel_size**2 patches. An image is scaled to at most
    `vision_soft_tokens_per_image` of them; a square one to the largest square that they hold.
    """
    hidden, merge = vision.number("hidden_size"), vision.number("pooling_kernel_size", default=3)
    most = config.count("vision_soft_tokens_per_image", default=280)
    vision.ignore(
        *("default_output_length", "image_seq_length", "video_seq_length"),
        *("global_head_dim", "standardize"),
    )  # 2 vectors
    vision.expect(use_clipped_linears=False)
    vision.expect(attention_bias=False, num_key_value_heads=vision.get("num_attention_heads"))
    norm = Norm.RMS
    return tower_with(
        vision,
        Projector((hidden, width), bias=False),
        mlp=MLP(intermediate=vision.number("intermediate_size"), norm=norm, norms=2),
        norm=norm,
        bias=False,
        attention={"rotary": True, "query_key_norm": "head", "norms": 2},
        image_size=math.isqrt(most) * merge * side(vision, "patch_size"),
        merge=merge,
        positions=2 * vision.count("position_embedding_size"),  # one table for each direction
    )
