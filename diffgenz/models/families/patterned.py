"""Families of experts whose attention differs from layer to layer, one function each."""

from collections.abc import Callable
from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.models.assembly import Layers, attention_of, model_with
from diffgenz.models.blocks.attention import Attention
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.blocks.sparse_attention import BlockIndex, SparseAttention
from diffgenz.models.config import Config
from diffgenz.models.families.moe import (
    experts_of,
    listed,
    overrides,
    shared_of,
    sparse_layers,
    with_dense,
)
from diffgenz.models.model import Model


def minimax_m3(config: Config) -> Model:
    """MiniMax-M3: block-sparse attention and experts in all but the first layers.

    Its attention is full, and its MLPs dense, where lists of the file say so.
    """
    config.expect(use_qk_norm=True, qk_norm_type="per_head", attention_output_gate=False)
    config.expect(use_routing_bias=True)
    width = config.number("shared_intermediate_size", default=config.get("moe_intermediate_size"))
    count = config.count("n_shared_experts", default=1, least=0)
    shared = MLP(intermediate=width * count, norm=None, reduces=False) if count else None
    moe = experts_of(config, router_bias=True, shared=shared)
    index, sparse = _block_index(config)
    attention = attention_of(config, query_key_norm="head")
    blocks: list[tuple[Block, Layers]] = [(attention, config.others(sparse))]
    if index is not None and sparse:
        indexed = SparseAttention(
            heads=attention.heads,
            kv_heads=attention.kv_heads,
            head_dim=attention.head_dim,
            query_key_norm="head",
            index=index,
        )
        blocks.append((indexed, sparse))
    experts = sparse_layers(config)
    dense = config.others(experts)
    if dense:
        blocks.append((MLP(intermediate=config.number("dense_intermediate_size")), dense))
    config.ignore("dense_intermediate_size")
    return model_with(config, *blocks, (moe, experts), tied=False)


def _block_index(config: Config) -> tuple[BlockIndex | None, tuple[int, ...]]:
    """The index of MiniMax-M3 and the layers that have it, in either spelling."""
    if config.get("sparse_attention_config") is not None:
        nested = config.section("sparse_attention_config")
        if not nested.flag("use_sparse_attention", default=True):
            return None, ()
        nested = nested.revised(num_hidden_layers=config.layers)
        nested.ignore("sparse_init_block", "sparse_local_block", "sparse_score_type")
        sparse = listed(nested, "sparse_attention_freq", 0, 1)[1]
        values = nested.kinds("sparse_disable_index_value")
        if values is not None and any(not values[layer] for layer in sparse):
            raise nested.not_modelled("sparse_disable_index_value")
        index = BlockIndex(
            nested.number("sparse_num_index_heads"),
            nested.number("sparse_index_dim"),
            nested.number("sparse_block_size"),
            nested.number("sparse_topk_blocks"),
        )
        return index, sparse
    config.ignore("index_local_blocks")
    split = config.split("layer_types", "full_attention", "minimax_m3_sparse")
    sparse = () if split is None else split[1]
    sizes = ("index_n_heads", "index_head_dim", "index_block_size", "index_topk_blocks")
    if not sparse:
        config.ignore(*sizes)
        return None, ()
    return BlockIndex(*(config.number(size) for size in sizes)), sparse


def step3p5(config: Config) -> Model:
    """Step-3.5-Flash and Step-3.7-Flash: gated heads, of which windowed layers may have more.

    Each layer has experts beside a shared one, but for the first three.
    """
    config.expect(use_head_wise_attn_gate=True, gating=True, use_moe=True, use_qk_norm=True)
    config.expect(attention_bias=False, mlp_bias=False, sink=False)
    config.ignore("yarn_only_types", "norm_expert_weight", "att_impl_type", "zero_centered")
    config.ignore("need_fp32_gate", "mtp_layer_types", "mtp_mlp_layer_types", "moe_every_n_layer")
    config.ignore("query_pre_attn_scalar", "n_shared_experts")
    config = _without_mtp_layers(config)
    facts: dict[str, Any] = {"query_key_norm": "head", "head_gate": True}
    kv_heads = config.number("num_key_value_heads", "num_attention_groups", default=config.heads)
    full = attention_of(config, **facts, kv_heads=kv_heads)
    other, heads = "attention_other_setting", "num_sliding_attention_heads"
    windowed = full.replace(heads=config.number(heads, default=config.heads))
    if config.get(other) is not None:
        setting = config.section(other)
        setting.expect(attention_type="sliding_attention")
        setting.ignore("true_head_dim")
        windowed = full.replace(
            heads=setting.number("num_attention_heads", default=config.heads),
            kv_heads=setting.number("num_attention_groups", default=kv_heads),
            head_dim=setting.number("head_dim", default=config.head_dim),
        )
    if config.get("per_layer_config"):
        sliding = listed(config, "layer_types", "full_attention", "sliding_attention")[1]
        windowed = windowed.replace(**overrides(config, sliding, heads="num_attention_heads"))
    width = config.number("share_expert_dim", "share_expert_dims")
    moe = experts_of(
        config,
        routed=config.number("moe_num_experts", "num_experts", "n_routed_experts"),
        used=config.number("moe_top_k", "num_experts_per_tok"),
        shared=MLP(intermediate=width, norm=None, reduces=False),
        router_bias=config.flag("use_moe_router_bias", default=True),
    )
    config.ignore("num_local_experts")
    return model_with(
        config,
        *_alternating(config, full, windowed),
        *with_dense(config, moe, _step_experts(config)),
        tied=False,
    )


