"""Dense families, one function each: from the facts of a config.json to the blocks of a `Model`.

A function says only in what its family differs: norms, biases, gating, windows, parallel blocks.
`DENSE` maps each `model_type` to its function, so that a new family is one function and one line
there. Parameter counts follow from the blocks, and tests compare them with the published ones.
"""

from collections.abc import Callable, Sequence

from diffgenz.core.errors import InputError
from diffgenz.models.assembly import attention_of, biased, mlp_of, model_of, windowed_layers
from diffgenz.models.blocks.attention import Attention
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.blocks.norm import Norm
from diffgenz.models.config import Config
from diffgenz.models.model import Model


def llama(config: Config) -> Model:
    """RMS norms, a gated MLP and no biases: Llama 2 and 3, Yi, DeepSeek LLM, Granite, SmolLM2."""
    attention = attention_of(config, **biased(config))
    return model_of(config, attention, (mlp_of(config), config.layers), tied=False)


def mistral(config: Config) -> Model:
    """Llama, in some models with a window on every layer: Mistral."""
    window = config.window()
    windowed = windowed_layers(config, range(config.layers)) if window else ()
    return model_of(
        config,
        attention_of(config),
        (MLP(intermediate=config.number("intermediate_size")), config.layers),
        tied=False,
        windowed=windowed,
        window=window,
    )


def phi3(config: Config) -> Model:
    """Mistral, whose files have fields of longer contexts: Phi-3 and Phi-4."""
    config.expect(full_attn_mod=1, attention_bias=False, mlp_bias=False, lm_head_bias=False)
    config.ignore("interpolate_factor")
    return mistral(config)


def qwen2(config: Config) -> Model:
    """Llama with biases on Q, K and V: Qwen 1.5, 2 and 2.5."""
    return qwen_of(config, attention_of(config, qkv_bias=True))


def qwen3(config: Config) -> Model:
    """Llama with norms on queries and keys: Qwen 3."""
    return qwen_of(config, attention_of(config, query_key_norm="head", **biased(config)))


def qwen_of(config: Config, attention: Attention) -> Model:
    """Llama with this attention, windowed from layer `max_window_layers` on if the file says so."""
    window = config.window()
    if not config.flag("use_sliding_window", default=False):
        window = None
    first = config.count("max_window_layers", default=28, least=0)
    windowed = windowed_layers(config, range(first, config.layers))
    windowed = windowed if window else ()
    return model_of(
        config,
        attention,
        (MLP(intermediate=config.number("intermediate_size")), config.layers),
        tied=False,
        windowed=windowed,
        window=window,
    )


def gemma(config: Config) -> Model:
    """Llama with wide heads, where the LM head uses the embedding's weights: Gemma."""
    config = config.with_defaults(head_dim=256)
    return model_of(
        config,
        attention_of(config, **biased(config)),
        (MLP(intermediate=config.number("intermediate_size")), config.layers),
        tied=True,
    )


def gemma2(config: Config) -> Model:
    """Norms before and after each block, and a sliding window on every other layer: Gemma 2."""
    config = config.with_defaults(head_dim=256, sliding_window=4096)
    return _gemma_pattern(
        config,
        attention_of(config, norms=2, **biased(config)),
        windowed_layers(config, range(0, config.layers, 2)),
    )


def gemma3(config: Config) -> Model:
    """Gemma 2 with norms on queries and keys and five windowed layers to each full one: Gemma 3."""
    config = config.with_defaults(
        head_dim=256,
        num_attention_heads=8,
        num_key_value_heads=4,
        vocab_size=262_208,
        sliding_window=4096,
    )
    period = config.count("sliding_window_pattern", default=6)
    full = range(period - 1, config.layers, period)
    windowed = windowed_layers(config, config.others(full))
    attention = attention_of(config, norms=2, query_key_norm="head", **biased(config))
    return _gemma_pattern(config, attention, windowed)


def _gemma_pattern(config: Config, attention: Attention, windowed: Sequence[int]) -> Model:
    """Gemma with two norms around each block, with a window in the layers `windowed`."""
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
    """Norms only after the blocks, and norms over all heads of queries and of keys: OLMo 2."""
    return model_of(
        config,
        attention_of(config, query_key_norm="all", **biased(config)),
        (MLP(intermediate=config.number("intermediate_size")), config.layers),
        tied=False,
    )


