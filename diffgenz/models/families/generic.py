"""A generic reading of a config.json whose `model_type` no family knows.

It knows the standard names of the fields of dense and mixture-of-experts decoders, and their usual
aliases. What a file does not say is assumed to be as in most models, and `Model.notes` lists it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.models.assembly import Layers, attention_of, model_of, windowed_layers
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.blocks.norm import Norm
from diffgenz.models.config import Config
from diffgenz.models.families.latent import latent_of
from diffgenz.models.families.moe import experts_of, with_dense
from diffgenz.models.model import Model

ALIASES: dict[str, tuple[str, ...]] = {
    "hidden_size": ("n_embd", "d_model", "dim", "model_dim", "embed_dim"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads"),
    "num_key_value_heads": (
        "num_kv_heads",
        "n_kv_heads",
        "n_head_kv",
        "num_query_groups",
        "multi_query_group_num",
        "num_attention_groups",
    ),
    "head_dim": ("kv_channels", "attention_head_dim", "attention_head_size", "d_head"),
    "intermediate_size": (
        "ffn_hidden_size",
        "ffn_dim",
        "n_inner",
        "d_ff",
        "hidden_dim",
        "mlp_hidden_size",
    ),
    "sliding_window": ("sliding_window_size", "window_size"),
    "qkv_bias": ("add_qkv_bias", "use_qkv_bias", "attn_bias"),
    "bias": ("use_bias", "add_bias_linear"),
    "use_qk_norm": ("qk_norm", "use_qk_layernorm", "qk_layernorm", "use_query_key_norm"),
    "tie_word_embeddings": ("tie_embeddings", "weight_tying", "tied_embeddings"),
    "num_experts": (
        "num_local_experts",
        "n_routed_experts",
        "num_routed_experts",
        "moe_num_experts",
    ),
    "num_experts_per_tok": (
        "num_experts_per_token",
        "top_k_experts",
        "num_selected_experts",
        "moe_top_k",
        "moe_topk",
        "moe_k",
        "topk",
    ),
    "moe_intermediate_size": (
        "expert_ffn_hidden_size",
        "moe_ffn_hidden_size",
        "expert_intermediate_size",
        "expert_hidden_size",
    ),
    "n_shared_experts": ("num_shared_experts", "moe_num_shared_experts", "num_shared_expert"),
    "shared_expert_intermediate_size": (
        "moe_shared_expert_intermediate_size",
        "share_expert_dim",
        "shared_intermediate_size",
    ),
    "first_k_dense_replace": ("num_dense_layers", "n_dense_layers", "moe_layer_start_index"),
}
"""Further names of each fact, by the name that most files give it."""

_PLAIN = ("relu", "relu2", "gelu_new", "gelu_fast", "quick_gelu", "gelu_pytorch")
"""Activations of MLPs that have no gate."""


class _Assumed(list[str]):
    """What a generic reading takes for granted, for people."""

    def unless(self, stated: bool, what: str) -> None:
        """Note `what`, unless the file states it."""
        if not stated:
            self.append(what)


def generic(name: str, raw: Mapping[str, Any]) -> tuple[Model, Config]:
    """The model that the standard names of a config.json describe, and its facts.

    What was assumed is in `Model.notes`. `Config.ignored` of the facts is what was left out.

    Arguments:
        name: what to call the model.
        raw: the content of the file, or its part about the language model.

    Raises:
        InputError: no width, no layers, no heads, no vocabulary, a value that is out of range, or
            an encoder.
    """
    config = Config(name, _uniform(raw), generic=True, aliases=ALIASES)
    if config.get("is_encoder_decoder", default=False) is not False:
        raise InputError(
            f"{name}: is_encoder_decoder: {config.get('is_encoder_decoder')!r}: models with an "
            "encoder are not modelled; give a decoder's config.json"
        )
    assumed = _Assumed()
    norm = _norm(config, assumed)
    attention, windowed, window = _attention(config, norm, assumed)
    feed_forward = _feed_forward(config, norm, assumed)
    assumed.unless(config.get("tie_word_embeddings") is not None, "an LM head of its own")
    model = model_of(
        config,
        attention,
        *feed_forward,
        tied=False,
        windowed=windowed,
        window=window,
        norm=norm,
    )
    return model.replace(notes=(f"assumed: {', '.join(assumed)}",)), config


def _uniform(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a file, with one number for each list of equal numbers (one for each layer).

    Where a file has a padded vocabulary beside the plain one, the padded one is what it stores.
    """
    known = {*ALIASES, *(alias for names in ALIASES.values() for alias in names)}
    plain = dict(raw)
    for key, value in raw.items():
        is_list = key in known and isinstance(value, list) and len(value) > 1
        if is_list and type(value[0]) in (int, float) and all(each == value[0] for each in value):
            plain[key] = value[0]
    padded = plain.pop("padded_vocab_size", None)
    return plain if padded is None else plain | {"vocab_size": padded}


def _norm(config: Config, assumed: _Assumed) -> Norm:
    """Layer norms where an epsilon is called so, else RMS norms."""
    keys = ("rms_norm_eps", "rms_eps", "rmsnorm_eps", "norm_rms_eps")
    rms = any(config.raw.get(key) is not None for key in keys)
    layer = any(
        config.raw.get(key) is not None
        for key in ("layer_norm_eps", "layer_norm_epsilon", "layernorm_epsilon", "layernorm_eps")
    )
    assumed.unless(rms, "layer norms" if layer and not rms else "RMS norms")
    assumed.append("one norm before each block")
    return Norm.LAYER if layer and not rms else Norm.RMS


