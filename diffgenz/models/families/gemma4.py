"""Gemma 4: dense models with per-layer embeddings, and one of experts beside a dense MLP."""

from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.models.assembly import Layers, attention_of, biased, model_with, windowed_layers
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.blocks.per_layer import PerLayerEmbedding, PerLayerInput
from diffgenz.models.config import Config
from diffgenz.models.families.moe import experts_of, overrides
from diffgenz.models.model import Model, Repeated


def gemma4(config: Config) -> Model:
    """Gemma 3 with wider heads in the full layers: 31B, 26B-A4B, E4B, E2B.

    In the large models the values of full layers are their keys. In 26B-A4B each layer has experts
    beside its MLP. In E4B and E2B each layer has an embedding of its own, and the last
    `num_kv_shared_layers` read the keys and values of an earlier one.
    """
    config = config.with_defaults(
        head_dim=256,
        num_attention_heads=8,
        num_key_value_heads=4,
        vocab_size=262_144,
        sliding_window=512,
        hidden_size_per_layer_input=256,
    )
    config.ignore("use_bidirectional_attention")  # of images, or embedding models
    shared = config.count("num_kv_shared_layers", default=0, least=0)
    if shared >= config.layers:
        raise InputError(
            f"{config.name}: num_kv_shared_layers: {shared} leaves none of {config.layers} layers "
            "(num_hidden_layers) that makes keys and values"
        )
    first = config.layers - shared
    blocks = [*_attention(config, first), *_feed_forward(config, first)]
    width = config.count("hidden_size_per_layer_input", least=0)
    config.ignore("vocab_size_per_layer_input")
    if not width:
        return model_with(config, *blocks, tied=True)
    model = model_with(config, *blocks, (PerLayerInput(width=width), config.layers), tied=True)
    embedding = PerLayerEmbedding(
        vocabulary=config.number("vocab_size_per_layer_input", default=262_144),
        layers=config.layers,
        width=width,
    )
    return model.replace(blocks=(Repeated(embedding, 1.0), *model.blocks))


def _attention(config: Config, first: int) -> list[tuple[Block, Layers]]:
    """(block, layers) of attention: windowed or full, with a cache of its own or a borrowed one.

    Arguments:
        config: the facts.
        first: the first layer that borrows the cache.
    """
    spelt = config.others(range(5, config.layers, 6))
    sliding = set(windowed_layers(config, spelt)) - {config.layers - 1}  # the last is always full
    plain = attention_of(config, norms=2, query_key_norm="head", **biased(config))
    tied = config.flag("attention_k_eq_v", default=False)
    other = "num_global_key_value_heads"
    facts: dict[str, Any] = {"head_dim": config.number("global_head_dim", default=512)}
    if tied and config.get(other) is not None:
        facts["kv_heads"] = config.number(other)
    config.ignore(other)
    full_layers = config.others(sorted(sliding))
    facts |= overrides(config, full_layers, head_dim="head_dim", kv_heads="num_key_value_heads")
    full = plain.replace(**facts)
    windowed = plain.replace(window=config.number("sliding_window"))
    found: list[tuple[Block, Layers]] = []
    for borrows, layers in ((False, range(first)), (True, range(first, config.layers))):
        for block, slides in ((windowed, True), (full, False)):
            chosen = [layer for layer in layers if (layer in sliding) is slides]
            ties = tied and not slides and not borrows
            found.append((block.replace(borrows_cache=borrows, tied_values=ties), chosen))
    return found


def _feed_forward(config: Config, first: int) -> list[tuple[Block, Layers]]:
    """(block, layers) of the MLPs and of the experts beside them.

    Arguments:
        config: the facts.
        first: the first layer whose MLP may be twice as wide.
    """
    mlp = MLP(intermediate=config.number("intermediate_size"), norms=2)
    double = config.flag("use_double_wide_mlp", default=False)
    wide = range(first, config.layers) if double else ()
    found: list[tuple[Block, Layers]] = [
        (mlp, config.others(wide)),
        (mlp.replace(intermediate=2 * mlp.intermediate), wide),
    ]
    if not config.flag("enable_moe_block", default=False):
        config.ignore("num_experts", "top_k_experts", *WIDTHS)
        return found
    # norms before and after the experts, of the router, and of the sum with the MLP; each expert
    # has a scale
    moe = experts_of(
        config,
        used=config.number("top_k_experts"),
        intermediate=config.number(*WIDTHS),
        norms=4,
        router_bias=True,
    )
    return [*found, (moe, config.layers)]


WIDTHS = ("moe_intermediate_size", "expert_intermediate_size")
"""The names of the experts' width."""
