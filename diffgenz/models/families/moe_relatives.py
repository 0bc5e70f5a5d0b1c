"""Relatives of the families in `families.moe`, which name and place experts in their own ways."""

from collections.abc import Callable, Sequence

from diffgenz.core.errors import InputError
from diffgenz.models.assembly import attention_of, biased, model_of, model_with
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.blocks.short_conv import ShortConv
from diffgenz.models.config import Config
from diffgenz.models.families.moe import (
    experts_of,
    first_dense_of,
    listed,
    shared_of,
    sparse_layers,
    with_dense,
)
from diffgenz.models.model import Model


def ernie4_5_moe(config: Config) -> Model:
    """ERNIE 4.5 with experts in some layers, beside shared ones."""
    config = config.with_defaults(moe_layer_start_index=1, moe_layer_end_index=-1, moe_k=6)
    config.expect(use_bias=False, moe_use_aux_free=True, moe_gate="topk")
    config.ignore("moe_norm_min", "moe_group", "moe_dense_experts_token_type_id")
    shared = _beside(config, "moe_num_shared_experts")
    first, last = config.count("moe_layer_start_index", least=0), config.get("moe_layer_end_index")
    period = config.count("moe_layer_interval", default=1)
    if not isinstance(last, int) or last < -1:
        raise InputError(f"{config.name}: moe_layer_end_index: {last!r} is not a layer, or -1")
    end = config.layers if last == -1 else min(last + 1, config.layers)
    sparse = [layer for layer in range(first, end) if (layer + 1) % period == 0]
    moe = experts_of(
        config,
        routed=config.number("moe_num_experts", "num_experts"),
        used=config.number("moe_k", "num_experts_per_tok"),
        shared=shared,
        router_bias=True,
    )
    return model_of(config, attention_of(config), *with_dense(config, moe, sparse), tied=True)


def _beside(config: Config, *keys: str, width: str = "moe_intermediate_size") -> MLP | None:
    """The shared experts, of which `keys` count as many as there are; None where there are none."""
    count = config.count(*keys, default=0, least=0)
    if not count:
        return None
    return MLP(intermediate=count * config.number(width), norm=None, reduces=False)


def _of_all(config: Config, *keys: str, default: int | None = None) -> int | float:
    """A number that a file may state once for each layer, and that is the same in all of them.

    Raises:
        InputError: it differs from layer to layer.
    """
    value = config.get(*keys, default=default)
    if not isinstance(value, list):
        return config.number(*keys, default=default)
    if not value or any(each != value[0] for each in value):
        raise config.not_modelled(keys[0])
    return Config(f"{config.name}: {keys[0]}", {"entry": value[0]}).number("entry")


WIDTH = "moe_intermediate_size"

HUNYUAN_WITHOUT_INFLUENCE = (
    *("use_mixed_mlp_moe", "moe_drop_tokens", "moe_random_routing_dropped_token", "norm_type"),
    *("capacity_factor", "org_vocab_size", "position_embedding_xdrope", "dense_list"),
    *("q_lora_rank", "kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"),
    *("cla_share_factor", "mask_init_id", "pool_type", "add_classification_head", "class_num"),
    *("im_newline_id", "anyres_pooling_size", "anyres_vit_max_image_size"),
)
"""Fields of Hunyuan's files that no released language model uses."""


def hunyuan_v1_moe(config: Config) -> Model:
    """Hunyuan-A13B: norms on queries and keys, and experts beside a shared one in every layer."""
    config.expect(use_cla=False, use_mla=False, attention_head_dim=config.head_dim)
    config.expect(moe_layer_num_skipped=0, use_qk_norm=True, group_limited_greedy=False)
    config.ignore(*HUNYUAN_WITHOUT_INFLUENCE)
    config = config.revised(n_group=None, topk_group=None)  # of that routing
    dense = _of_all(config, "intermediate_size")
    width = dense if config.get(WIDTH) is None else _of_all(config, WIDTH)
    count = _of_all(config, "num_shared_expert", default=1)
    moe = experts_of(
        config,
        routed=_of_all(config, "num_experts", "num_local_experts"),
        used=_of_all(config, "moe_topk", "num_experts_per_tok"),
        intermediate=width,
        shared=MLP(intermediate=count * width, norm=None, reduces=False),
    )
    attention = attention_of(config, query_key_norm="head", **biased(config))
    return model_of(config, attention, (moe, config.layers), tied=False)


def dots1(config: Config) -> Model:
    """dots.llm1: DeepSeek-MoE with norms on queries and keys and routing biases."""
    config.ignore("max_window_layers")
    moe = experts_of(config, shared=shared_of(config), router_bias=True)
    attention = attention_of(config, query_key_norm="head", **biased(config))
    windowed = config.split("layer_types", "sliding_attention", "full_attention")
    window = config.window()
    return model_of(
        config,
        attention,
        *first_dense_of(config, moe),
        tied=False,
        windowed=() if windowed is None else windowed[0],
        window=window,
    )