def _attention(
    config: Config, norm: Norm, assumed: _Assumed
) -> tuple[Block, Sequence[int], int | float | None]:
    """The attention block, the layers in which it has a window, and that window."""
    if config.get("kv_lora_rank") is not None:
        return latent_of(config).replace(norm=norm), (), None
    every = config.flag("bias", default=False)
    bias = config.flag("attention_bias", default=every)
    qkv = config.flag("qkv_bias", default=bias)
    stated = [config.get(key) is not None for key in ("bias", "attention_bias", "qkv_bias")]
    assumed.unless(any(stated), "no biases in attention")
    if config.get("head_dim") is None:
        assumed.append(f"head_dim = hidden_size / num_attention_heads = {config.head_dim}")
    kv_stated = config.get("num_key_value_heads") is not None
    if config.get("multi_query", default=False) is True and not kv_stated:
        attention = attention_of(config, kv_heads=1)
    else:
        assumed.unless(kv_stated, f"num_key_value_heads = {config.heads}")
        attention = attention_of(config)
    norms = "head" if config.flag("use_qk_norm", default=False) else None
    attention = attention.replace(norm=norm, qkv_bias=qkv, out_bias=bias, query_key_norm=norms)
    assumed.unless(config.get("use_qk_norm") is not None, "no norms on queries and keys")
    return attention, *_windows(config, assumed)


def _windows(config: Config, assumed: _Assumed) -> tuple[Sequence[int], int | float | None]:
    """The layers that have a window, and the window."""
    window = config.window()
    kinds = config.kinds("layer_types") or []
    others = {str(kind) for kind in kinds} - {"sliding_attention", "full_attention"}
    assumed.unless(not others, f"full attention in the layers of {', '.join(sorted(others))}")
    if window is None or not config.flag("use_sliding_window", default=True):
        return (), None
    period = config.get("sliding_window_pattern")
    windowed = range(config.layers)
    if period is not None:
        period = config.count("sliding_window_pattern")
        windowed = [layer for layer in range(config.layers) if (layer + 1) % period]
    elif not kinds:
        assumed.append(f"a window of {window} tokens in every layer")
    windowed = windowed_layers(config, windowed)
    return windowed, window if windowed else None


def _feed_forward(config: Config, norm: Norm, assumed: _Assumed) -> Sequence[tuple[Block, Layers]]:
    """(block, layers) of dense MLPs and of experts."""
    stated = [config.get(key) is not None for key in ("mlp_bias", "bias")]
    bias = config.flag("mlp_bias", default=config.flag("bias", default=False))
    assumed.unless(any(stated), "no biases in MLPs")
    gated = not _is_plain(config)
    assumed.append("gated MLPs" if gated else "MLPs without a gate")
    if config.get("intermediate_size") is None and not _routed(config):
        assumed.append(f"intermediate_size = 4 x hidden_size = {4 * config.hidden}")
        config = config.with_defaults(intermediate_size=4 * config.hidden)
    if not _routed(config):
        mlp = MLP(intermediate=config.count("intermediate_size"))
        return [(mlp.replace(gated=gated, bias=bias, norm=norm), config.layers)]
    assumed.unless(config.get("moe_intermediate_size") is not None, "experts as wide as MLPs")
    moe = experts_of(config, shared=_shared(config, gated), gated=gated, norm=norm)
    parts = with_dense(config, moe, _sparse(config))
    return [
        (block.replace(gated=gated, bias=bias, norm=norm) if block is not moe else moe, layers)
        for block, layers in parts
    ]


def _is_plain(config: Config) -> bool:
    """Whether the file names an activation of MLPs without a gate."""
    keys = ("hidden_act", "activation_function", "hidden_activation", "activation", "act_fn")
    return any(config.raw.get(key) in _PLAIN for key in keys)


def _routed(config: Config) -> int:
    """Routed experts of a layer; 0 where the model is dense."""
    count = config.count("num_experts", default=0, least=0)
    return count if count > 1 else 0


def _shared(config: Config, gated: bool) -> MLP | None:
    """The shared experts of a layer as one MLP; None where there are none."""
    count = config.count("n_shared_experts", default=0, least=0)
    width = config.get("shared_expert_intermediate_size")
    if width:
        width = config.count("shared_expert_intermediate_size") * max(count, 1)
    elif count:
        own = config.get("moe_intermediate_size") is not None
        width = count * config.count("moe_intermediate_size" if own else "intermediate_size")
    if not width:
        return None
    return MLP(intermediate=width, gated=gated, norm=None, reduces=False)


def _sparse(config: Config) -> list[int]:
    """The layers that have experts.

    They are the layers from `first_k_dense_replace` on, of these every `moe_layer_freq`-th (or
    those where that list has 1), every `decoder_sparse_step`-th, and none in `mlp_only_layers`.
    """
    first = config.count("first_k_dense_replace", default=0, least=0)
    step = config.count("decoder_sparse_step", "interleave_moe_layer_step", default=1)
    dense = config.listed("mlp_only_layers") or ()
    found = [
        layer
        for layer in range(first, config.layers)
        if (layer + 1) % step == 0 and layer not in dense
    ]
    if isinstance(config.get("moe_layer_freq"), list):
        routed = config.where(1, "moe_layer_freq") or ()
        return [layer for layer in found if layer in routed]
    frequency = config.count("moe_layer_freq", "moe_layer_interval", default=1)
    return [layer for layer in found if layer % frequency == 0]
