"""Dense families, one function each: the facts of a config.json -> the blocks of a `Model`.

Each says only in what the family differs: norms, biases, gating, windows, parallel blocks. `DENSE`
maps `model_type` to it; a new family is one function and one line there. Counts of parameters,
which tests compare with the published ones, follow from the blocks.
"""

from collections.abc import Callable

from diffgenz.core.errors import InputError
from diffgenz.models.blocks.attention import Attention
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.blocks.norm import Norm
from diffgenz.models.config import Config, attention_of, model_of, windowed_layers
from diffgenz.models.model import Model


def llama(config: Config) -> Model:
    """RMS norm, gated MLP, no biases: Llama 2 and 3, Yi, DeepSeek LLM, Granite, SmolLM2."""
    bias = config.flag("attention_bias", default=False)
    mlp = MLP(
        intermediate=config.number("intermediate_size"), bias=config.flag("mlp_bias", default=False)
    )
    return model_of(
        config, attention_of(config, qkv_bias=bias, out_bias=bias), (mlp, config.layers), tied=False
    )


def mistral(config: Config) -> Model:
    """Llama with, in some, a window on every layer: Mistral, Phi-3, Phi-4."""
    window = config.window()
    windowed = windowed_layers(config, config.layers) if window else 0
    return model_of(
        config,
        attention_of(config),
        (MLP(intermediate=config.number("intermediate_size")), config.layers),
        tied=False,
        windowed=windowed,
        window=window,
    )


def qwen2(config: Config) -> Model:
    """Llama with biases on Q, K and V: Qwen 1.5, 2 and 2.5."""
    return _qwen(config, attention_of(config, qkv_bias=True))


def qwen3(config: Config) -> Model:
    """Llama with norms on queries and keys."""
    bias = config.flag("attention_bias", default=False)
    return _qwen(config, attention_of(config, query_key_norm="head", qkv_bias=bias, out_bias=bias))


def _qwen(config: Config, attention: Attention) -> Model:
    window = config.window() if config.flag("use_sliding_window", default=False) else None
    first = config.count("max_window_layers", default=28, least=0)
    windowed = windowed_layers(config, max(config.layers - first, 0)) if window else 0
    return model_of(
        config,
        attention,
        (MLP(intermediate=config.number("intermediate_size")), config.layers),
        tied=False,
        windowed=windowed,
        window=window,
    )


def gemma(config: Config) -> Model:
    """Llama, tied, with wide heads."""
    config = config.with_defaults(head_dim=256)
    return model_of(
        config,
        attention_of(config),
        (MLP(intermediate=config.number("intermediate_size")), config.layers),
        tied=True,
    )


