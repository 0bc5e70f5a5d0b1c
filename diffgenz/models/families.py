"""One function per family: the facts of a config.json -> the blocks of a `Model`.

Each says only in what the family differs: norms, biases, gating, windows, parallel blocks. `FAMILIES` maps `model_type` to it; a new
family is one function and one line there. Counts of parameters, which tests compare with the published ones, follow from the blocks.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from diffgenz.errors import InputError
from diffgenz.models.attention import Attention
from diffgenz.models.mlp import MLP
from diffgenz.models.model import Model, Repeated
from diffgenz.models.norms import Norm


class Config:
    """A config.json whose missing or unusable fields are named; aliases are tried in order."""

    def __init__(self, name: str, raw: Mapping[str, Any]):
        self.name, self.raw = name, raw

    def get(self, *keys: str, default: Any = None) -> Any:
        """The first of `keys` that is present and not null."""
        return next((self.raw[key] for key in keys if self.raw.get(key) is not None), default)

    def number(self, *keys: str, default: float | None = None) -> int | float:
        """The first of `keys` as a positive number.

        Raises:
            InputError: none is there (and there is no default), or it is not a positive number.
        """
        value = self.get(*keys, default=default)
        if value is None:
            raise InputError(f"{self.name}: config.json lacks {' (or '.join(keys)}{')' * (len(keys) - 1)}; add it, or take the complete file")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise InputError(f"{self.name}: {keys[0]}: {value!r} is not a positive number")
        return value

    def flag(self, *keys: str, default: bool) -> bool:
        """The first of `keys` as a truth value."""
        return bool(self.get(*keys, default=default))

    def window(self) -> int | float | None:
        """Tokens of the sliding window, or None where there is none."""
        return None if self.get("sliding_window") is None else self.number("sliding_window")

    @property
    def hidden(self) -> int | float:
        return self.number("hidden_size", "n_embd", "d_model")

    @property
    def layers(self) -> int:
        return int(self.number("num_hidden_layers", "n_layer"))

    @property
    def heads(self) -> int | float:
        return self.number("num_attention_heads", "n_head")

    @property
    def head_dim(self) -> int | float:
        return self.number("head_dim", default=self.hidden / self.heads)


def _attention(config: Config, **differences: Any) -> Attention:
    facts: dict[str, Any] = {
        "heads": config.heads,
        "kv_heads": config.number("num_key_value_heads", default=config.heads),
        "head_dim": config.head_dim,
    }
    return Attention(**(facts | differences))


def _model(
    config: Config, attention: Attention, mlp: MLP, *, tied: bool, windowed: int = 0, window: float | None = None, **differences: Any
) -> Model:
    """`layers` times (attention, mlp), of which the attention of `windowed` layers sees `window` tokens only."""
    full = config.layers - windowed
    local = [Repeated(attention.replace(window=window), windowed)] if windowed else []
    everywhere = [Repeated(attention, full)] if full else []
    return Model(
        name=config.name,
        hidden=config.hidden,
        vocabulary=config.number("vocab_size"),
        blocks=(*local, *everywhere, Repeated(mlp, config.layers)),
        tied=config.flag("tie_word_embeddings", default=tied),
        **differences,
    )


def _windowed_layers(config: Config, default: int) -> int:
    """How many layers slide a window: as `layer_types` lists them, else `default`."""
    types = config.get("layer_types")
    if types is None:
        return default
    if not isinstance(types, list) or len(types) != config.layers:
        raise InputError(f"{config.name}: layer_types must list {config.layers} layers (num_hidden_layers)")
    return sum(kind == "sliding_attention" for kind in types)


def llama(config: Config) -> Model:
    """RMS norm, gated MLP, no biases: Llama 2 and 3, Yi, DeepSeek LLM, Granite, SmolLM2."""
    bias = config.flag("attention_bias", default=False)
    mlp = MLP(intermediate=config.number("intermediate_size"), bias=config.flag("mlp_bias", default=False))
    return _model(config, _attention(config, qkv_bias=bias, out_bias=bias), mlp, tied=False)


def mistral(config: Config) -> Model:
    """Llama with, in some, a window on every layer: Mistral, Phi-3, Phi-4."""
    window = config.window()
    windowed = _windowed_layers(config, config.layers) if window else 0
    return _model(config, _attention(config), MLP(intermediate=config.number("intermediate_size")), tied=False, windowed=windowed, window=window)


def qwen2(config: Config) -> Model:
    """Llama with biases on Q, K and V: Qwen 1.5, 2 and 2.5."""
    return _qwen(config, _attention(config, qkv_bias=True))


def qwen3(config: Config) -> Model:
    """Llama with norms on queries and keys."""
    bias = config.flag("attention_bias", default=False)
    return _qwen(config, _attention(config, query_key_norm="head", qkv_bias=bias, out_bias=bias))


def _qwen(config: Config, attention: Attention) -> Model:
    window = config.window() if config.flag("use_sliding_window", default=False) else None
    first = int(config.number("max_window_layers")) if config.get("max_window_layers") else 0
    windowed = _windowed_layers(config, max(config.layers - first, 0)) if window else 0
    return _model(config, attention, MLP(intermediate=config.number("intermediate_size")), tied=False, windowed=windowed, window=window)


def gemma(config: Config) -> Model:
    """Llama, tied, with wide heads."""
    return _model(config, _attention(config), MLP(intermediate=config.number("intermediate_size")), tied=True)


def gemma2(config: Config) -> Model:
    """Norms before and after each block; every other layer slides a window."""
    return _gemma_pattern(config, _attention(config, norms=2), _windowed_layers(config, (config.layers + 1) // 2))


def gemma3(config: Config) -> Model:
    """Gemma 2 with norms on queries and keys, five windowed layers to each full one."""
    period = int(config.number("sliding_window_pattern", default=6))
    windowed = _windowed_layers(config, config.layers - config.layers // period)
    return _gemma_pattern(config, _attention(config, norms=2, query_key_norm="head"), windowed)


def _gemma_pattern(config: Config, attention: Attention, windowed: int) -> Model:
    mlp = MLP(intermediate=config.number("intermediate_size"), norms=2)
    return _model(config, attention, mlp, tied=True, windowed=windowed, window=config.number("sliding_window", default=4096))


def olmo2(config: Config) -> Model:
    """Norms after the blocks only, and over all heads of queries and keys."""
    return _model(config, _attention(config, query_key_norm="all"), MLP(intermediate=config.number("intermediate_size")), tied=False)


def cohere(config: Config) -> Model:
    """Attention and MLP in parallel under one norm without bias; tied."""
    attention = _attention(config, norm=Norm.SCALE_ONLY, reduces=False, query_key_norm="all" if config.flag("use_qk_norm", default=False) else None)
    return _model(config, attention, MLP(intermediate=config.number("intermediate_size"), norm=None), tied=True, norm=Norm.SCALE_ONLY)


def phi(config: Config) -> Model:
    """Attention and plain MLP in parallel under one layer norm, biases everywhere: Phi-1, Phi-2."""
    attention = _attention(config, norm=Norm.LAYER, qkv_bias=True, out_bias=True, reduces=False)
    mlp = MLP(intermediate=config.number("intermediate_size"), gated=False, bias=True, norm=None)
    return _model(config, attention, mlp, tied=False, norm=Norm.LAYER, head_bias=True)


def gpt2(config: Config) -> Model:
    """Layer norms, biases, plain MLP, learned positions: GPT-2 and GPT-3."""
    attention = _attention(config, norm=Norm.LAYER, qkv_bias=True, out_bias=True, rotary=False)
    mlp = MLP(intermediate=config.number("n_inner", "intermediate_size", default=4 * config.hidden), gated=False, bias=True, norm=Norm.LAYER)
    return _model(config, attention, mlp, tied=True, norm=Norm.LAYER, positions=int(config.number("n_positions", "n_ctx")))


def opt(config: Config) -> Model:
    """GPT-2 with two more positions."""
    if config.number("word_embed_proj_dim", default=config.hidden) != config.hidden:
        raise InputError(f"{config.name}: word_embed_proj_dim differs from hidden_size (OPT-350m): such a projection is not modelled")
    bias = config.flag("enable_bias", default=True)
    attention = _attention(config, norm=Norm.LAYER, qkv_bias=bias, out_bias=bias, rotary=False)
    mlp = MLP(intermediate=config.number("ffn_dim"), gated=False, bias=bias, norm=Norm.LAYER)
    return _model(config, attention, mlp, tied=True, norm=Norm.LAYER, positions=int(config.number("max_position_embeddings")) + 2)


def falcon(config: Config) -> Model:
    """Attention and plain MLP in parallel; multi-query (7B) or grouped-query with two norms (40B, 180B); tied."""
    new, parallel = config.flag("new_decoder_architecture", default=False), config.flag("parallel_attn", default=True)
    if new:
        kv_heads = config.number("num_kv_heads", default=config.heads)
    else:
        kv_heads = 1 if config.flag("multi_query", default=True) else config.number("num_kv_heads", default=config.heads)
    two_norms = config.get("num_ln_in_parallel_attn", default=2 if new else 1) == 2 or not parallel
    bias = config.flag("bias", default=False)
    rotary = not config.flag("alibi", default=False)
    attention = _attention(
        config, kv_heads=kv_heads, norm=Norm.LAYER, norms=2 if two_norms else 1, qkv_bias=bias, out_bias=bias, rotary=rotary, reduces=not parallel
    )
    mlp = MLP(intermediate=config.number("ffn_hidden_size", default=4 * config.hidden), gated=False, bias=bias, norm=None)
    return _model(config, attention, mlp, tied=True, norm=Norm.LAYER)


def nemotron(config: Config) -> Model:
    """Layer norms with bias, plain MLP with squared ReLU, no other biases."""
    mlp = MLP(intermediate=config.number("intermediate_size"), gated=False, norm=Norm.LAYER)
    return _model(config, _attention(config, norm=Norm.LAYER), mlp, tied=False, norm=Norm.LAYER)


def gpt_neox(config: Config) -> Model:
    """Biases, two layer norms, attention and plain MLP in parallel: GPT-NeoX, Pythia."""
    parallel = config.flag("use_parallel_residual", default=True)
    attention = _attention(config, norm=Norm.LAYER, qkv_bias=True, out_bias=True, reduces=not parallel)
    mlp = MLP(intermediate=config.number("intermediate_size"), gated=False, bias=True, norm=Norm.LAYER)
    return _model(config, attention, mlp, tied=False, norm=Norm.LAYER)


def starcoder2(config: Config) -> Model:
    """Biases, layer norms, plain MLP, a window on every layer."""
    bias, window = config.flag("use_bias", default=True), config.window()
    attention = _attention(config, norm=Norm.LAYER, qkv_bias=bias, out_bias=bias)
    mlp = MLP(intermediate=config.number("intermediate_size"), gated=False, bias=bias, norm=Norm.LAYER)
    windowed = _windowed_layers(config, config.layers) if window else 0
    return _model(config, attention, mlp, tied=True, windowed=windowed, window=window, norm=Norm.LAYER)


FAMILIES: dict[str, Callable[[Config], Model]] = {
    "llama": llama,
    "granite": llama,
    "mistral": mistral,
    "phi3": mistral,
    "qwen2": qwen2,
    "qwen3": qwen3,
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
