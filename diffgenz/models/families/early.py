"""Families of before most models became relatives of Llama, one function each.

Among them are learned positions, ALiBi, biases, plain MLPs and parallel blocks. GPT-2, GPT-NeoX,
OPT and Falcon are in `families.dense`.
"""

from collections.abc import Callable
from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.models.assembly import attention_of, mlp_of, model_of
from diffgenz.models.blocks.embedding_norm import EmbeddingNorm
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.blocks.norm import Norm
from diffgenz.models.config import Config
from diffgenz.models.model import Model, Repeated


def _early(
    config: Config, attention: dict[str, Any], mlp: MLP, tied: bool, **differences: Any
) -> Model:
    """Layer norms, and attention and an MLP in every layer.

    Arguments:
        config: the facts.
        attention: fields of `Attention` in which the family differs.
        mlp: the MLP.
        tied: whether the LM head uses the embedding's weights where the file says nothing.
        differences: fields of `Model` in which the family differs.
    """
    facts: dict[str, Any] = {"norm": Norm.LAYER} | differences
    block = attention_of(config, **({"norm": Norm.LAYER} | attention))
    return model_of(config, block, (mlp, config.layers), tied=tied, **facts)


def _wide(config: Config, **differences: Any) -> MLP:
    """A plain MLP with biases, four times as wide as the model where the file says nothing."""
    width = config.number("n_inner", "intermediate_size", default=4 * config.hidden)
    facts: dict[str, Any] = {"gated": False, "bias": True, "norm": Norm.LAYER}
    return MLP(intermediate=width, **(facts | differences))


def gptj(config: Config) -> Model:
    """Attention without biases and a plain MLP in parallel after one norm: GPT-J and CodeGen."""
    config.expect(rotary=True)
    config.ignore("n_ctx", "n_positions")
    return _early(config, {"reduces": False}, _wide(config, norm=None), tied=False, head_bias=True)


def gpt_neo(config: Config) -> Model:
    """GPT-2 without biases on Q, K and V, and with a window on every other layer: GPT-Neo."""
    config = config.calling(num_attention_heads="num_heads")
    listed = config.kinds("attention_layers")
    if listed is None:
        listed = _expanded(config, config.get("attention_types", default=[]))
    config.ignore("attention_types")  # says the same
    split = config.split("attention_layers", "local", "global", listed=listed)
    return _early(
        config,
        {"out_bias": True, "rotary": False},
        _wide(config),
        tied=True,
        positions=int(config.number("max_position_embeddings")),
        windowed=() if split is None else split[0],
        window=config.number("window_size", default=256),
    )


def _expanded(config: Config, types: Any) -> list[str]:
    """The kinds of all layers, from pairs of a list of kinds and how often it is repeated.

    Raises:
        InputError: they are no such pairs.
    """
    try:
        return [kind for kinds, times in types for _ in range(times) for kind in kinds]
    except (TypeError, ValueError):
        raise InputError(
            f"{config.name}: attention_types: {types!r} must list pairs such as "
            '[["global", "local"], 12]'
        ) from None


def gpt_bigcode(config: Config) -> Model:
    """GPT-2 with multi-query attention: StarCoder and SantaCoder."""
    heads = 1 if config.flag("multi_query", default=True) else config.heads
    config.expect(num_key_value_heads=heads)
    config.ignore("inference_runner", "max_batch_size", "pad_key_length", "pre_allocate_kv_cache")
    config.ignore("validate_runner_input", "attention_softmax_in_fp32")
    return _early(
        config,
        {"kv_heads": heads, "qkv_bias": True, "out_bias": True, "rotary": False},
        _wide(config),
        tied=True,
        positions=int(config.number("n_positions", "n_ctx")),
    )


def bloom(config: Config) -> Model:
    """Biases everywhere, ALiBi in the place of positions, and a norm on the embedding: BLOOM."""
    config.ignore("offset_alibi", "masked_softmax_fusion", "attention_softmax_in_fp32")
    config.ignore(
        "skip_bias_add", "skip_bias_add_qkv", "n_positions", "num_positions", "unk_token_id"
    )
    config.expect(apply_residual_connection_post_layernorm=False)
    model = _early(
        config,
        {"qkv_bias": True, "out_bias": True, "rotary": False},
        MLP(intermediate=4 * config.hidden, gated=False, bias=True, norm=Norm.LAYER),
        tied=True,
    )
    return model.replace(blocks=(Repeated(EmbeddingNorm(norm=Norm.LAYER), 1.0), *model.blocks))


