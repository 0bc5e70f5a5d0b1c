"""Dense families whose layers differ in size from each other, one function each."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.models.assembly import Layers, attention_of, model_with
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.blocks.projection import Projection
from diffgenz.models.config import Config
from diffgenz.models.model import Model


def _grouped(kinds: list[Any]) -> dict[Any, list[int]]:
    """The layers of each kind, in the order in which kinds first appear; None is no kind."""
    groups: dict[Hashable, list[int]] = {}
    for layer, kind in enumerate(kinds):
        if kind is not None:
            groups.setdefault(kind, []).append(layer)
    return groups


def nemotron_nas(config: Config) -> Model:
    """Llama, whose blocks an architecture search has thinned out layer by layer: Nemotron Super.

    `block_configs` says for each layer what is in the place of attention and of the MLP: nothing,
    one linear layer, or a block with a number of KV heads or a width of its own.
    """
    listed = config.kinds("block_configs")
    if listed is None:
        raise config.lacks("block_configs")
    config.expect(attention_bias=False, mlp_bias=False)
    config.ignore("num_key_value_heads", "intermediate_size")  # each block says its own
    attention, feed_forward = [], []
    for layer, entry in enumerate(listed):
        parts = Config(
            f"{config.name}: block_configs[{layer}]", entry if isinstance(entry, Mapping) else {}
        )
        parts.expect(parallel_blocks=None)
        attention.append(_searched(parts.section("attention"), config, _kv_heads))
        feed_forward.append(_searched(parts.section("ffn"), config, _width))
        parts.refuse_unread()

    def built(make: Callable[[Any], Block], kinds: list[Any]) -> list[tuple[Block, Layers]]:
        return [
            (Projection() if kind == "linear" else make(kind), layers)
            for kind, layers in _grouped(kinds).items()
        ]

    return model_with(
        config,
        *built(lambda kv_heads: attention_of(config, kv_heads=kv_heads), attention),
        *built(lambda width: MLP(intermediate=width), feed_forward),
        tied=False,
    )


def _searched(part: Config, whole: Config, size_of: Callable[[Config, Config], float]) -> Any:
    """What is in the place of a block: None (nothing), "linear", or the size of the block."""
    part.expect(sparsify=None, window_length=None, num_sink_tokens=None, unshifted_sink=False)
    part.expect(use_prefill_window_in_sink_attention=False, moe=None, mamba=None, llama4=None)
    if part.flag("no_op", default=False):
        part.ignore(*part.raw)
        return None
    if part.flag("replace_with_linear", default=False):
        part.ignore(*part.raw)
        return "linear"
    return size_of(part, whole)


def _kv_heads(part: Config, whole: Config) -> float:
    """KV heads of an attention block: its own, or the model's query heads / heads in a group."""
    own = part.get("num_key_value_heads")
    if own is not None:
        return part.number("num_key_value_heads")
    group = part.number("n_heads_in_group")
    if whole.heads % group:
        raise InputError(
            f"{part.name}: n_heads_in_group: {group!r} does not divide num_attention_heads, "
            f"{whole.heads!r}"
        )
    return whole.heads // group


def _width(part: Config, whole: Config) -> float:
    """Width of an MLP: its own, or 2/3 of a multiple of the model's, rounded up to 256."""
    own = part.get("intermediate_size")
    if own is not None:
        return part.number("intermediate_size")
    return _rounded(int(2 * part.number("ffn_mult", fraction=True) * whole.hidden / 3), 256)


def _rounded(width: float, multiple: float) -> int:
    """A width, rounded up to the next multiple of another."""
    return int(-(-width // multiple) * multiple)


def openelm(config: Config) -> Model:
    """Heads and MLPs that grow from layer to layer, norms on queries and keys: OpenELM."""
    config = config.calling(num_hidden_layers="num_transformer_layers", hidden_size="model_dim")
    config.ignore("num_gqa_groups", "qkv_multipliers")
    config.ignore("rope_max_length")
    config.expect(ffn_with_glu=True, normalization_layer_name="rms_norm")
    listed = [config.kinds(key) for key in ("num_query_heads", "num_kv_heads", "ffn_multipliers")]
    if None in listed:
        raise config.lacks("num_query_heads, num_kv_heads or ffn_multipliers")
    queries, keys, multipliers = (each or [] for each in listed)
    heads = [
        (_whole(config, "num_query_heads", one), _whole(config, "num_kv_heads", other))
        for one, other in zip(queries, keys, strict=True)
    ]
    divisor = config.number("ffn_dim_divisor", default=256)
    widths = [
        # to the nearest multiple, but not below 9/10
        _near(_positive(config, "ffn_multipliers", each) * config.hidden, divisor)
        for each in multipliers
    ]
    normed = "head" if config.flag("normalize_qk_projections", default=True) else None
    shared = config.flag("share_input_output_layers", default=True)
    config.expect(tie_word_embeddings=shared)
    return model_with(
        config,
        *(
            (
                attention_of(
                    config.with_defaults(num_attention_heads=query),
                    heads=query,
                    kv_heads=key,
                    head_dim=config.number("head_dim"),
                    query_key_norm=normed,
                ),
                layers,
            )
            for (query, key), layers in _grouped(heads).items()
        ),
        *((MLP(intermediate=width), layers) for width, layers in _grouped(widths).items()),
        tied=shared,
    )


def _near(width: float, divisor: float) -> int:
    """A width, rounded to the nearest multiple of `divisor` that is not 10 % less."""
    near = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return int(near + divisor if near < 0.9 * width else near)


def _positive(config: Config, key: str, value: Any) -> float:
    """One entry of the list under `key`, as a positive number."""
    return Config(f"{config.name}: {key}", {"entry": value}).number("entry", fraction=True)


def _whole(config: Config, key: str, value: Any) -> int:
    """One entry of the list under `key`, as a whole number of at least 1."""
    return Config(f"{config.name}: {key}", {"entry": value}).count("entry")


ELASTIC: dict[str, Callable[[Config], Model]] = {
    "nemotron-nas": nemotron_nas,
    "openelm": openelm,
}
"""The function that reads each `model_type`."""