def cohere(config: Config) -> Model:
    """Attention and MLP in parallel after one norm without bias, with a tied LM head: Command R."""
    attention = attention_of(
        config,
        norm=Norm.SCALE_ONLY,
        reduces=False,
        query_key_norm="all" if config.flag("use_qk_norm", default=False) else None,
        **biased(config),
    )
    return model_of(
        config,
        attention,
        (MLP(intermediate=config.number("intermediate_size"), norm=None), config.layers),
        tied=True,
        norm=Norm.SCALE_ONLY,
    )


def phi(config: Config) -> Model:
    """Attention and a plain MLP in parallel after one layer norm, with biases: Phi-1, Phi-2."""
    attention = attention_of(config, norm=Norm.LAYER, qkv_bias=True, out_bias=True, reduces=False)
    mlp = MLP(intermediate=config.number("intermediate_size"), gated=False, bias=True, norm=None)
    return model_of(
        config, attention, (mlp, config.layers), tied=False, norm=Norm.LAYER, head_bias=True
    )


def gpt2(config: Config) -> Model:
    """Layer norms, biases, a plain MLP and learned positions: GPT-2 and GPT-3."""
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
    """GPT-2 with two more positions than the context has tokens: OPT."""
    config.expect(do_layer_norm_before=True, activation_function="relu")
    config.expect(layer_norm_elementwise_affine=True, _remove_final_layer_norm=False)
    if config.number("word_embed_proj_dim", default=config.hidden) != config.hidden:
        raise InputError(
            f"{config.name}: word_embed_proj_dim differs from hidden_size (OPT-350m): "
            "such a projection is not modelled"
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
    """Falcon: attention and a plain MLP in parallel, with a tied LM head.

    Attention is multi-query (7B), or grouped-query with two norms (40B, 180B).
    """
    new, parallel = (
        config.flag("new_decoder_architecture", default=False),
        config.flag("parallel_attn", default=True),
    )
    multi_query = config.flag("multi_query", default=True)
    if new:
        kv_heads = config.number("num_kv_heads", default=config.heads)
    else:
        kv_heads = 1 if multi_query else config.number("num_kv_heads", default=config.heads)
        config.ignore("num_kv_heads")
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
    factor = config.number("ff_factor", default=4)
    mlp = MLP(
        intermediate=config.number("ffn_hidden_size", default=factor * config.hidden),
        gated=False,
        bias=bias,
        norm=None,
    )
    return model_of(config, attention, (mlp, config.layers), tied=True, norm=Norm.LAYER)


def nemotron(config: Config) -> Model:
    """Layer norms with biases, a plain MLP with squared ReLU and no other biases: Nemotron."""
    mlp = MLP(intermediate=config.number("intermediate_size"), gated=False, norm=Norm.LAYER)
    return model_of(
        config,
        attention_of(config, norm=Norm.LAYER),
        (mlp, config.layers),
        tied=False,
        norm=Norm.LAYER,
    )


def gpt_neox(config: Config) -> Model:
    """Biases, two layer norms, and attention and a plain MLP in parallel: GPT-NeoX, Pythia."""
    parallel = config.flag("use_parallel_residual", default=True)
    bias = config.flag("attention_bias", default=True)
    attention = attention_of(
        config, norm=Norm.LAYER, qkv_bias=bias, out_bias=bias, reduces=not parallel
    )
    mlp = MLP(
        intermediate=config.number("intermediate_size"), gated=False, bias=True, norm=Norm.LAYER
    )
    return model_of(config, attention, (mlp, config.layers), tied=False, norm=Norm.LAYER)


def starcoder2(config: Config) -> Model:
    """Biases, layer norms, a plain MLP and a window on every layer: StarCoder 2."""
    config.expect(mlp_type="default", norm_type="layer_norm")
    bias, window = config.flag("use_bias", default=True), config.window()
    attention = attention_of(config, norm=Norm.LAYER, qkv_bias=bias, out_bias=bias)
    mlp = MLP(
        intermediate=config.number("intermediate_size"), gated=False, bias=bias, norm=Norm.LAYER
    )
    windowed = windowed_layers(config, range(config.layers)) if window else ()
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
    "phi3": phi3,
    "qwen2": qwen2,
    "qwen2_vl": qwen2,
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
"""The function that reads each `model_type`."""