def mpt(config: Config) -> Model:
    """No biases, layer norms without them too, and ALiBi in the place of positions: MPT.

    The implementation in transformers is that of files with `alibi`, in which `no_bias` holds.
    """
    nested = config.section("attn_config") if config.raw.get("attn_config") is not None else None
    kv_heads = config.heads
    if nested is not None:
        nested.expect(alibi=True, qk_ln=False, prefix_lm=False, attn_uses_sequence_id=False)
        nested.ignore("attn_impl", "alibi_bias_max", "softmax_scale", "attn_pdrop")
        kind = nested.get("attn_type", default="multihead_attention")
        if kind not in ("multihead_attention", "multiquery_attention"):
            raise nested.not_modelled("attn_type")
        kv_heads = 1 if kind == "multiquery_attention" else config.heads
    config.expect(no_bias=True, norm_type="low_precision_layernorm", embedding_fraction=1.0)
    config.ignore("learned_pos_emb", "verbose", "use_pad_tok_in_ffn", "init_config", "fc_type")
    mlp = MLP(
        intermediate=config.number("expansion_ratio", default=4) * config.hidden,
        gated=False,
        norm=Norm.SCALE_ONLY,
    )
    attention = {"norm": Norm.SCALE_ONLY, "rotary": False, "kv_heads": kv_heads}
    return _early(config, attention, mlp, tied=True, norm=Norm.SCALE_ONLY)


def persimmon(config: Config) -> Model:
    """Biases everywhere, layer norms on queries and keys, and a plain MLP: Persimmon."""
    normed = config.flag("qk_layernorm", default=True)
    attention = {
        "qkv_bias": True,
        "out_bias": True,
        "query_key_norm": "head and bias" if normed else None,
    }
    return _early(config, attention, _wide(config), tied=False)


def jais(config: Config) -> Model:
    """GPT-2 with ALiBi in the place of positions, and gated MLPs with biases: Jais."""
    config.expect(position_embedding_type="alibi", activation_function="swiglu")
    config.ignore("n_positions", "width_scale", "scale_qk_dot_by_d", "alibi_scaling")
    config.ignore("embeddings_scale", "scale_attn_weights")
    attention = {"qkv_bias": True, "out_bias": True, "rotary": False}
    return _early(config, attention, _wide(config, gated=True), tied=True)


def qwen(config: Config) -> Model:
    """Llama with biases on Q, K and V; `intermediate_size` is twice the MLP's width: Qwen 1."""
    config.expect(no_bias=True)
    config.ignore("bf16", "fp16", "fp32", "use_cache_quantization")
    config.ignore("use_cache_kernel", "onnx_safe")
    mlp = mlp_of(config, intermediate=config.number("intermediate_size") / 2, bias=False)
    attention = {"qkv_bias": True, "norm": Norm.RMS}
    config = config.calling(head_dim="kv_channels")
    return _early(config, attention, mlp, tied=False, norm=Norm.RMS)


def baichuan(config: Config) -> Model:
    """Llama, in the 13B models with ALiBi in the place of positions: Baichuan and Baichuan 2.

    No field says which; as in vLLM, a width of 4096 means rotary positions.
    """
    config.ignore("z_loss_weight")
    attention = {"norm": Norm.RMS, "rotary": config.hidden == 4096}
    return _early(config, attention, mlp_of(config, bias=False), tied=False, norm=Norm.RMS)


EARLY: dict[str, Callable[[Config], Model]] = {
    "gptj": gptj,
    "codegen": gptj,
    "gpt_neo": gpt_neo,
    "gpt_bigcode": gpt_bigcode,
    "bloom": bloom,
    "mpt": mpt,
    "persimmon": persimmon,
    "jais": jais,
    "qwen": qwen,
    "baichuan": baichuan,
}
"""The function that reads each `model_type`."""