def gemma2(config: Config) -> Model:
    """Norms before and after each block; every other layer slides a window."""
    config = config.with_defaults(head_dim=256, sliding_window=4096)
    return _gemma_pattern(
        config, attention_of(config, norms=2), windowed_layers(config, (config.layers + 1) // 2)
    )


def gemma3(config: Config) -> Model:
    """Gemma 2 with norms on queries and keys, five windowed layers to each full one."""
    config = config.with_defaults(
        head_dim=256,
        num_attention_heads=8,
        num_key_value_heads=4,
        vocab_size=262_208,
        sliding_window=4096,
    )
    period = config.count("sliding_window_pattern", default=6)
    windowed = windowed_layers(config, config.layers - config.layers // period)
    return _gemma_pattern(config, attention_of(config, norms=2, query_key_norm="head"), windowed)


def _gemma_pattern(config: Config, attention: Attention, windowed: int) -> Model:
    mlp = MLP(intermediate=config.number("intermediate_size"), norms=2)
    return model_of(
        config,
        attention,
        (mlp, config.layers),
        tied=True,
        windowed=windowed,
        window=config.number("sliding_window", default=4096),
    )


def olmo2(config: Config) -> Model:
    """Norms after the blocks only, and over all heads of queries and keys."""
    return model_of(
        config,
        attention_of(config, query_key_norm="all"),
        (MLP(intermediate=config.number("intermediate_size")), config.layers),
        tied=False,
    )


def cohere(config: Config) -> Model:
    """Attention and MLP in parallel under one norm without bias; tied."""
    attention = attention_of(
        config,
        norm=Norm.SCALE_ONLY,
        reduces=False,
        query_key_norm="all" if config.flag("use_qk_norm", default=False) else None,
    )
    return model_of(
        config,
        attention,
        (MLP(intermediate=config.number("intermediate_size"), norm=None), config.layers),
        tied=True,
        norm=Norm.SCALE_ONLY,
    )


def phi(config: Config) -> Model:
    """Attention and plain MLP in parallel under one layer norm, biases everywhere: Phi-1, Phi-2."""
    attention = attention_of(config, norm=Norm.LAYER, qkv_bias=True, out_bias=True, reduces=False)
    mlp = MLP(intermediate=config.number("intermediate_size"), gated=False, bias=True, norm=None)
    return model_of(
        config, attention, (mlp, config.layers), tied=False, norm=Norm.LAYER, head_bias=True
    )


def gpt2(config: Config) -> Model:
    """Layer norms, biases, plain MLP, learned positions: GPT-2 and GPT-3."""
    attention = attention_of(config, norm=Norm.LAYER, qkv_bias=True, out_bias=True, rotary=False)
    mlp = MLP(
        intermediate=config.number("n_inner", "intermediate_size", default=4 * config.hidden),
        gated=False,
        bias=True,
        norm=Norm.LAYER,
    )
    return model_of(
        config,
        attention,
        (mlp, config.layers),
        tied=True,
        norm=Norm.LAYER,
        positions=int(config.number("n_positions", "n_ctx")),
    )


def opt(config: Config) -> Model:
    """GPT-2 with two more positions."""
    if config.number("word_embed_proj_dim", default=config.hidden) != config.hidden:
        raise InputError(
            f"{config.name}: word_embed_proj_dim differs from hidden_size (OPT-350m): such a "
            "projection is not modelled"
        )
    bias = config.flag("enable_bias", default=True)
    attention = attention_of(config, norm=Norm.LAYER, qkv_bias=bias, out_bias=bias, rotary=False)
    mlp = MLP(intermediate=config.number("ffn_dim"), gated=False, bias=bias, norm=Norm.LAYER)
    return model_of(
        config,
        attention,
        (mlp, config.layers),
        tied=True,
        norm=Norm.LAYER,
        positions=int(config.number("max_position_embeddings")) + 2,
    )


def falcon(config: Config) -> Model:
    """Attention and plain MLP in parallel, and a tied LM head.

    Multi-query (7B), or grouped-query with two norms (40B, 180B).
    """
    new, parallel = (
        config.flag("new_decoder_architecture", default=False),
        config.flag("parallel_attn", default=True),
    )
    if new:
        kv_heads = config.number("num_kv_heads", default=config.heads)
    else:
        kv_heads = (
            1
            if config.flag("multi_query", default=True)
            else config.number("num_kv_heads", default=config.heads)
        )
    two_norms = config.get("num_ln_in_parallel_attn", default=2 if new else 1) == 2 or not parallel
    bias = config.flag("bias", default=False)
    rotary = not config.flag("alibi", default=False)
    attention = attention_of(
        config,
        kv_heads=kv_heads,
        norm=Norm.LAYER,
        norms=2 if two_norms else 1,
        qkv_bias=bias,
        out_bias=bias,
        rotary=rotary,
        reduces=not parallel,
    )
    mlp = MLP(
        intermediate=config.number("ffn_hidden_size", default=4 * config.hidden),
        gated=False,
        bias=bias,
        norm=None,
    )
    return model_of(config, attention, (mlp, config.layers), tied=True, norm=Norm.LAYER)


def nemotron(config: Config) -> Model:
    """Layer norms with bias, plain MLP with squared ReLU, no other biases."""
    mlp = MLP(intermediate=config.number("intermediate_size"), gated=False, norm=Norm.LAYER)
    return model_of(
        config,
        attention_of(config, norm=Norm.LAYER),
        (mlp, config.layers),
        tied=False,
        norm=Norm.LAYER,
    )


def gpt_neox(config: Config) -> Model:
    """Biases, two layer norms, attention and plain MLP in parallel: GPT-NeoX, Pythia."""
    parallel = config.flag("use_parallel_residual", default=True)
    attention = attention_of(
        config, norm=Norm.LAYER, qkv_bias=True, out_bias=True, reduces=not parallel
    )
    mlp = MLP(
        intermediate=config.number("intermediate_size"), gated=False, bias=True, norm=Norm.LAYER
    )
    return model_of(config, attention, (mlp, config.layers), tied=False, norm=Norm.LAYER)


def starcoder2(config: Config) -> Model:
    """Biases, layer norms, plain MLP, a window on every layer."""
    bias, window = config.flag("use_bias", default=True), config.window()
    attention = attention_of(config, norm=Norm.LAYER, qkv_bias=bias, out_bias=bias)
    mlp = MLP(
        intermediate=config.number("intermediate_size"), gated=False, bias=bias, norm=Norm.LAYER
    )
    windowed = windowed_layers(config, config.layers) if window else 0
    return model_of(
        config,
        attention,
        (mlp, config.layers),
        tied=True,
        windowed=windowed,
        window=window,
        norm=Norm.LAYER,
    )


DENSE: dict[str, Callable[[Config], Model]] = {
    "llama": llama,
    "granite": llama,
    "mistral": mistral,
    "phi3": mistral,
    "qwen2": qwen2,
    "qwen2_5_vl": qwen2,
    "qwen3": qwen3,
    "qwen3_vl": qwen3,
    "gemma": gemma,
    "gemma2": gemma2,
    "gemma3": gemma3,
    "gemma3_text": gemma3,
    "olmo2": olmo2,
    "cohere": cohere,
    "phi": phi,
    "gpt2": gpt2,
    "opt": opt,
    "falcon": falcon,
    "nemotron": nemotron,
    "gpt_neox": gpt_neox,
    "starcoder2": starcoder2,
}
"""`model_type` -> the function that reads it."""