def bailing_moe(config: Config) -> Model:
    """Ling and Ring: DeepSeek-MoE, whose version 2 has norms on queries and keys."""
    newer = config.raw.get("model_type") == "bailing_moe_v2"
    bias = config.flag("use_qkv_bias", default=False)
    norms = "head" if config.flag("use_qk_norm", default=newer) else None
    config.expect(use_bias=False, multi_gate=False, norm_softmax=False, use_rmsnorm=True)
    config.ignore("moe_router_topk_scaling_factor")
    width = config.number("moe_intermediate_size")
    width = config.number("moe_shared_expert_intermediate_size", default=width)
    count = config.count("num_shared_experts", default=0, least=0)
    shared = MLP(intermediate=count * width, norm=None, reduces=False) if count else None
    router_bias = config.flag("moe_router_enable_expert_bias", default=newer)
    moe = experts_of(config, shared=shared, router_bias=router_bias)
    attention = attention_of(config, query_key_norm=norms, qkv_bias=bias)
    return model_of(config, attention, *first_dense_of(config, moe), tied=False)


def granitemoe(config: Config) -> Model:
    """Granite 3 with experts, which in some files are beside a shared MLP."""
    attention = attention_of(config, **biased(config))
    shared = None
    if config.get("shared_intermediate_size"):
        width = config.number("shared_intermediate_size")
        shared = MLP(intermediate=width, norm=None, reduces=False)
    moe = experts_of(config, shared=shared)
    return model_of(config, attention, (moe, config.layers), tied=False)


def exaone_moe(config: Config) -> Model:
    """K-EXAONE: norms on queries and keys, windows in three layers of four, DeepSeek's experts."""
    attention = attention_of(config, query_key_norm="head")
    window = config.window()
    period = config.get("sliding_window_pattern", default=4)
    kinds = config.split("layer_types", "sliding_attention", "full_attention")
    if kinds is not None:
        windowed: Sequence[int] = kinds[0]
    elif isinstance(period, str) and period and not set(period) - set("LG"):  # a letter each
        windowed = [at for at in range(config.layers) if period[at % len(period)] == "L"]
    else:
        period = config.count("sliding_window_pattern", default=4)
        windowed = config.others(range(period - 1, config.layers, period))
    if config.get("mlp_layer_types") is None:
        config = config.with_defaults(first_k_dense_replace=1)
    if isinstance(config.get("is_moe_layer"), list):
        config.expect(is_moe_layer=[at in sparse_layers(config) for at in range(config.layers)])
    shared = _beside(config, "num_shared_experts")
    moe = experts_of(config, shared=shared, router_bias=True)
    return model_of(
        config,
        attention,
        *first_dense_of(config, moe),
        tied=False,
        windowed=windowed if window else (),
        window=window,
    )


def afmoe(config: Config) -> Model:
    """Trinity: gated attention, windowed in three layers of four, and norms around each block."""
    config.ignore("mup_enabled", "route_norm", "use_grouped_mm", "num_limited_groups")
    config.expect(num_expert_groups=1, n_group=1, topk_group=1, attention_bias=False)
    attention = attention_of(config, query_key_norm="head", output_gate=True, norms=2)
    period = config.count("global_attn_every_n_layers", default=4)
    kinds = config.split("layer_types", "sliding_attention", "full_attention")
    windowed = (
        config.others(range(period - 1, config.layers, period)) if kinds is None else kinds[0]
    )
    moe = experts_of(
        config, shared=_beside(config, "num_shared_experts"), router_bias=True, norms=2
    )
    first = min(config.count("num_dense_layers", default=1, least=0), config.layers)
    mlp = MLP(intermediate=config.number("intermediate_size"), norms=2)
    return model_of(
        config,
        attention,
        (mlp, range(first)),
        (moe, range(first, config.layers)),
        tied=False,
        windowed=windowed,
        window=config.number("sliding_window", default=1024) if windowed else None,
    )


def solar_open(config: Config) -> Model:
    """Solar Open: experts as in DeepSeek-V3 in every layer, and plain attention."""
    config.expect(first_k_dense_replace=0, use_qk_norm=False)
    config.ignore("intermediate_size", "partial_rotary_factor")
    moe = experts_of(config, shared=shared_of(config), router_bias=True)
    attention = attention_of(config, qkv_bias=biased(config)["qkv_bias"])
    return model_of(config, attention, (moe, config.layers), tied=False)


def lfm2_moe(config: Config) -> Model:
    """LFM2 with experts in all but the first layers."""
    conv, full = listed(config, "layer_types", "conv", "full_attention")
    mixer = ShortConv(
        width=config.number("conv_L_cache", default=3),
        bias=config.flag("conv_bias", default=False),
    )
    first = config.count("num_dense_layers", default=2, least=0)
    moe = experts_of(config, router_bias=config.flag("use_expert_bias", default=True))
    sparse = range(min(first, config.layers), config.layers)
    tied = config.flag("tie_embedding", "tie_word_embeddings", default=True)
    return model_with(
        config,
        (mixer, conv),
        (attention_of(config, query_key_norm="head"), full),
        *with_dense(config, moe, sparse),
        tied=tied,
    )


MOE_RELATIVES: dict[str, Callable[[Config], Model]] = {
    "ernie4_5_moe": ernie4_5_moe,
    "hunyuan_v1_moe": hunyuan_v1_moe,
    "dots1": dots1,
    "bailing_moe": bailing_moe,
    "bailing_moe_v2": bailing_moe,
    "granitemoe": granitemoe,
    "granitemoeshared": granitemoe,
    "exaone_moe": exaone_moe,
    "afmoe": afmoe,
    "solar_open": solar_open,
    "lfm2_moe": lfm2_moe,
}
"""The function that reads each `model_type`."""
