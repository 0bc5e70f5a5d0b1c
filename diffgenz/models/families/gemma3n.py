"""Gemma 3n, the language model: layers with embeddings, residuals and streams of their own."""

from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.models.assembly import Layers, attention_of, biased, model_with, windowed_layers
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.blocks.per_layer import (
    AlternatingUpdates,
    LowRankResidual,
    PerLayerEmbedding,
    PerLayerInput,
    StreamProjections,
)
from diffgenz.models.config import Config
from diffgenz.models.model import Model, Repeated


def gemma3n(config: Config) -> Model:
    """Gemma 3 with per-layer embeddings, AltUp and LAuReL, and a cache that layers share: E2B, E4B.

    Four layers in five have a window. The last `num_kv_shared_layers` read the keys and values of
    the last layer before them that has their kind of attention. Sparse activations
    (`activation_sparsity_pattern`) are computed as dense ones.
    """
    config = config.with_defaults(
        head_dim=256,
        num_attention_heads=8,
        num_key_value_heads=2,
        vocab_size=262_400,
        sliding_window=512,
    )
    config.ignore("activation_sparsity_pattern", "altup_active_idx", "altup_correct_scale")
    config.ignore("laurel_all", "altup_lr_multiplier")
    width = config.number("hidden_size_per_layer_input", default=256)
    streams = config.number("altup_num_inputs", default=4)
    around: list[tuple[Block, Layers]] = [
        (AlternatingUpdates(streams=streams), config.layers),
        (LowRankResidual(rank=config.number("laurel_rank", default=64)), config.layers),
        (PerLayerInput(width=width), config.layers),
    ]
    model = model_with(config, *_attention(config), *_feed_forward(config), *around, tied=True)
    once = (
        PerLayerEmbedding(
            vocabulary=config.number("vocab_size_per_layer_input", default=262_144),
            layers=config.layers,
            width=width,
        ),
        StreamProjections(streams=streams),
    )
    return model.replace(blocks=(*(Repeated(each, 1.0) for each in once), *model.blocks))


def _attention(config: Config) -> list[tuple[Block, Layers]]:
    """(block, layers) of attention: windowed or full, with a cache of its own or a borrowed one."""
    full = range(4, config.layers, 5)
    windowed = set(windowed_layers(config, config.others(full)))
    shared = config.count("num_kv_shared_layers", default=15, least=0)
    if shared >= config.layers:
        raise InputError(
            f"{config.name}: num_kv_shared_layers: {shared} leaves none of {config.layers} layers "
            "(num_hidden_layers) that makes keys and values"
        )
    first = config.layers - shared
    plain = attention_of(config, norms=2, query_key_norm="head", **biased(config))
    window = config.number("sliding_window")
    found: list[tuple[Block, Layers]] = []
    for borrows, layers in ((False, range(first)), (True, range(first, config.layers))):
        for slides in (True, False):
            chosen = [layer for layer in layers if (layer in windowed) is slides]
            block = plain.replace(borrows_cache=borrows, window=window if slides else None)
            found.append((block, chosen))
    return found


def _feed_forward(config: Config) -> list[tuple[Block, Layers]]:
    """(block, layers) of the MLPs, which may have a width for each layer."""
    widths: Any = config.get("intermediate_size", default=16_384)
    if not isinstance(widths, list):
        widths = [config.number("intermediate_size", default=16_384)] * config.layers
    if len(widths) != config.layers:
        raise InputError(
            f"{config.name}: intermediate_size must list {config.layers} layers (num_hidden_layers)"
        )
    each = [Config(f"{config.name}: intermediate_size", {"entry": width}) for width in widths]
    sizes = [entry.number("entry") for entry in each]
    return [
        (
            MLP(intermediate=size, norms=2),
            [layer for layer, one in enumerate(sizes) if one == size],
        )
        for size in dict.fromkeys(sizes)
    ]
