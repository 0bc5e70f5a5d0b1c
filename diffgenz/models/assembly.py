"""The parts of models that families share, from the facts of a config.json."""

from collections.abc import Sequence
from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.models.blocks.attention import Attention
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.config import HEADS, Config
from diffgenz.models.model import Model, Repeated

Layers = int | Sequence[int]
"""Which layers a block is in: their indices, or their number where all layers have it."""


def attention_of(config: Config, **differences: Any) -> Attention:
    """Attention whose sizes have the names that most families give them.

    Arguments:
        config: the facts.
        differences: fields of `Attention` in which the family differs.

    Raises:
        InputError: a size that is missing or unusable, or KV heads that do not divide the heads.
    """
    facts: dict[str, Any] = {"heads": config.heads} | differences
    if "head_dim" not in facts:
        facts["head_dim"] = config.head_dim
    if "kv_heads" not in facts:
        facts["kv_heads"] = config.count("num_key_value_heads", default=config.heads)
    heads, kv_heads = facts["heads"], facts["kv_heads"]
    if kv_heads > heads or heads % kv_heads:
        how = "exceeds" if kv_heads > heads else "does not divide"
        raise InputError(
            f"{config.name}: {config.stated('num_key_value_heads')}: {kv_heads} {how} "
            f"{config.stated(*HEADS)}, {heads}; correct one of them"
        )
    return Attention(**facts)


def model_of(
    config: Config,
    attention: Block,
    *feed_forward: tuple[Block, Layers],
    tied: bool,
    windowed: Sequence[int] = (),
    window: float | None = None,
    **differences: Any,
) -> Model:
    """A model with attention in every layer, in some of them windowed.

    Arguments:
        config: the facts; `config.layers` is the number of attention blocks.
        attention: the attention block without a window.
        feed_forward: (block, layers) for each kind of block that follows attention.
        tied: whether the LM head uses the embedding's weights where the file says nothing.
        windowed: the layers that see only `window` tokens.
        window: tokens that a query sees in these layers; None where `windowed` is empty.
        differences: fields of `Model` in which the family differs.
    """
    mixers: list[tuple[Block, Layers]] = [(attention, config.others(windowed))]
    if windowed:
        mixers.insert(0, (attention.replace(window=window), windowed))
    return model_with(config, *mixers, *feed_forward, tied=tied, **differences)


def model_with(
    config: Config, *blocks: tuple[Block, Layers], tied: bool, **differences: Any
) -> Model:
    """A model of some blocks, between the embedding and the LM head of its config.json.

    Arguments:
        config: the facts.
        blocks: (block, layers) for each kind of block; those in no layer are left out.
        tied: whether the LM head uses the embedding's weights where the file says nothing.
        differences: fields of `Model` in which the family differs.
    """
    return Model(
        name=config.name,
        hidden=config.hidden,
        vocabulary=config.count("vocab_size"),
        blocks=tuple(_placed(config, block, layers) for block, layers in blocks if layers),
        tied=config.flag("tie_word_embeddings", default=tied),
        **differences,
    )


def _placed(config: Config, block: Block, layers: Layers) -> Repeated:
    """A block in these layers, which are all of the model's where only their number is given."""
    if not isinstance(layers, int):
        return Repeated(block, len(layers), at=tuple(layers))
    if layers != config.layers:
        raise ValueError(f"{layers} of {config.layers} layers: say which")
    return Repeated(block, layers, at=tuple(range(layers)))


def windowed_layers(config: Config, default: Sequence[int]) -> tuple[int, ...]:
    """The layers that have a sliding window: those that `layer_types` lists, else `default`."""
    listed = config.split("layer_types", "sliding_attention", "full_attention")
    return tuple(default) if listed is None else listed[0]


def biased(config: Config, *keys: str, default: bool = False) -> dict[str, bool]:
    """Whether all projections of attention have biases, as fields of `Attention`."""
    bias = config.flag(*(keys or ("attention_bias",)), default=default)
    return {"qkv_bias": bias, "out_bias": bias}


def mlp_of(config: Config, **differences: Any) -> MLP:
    """An MLP whose sizes have the names that most families give them.

    Arguments:
        config: the facts.
        differences: fields of `MLP` in which the family differs.
    """
    facts = differences
    if "intermediate" not in facts:
        facts = {"intermediate": config.number("intermediate_size"), **facts}
    if "bias" not in facts:
        facts = {"bias": config.flag("mlp_bias", default=False), **facts}
    return MLP(**facts)
