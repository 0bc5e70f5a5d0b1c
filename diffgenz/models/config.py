"""The facts of a config.json, and the parts of models that families share.

Errors name the field that is missing or unusable.
"""

import math
from collections.abc import Mapping
from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.models.blocks.attention import Attention
from diffgenz.models.blocks.block import Block
from diffgenz.models.model import Model, Repeated


class Config:
    """A config.json whose fields are read by name, with errors that name the field.

    Arguments:
        name: what error messages and models call it.
        raw: the content of the file.

    Methods that take several keys try them in order: they are aliases of one fact.
    """

    def __init__(self, name: str, raw: Mapping[str, Any]):
        self.name, self.raw = name, raw

    def get(self, *keys: str, default: Any = None) -> Any:
        """The value of the first of `keys` that is present and not null, else `default`."""
        return next((self.raw[key] for key in keys if self.raw.get(key) is not None), default)

    def with_defaults(self, **defaults: Any) -> "Config":
        """The same config with `defaults` for the fields that it lacks.

        Published files leave such fields to the defaults of transformers' configuration classes
        (5.x).
        """
        stated = {key: value for key, value in self.raw.items() if value is not None}
        return Config(self.name, defaults | stated)

    def lacks(self, *keys: str) -> InputError:
        """The error for a field that is missing, which may be called by any of `keys`."""
        names = " (or ".join(keys) + ")" * (len(keys) - 1)
        return InputError(
            f"{self.name}: config.json lacks {names}; add it, or take the complete file"
        )

    def number(self, *keys: str, default: float | None = None) -> int | float:
        """The first of `keys` as a positive number, else `default`.

        Raises:
            InputError: no key is present and there is no default, or the value is not a positive
                number.
        """
        value = self.get(*keys, default=default)
        if value is None:
            raise self.lacks(*keys)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 < value < math.inf:
            raise InputError(f"{self.name}: {keys[0]}: {value!r} is not a positive number")
        return value

    def count(self, *keys: str, default: int | None = None, least: int = 1) -> int:
        """The first of `keys` as a whole number, else `default`.

        Arguments:
            keys: aliases, in the order in which they are tried.
            default: the value where no key is present.
            least: the smallest value that is allowed, 0 or 1.

        Raises:
            InputError: no key is present and there is no default, or the value is not such a
                number.
        """
        value = self.get(*keys, default=default)
        if value == 0 == least and not isinstance(value, bool):
            return 0
        value = self.number(*keys, default=default)
        if value != int(value) or value >= 2**31:
            raise InputError(f"{self.name}: {keys[0]}: {value!r} is not a whole number")
        return int(value)

    def flag(self, *keys: str, default: bool) -> bool:
        """The first of `keys` as a truth value, else `default`.

        Raises:
            InputError: the value is neither true nor false.
        """
        value = self.get(*keys, default=default)
        if not isinstance(value, bool):
            raise InputError(f"{self.name}: {keys[0]}: {value!r} is neither true nor false")
        return value

    def section(self, key: str) -> "Config":
        """The object that is nested under `key`, as a config of its own.

        Raises:
            InputError: it is missing.
        """
        section = self.raw.get(key)
        if not isinstance(section, Mapping):
            raise self.lacks(key)
        return Config(f"{self.name}: {key}", section)

    def kinds(self, key: str) -> list[str] | None:
        """What each of the layers is, where a list under `key` says so; else None.

        Raises:
            InputError: the list does not have one entry for each layer.
        """
        kinds = self.get(key)
        if kinds is not None and (not isinstance(kinds, list) or len(kinds) != self.layers):
            raise InputError(
                f"{self.name}: {key} must list {self.layers} layers (num_hidden_layers)"
            )
        return kinds

    def window(self) -> int | float | None:
        """Tokens of the sliding window, or None where there is none."""
        return None if self.get("sliding_window") is None else self.number("sliding_window")

    @property
    def hidden(self) -> int | float:
        """Width of the residual stream."""
        return self.number("hidden_size", "n_embd", "d_model")

    @property
    def layers(self) -> int:
        """Layers of the model."""
        return self.count("num_hidden_layers", "n_layer", "n_layers")

    @property
    def heads(self) -> int | float:
        """Query heads of an attention layer."""
        return self.number("num_attention_heads", "n_head", "n_heads")

    @property
    def head_dim(self) -> int | float:
        """Elements of each head; hidden / heads where the file says nothing."""
        return self.number("head_dim", default=self.hidden / self.heads)


def attention_of(config: Config, **differences: Any) -> Attention:
    """Attention whose sizes have the names that most families give them.

    Arguments:
        config: the facts.
        differences: fields of `Attention` in which the family differs.

    Raises:
        InputError: a size that is missing or unusable, or more KV heads than query heads.
    """
    kv_heads = config.number("num_key_value_heads", default=config.heads)
    if kv_heads > config.heads:
        raise InputError(
            f"{config.name}: num_key_value_heads: {kv_heads!r} exceeds "
            f"num_attention_heads, {config.heads!r}"
        )
    facts: dict[str, Any] = {
        "heads": config.heads,
        "kv_heads": kv_heads,
        "head_dim": config.head_dim,
    }
    return Attention(**(facts | differences))


def model_of(
    config: Config,
    attention: Block,
    *feed_forward: tuple[Block, int],
    tied: bool,
    windowed: int = 0,
    window: float | None = None,
    **differences: Any,
) -> Model:
    """A model with attention in every layer, in some of them windowed.

    Arguments:
        config: the facts; `config.layers` is the number of attention blocks.
        attention: the attention block without a window.
        feed_forward: (block, count) for each kind of block that follows attention.
        tied: whether the LM head uses the embedding's weights where the file says nothing.
        windowed: how many of the layers see only `window` tokens.
        window: tokens that a query sees in these layers; None where `windowed` is 0.
        differences: fields of `Model` in which the family differs.
    """
    full = config.layers - windowed
    mixers = [(attention, full)]
    if windowed:
        mixers.insert(0, (attention.replace(window=window), windowed))
    return model_with(config, *mixers, *feed_forward, tied=tied, **differences)


def model_with(config: Config, *blocks: tuple[Block, int], tied: bool, **differences: Any) -> Model:
    """A model of some blocks, between the embedding and the LM head of its config.json.

    Arguments:
        config: the facts.
        blocks: (block, count) for each kind of block; those with a count of 0 are left out.
        tied: whether the LM head uses the embedding's weights where the file says nothing.
        differences: fields of `Model` in which the family differs.
    """
    return Model(
        name=config.name,
        hidden=config.hidden,
        vocabulary=config.number("vocab_size"),
        blocks=tuple(Repeated(block, count) for block, count in blocks if count),
        tied=config.flag("tie_word_embeddings", default=tied),
        **differences,
    )


def windowed_layers(config: Config, default: int) -> int:
    """How many layers have a sliding window: as `layer_types` lists them, else `default`."""
    types = config.kinds("layer_types")
    if types is None:
        return default
    return sum(kind == "sliding_attention" for kind in types)