def _without_mtp_layers(config: Config) -> Config:
    """The config without the entries that its lists have for multi-token-prediction layers."""
    more = config.count("num_nextn_predict_layers", "num_mtp_layers", default=0, least=0)
    lists = ("layer_types", "mlp_layer_types")
    cut = {
        key: config.raw[key][: config.layers]
        for key in lists
        if isinstance(config.raw.get(key), list) and len(config.raw[key]) == config.layers + more
    }
    return config.revised(**cut)


def _alternating(
    config: Config, full: Attention, windowed: Attention
) -> tuple[tuple[Block, Layers], ...]:
    """(block, layers) of full and windowed attention, as `layer_types` lists them."""
    layers = config.split("layer_types", "full_attention", "sliding_attention")
    if layers is None or not layers[1]:
        config.ignore("sliding_window")
        return ((full, config.layers),)
    windowed = windowed.replace(window=config.number("sliding_window"))
    return (windowed, layers[1]), (full, layers[0])


def _step_experts(config: Config) -> tuple[int, ...]:
    """The layers of Step-3.5 that have experts: listed, as text too, or as in `sparse_layers`.

    Raises:
        InputError: an entry is no layer of the model.
    """
    named = config.get("moe_layers_enum")
    if named is None:
        if config.get("mlp_layer_types") is None:
            config = config.with_defaults(first_k_dense_replace=3)
        return sparse_layers(config)
    entries = named.split(",") if isinstance(named, str) else named
    try:
        layers = {int(each) for each in entries}
    except (TypeError, ValueError):
        layers = {-1}
    more = config.count("num_nextn_predict_layers", "num_mtp_layers", default=0, least=0)
    if not layers or not layers <= set(range(config.layers + more)):
        raise InputError(
            f"{config.name}: moe_layers_enum: {named!r} must list layers below {config.layers}"
        )
    return tuple(sorted(layers & set(range(config.layers))))


def mimo_v2(config: Config) -> Model:
    """MiMo-V2-Flash: windowed layers have other heads than full ones, and values are narrower.

    They may also have sinks, which full layers may lack.
    """
    config.ignore("sliding_window_size", "attention_chunk_size")  # of older engines: the window
    config.expect(attention_bias=False)
    kinds = {}
    for prefix, kind in (("", "full"), ("swa_", "swa")):
        kv_heads = config.number("num_key_value_heads", default=config.heads)
        value_dim = config.number("v_head_dim", default=config.head_dim)
        kinds[kind] = Attention(
            heads=config.number(f"{prefix}num_attention_heads", default=config.heads),
            kv_heads=config.number(f"{prefix}num_key_value_heads", default=kv_heads),
            head_dim=config.number(f"{prefix}head_dim", default=config.head_dim),
            value_dim=config.number(f"{prefix}v_head_dim", default=value_dim),
            sinks=config.flag(f"add_{kind}_attention_sink_bias", default=kind == "swa"),
        )
    full, windowed = kinds["full"], kinds["swa"]
    if config.get("hybrid_layer_pattern") is None:
        mixers = _alternating(config, full, windowed)
    else:
        layers = listed(config, "hybrid_layer_pattern", 0, 1)
        windowed = windowed.replace(window=config.number("sliding_window"))
        mixers = ((windowed, layers[1]), (full, layers[0]))
    moe = experts_of(config, shared=shared_of(config), router_bias=True)
    return model_with(config, *mixers, *with_dense(config, moe, sparse_layers(config)), tied=False)


PATTERNED: dict[str, Callable[[Config], Model]] = {
    "minimax_m3": minimax_m3,
    "minimax_m3_vl": minimax_m3,
    "step3p5": step3p5,
    "step3p7": step3p5,
    "mimo_v2_flash": mimo_v2,
    "mimo_v2": mimo_v2,
}
"""The function that reads each `model_type`."""
