"""The facts of a config.json, and the parts of models that families share."""

import math
from collections.abc import Mapping
from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.models.blocks.attention import Attention
from diffgenz.models.blocks.block import Block
from diffgenz.models.model import Model, Repeated


class Config:
    """A config.json whose missing or unusable fields are named; aliases are tried in order."""

    def __init__(self, name: str, raw: Mapping[str, Any]):
        self.name, self.raw = name, raw

    def get(self, *keys: str, default: Any = None) -> Any:
        """The first of `keys` that is present and not null."""
        return next((self.raw[key] for key in keys if self.raw.get(key) is not None), default)

    def with_defaults(self, **defaults: Any) -> "Config":
        """The same file with values for fields that it leaves out.

        Published files rely on the defaults of transformers' configuration classes (5.x).
        """
        stated = {key: value for key, value in self.raw.items() if value is not None}
        return Config(self.name, defaults | stated)

    def lacks(self, *keys: str) -> InputError:
        """The error for a field that is missing, by any of its names."""
        names = " (or ".join(keys) + ")" * (len(keys) - 1)
        return InputError(
            f"{self.name}: config.json lacks {names}; add it, or take the complete file"
        )

    def number(self, *keys: str, default: float | None = None) -> int | float:
        """The first of `keys` as a positive number.

        Raises:
            InputError: none is there (and there is no default), or it is not a positive number.
        """
        value = self.get(*keys, default=default)
        if value is None:
            raise self.lacks(*keys)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 < value < math.inf:
            raise InputError(f"{self.name}: {keys[0]}: {value!r} is not a positive number")
        return value

    def count(self, *keys: str, default: int | None = None, least: int = 1) -> int:
        """The first of `keys` as a whole number, at least `least`.

        Raises:
            InputError: none is there (and there is no default), or it is not such a number.
        """
        value = self.get(*keys, default=default)
        if value == 0 == least and not isinstance(value, bool):
            return 0
        value = self.number(*keys, default=default)
        if value != int(value) or value >= 2**31:
            raise InputError(f"{self.name}: {keys[0]}: {value!r} is not a whole number")
        return int(value)

    def flag(self, *keys: str, default: bool) -> bool:
        """The first of `keys` as a truth value.

        Raises:
            InputError: it is neither true nor false.
        """
        value = self.get(*keys, default=default)
        if not isinstance(value, bool):
            raise InputError(f"{self.name}: {keys[0]}: {value!r} is neither true nor false")
        return value

    def section(self, key: str) -> "Config":
        """A nested object.

        Raises:
            InputError: it is missing.
        """
        section = self.raw.get(key)
        if not isinstance(section, Mapping):
            raise self.lacks(key)
        return Config(f"{self.name}: {key}", section)

    def kinds(self, key: str) -> list[str] | None:
        """What each of the layers is, where a list says so.

        Raises:
            InputError: it does not list all layers.
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
        return self.number("hidden_size", "n_embd", "d_model")

    @property
    def layers(self) -> int:
        return self.count("num_hidden_layers", "n_layer", "n_layers")

    @property
    def heads(self) -> int | float:
        return self.number("num_attention_heads", "n_head", "n_heads")

    @property
    def head_dim(self) -> int | float:
        return self.number("head_dim", default=self.hidden / self.heads)


def attention_of(config: Config, **differences: Any) -> Attention:
    """Attention by the names that most families give its sizes, with what differs."""
    kv_heads = config.number("num_key_value_heads", default=config.heads)
    if kv_heads > config.heads:
        raise InputError(
            f"{config.name}: num_key_value_heads: {kv_heads!r} exceeds num_attention_heads, "
            f"{config.heads!r}"
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
    """A model of `config.layers` layers of attention and what follows it.

    Arguments:
        config: the file.
        attention: of the layers that see all tokens.
        feed_forward: what follows attention: each block, and how many of them there are.
        tied: whether the LM head uses the embedding's weights, where the file is silent.
        windowed: how many layers of attention slide a window.
        window: tokens of that window.
        differences: other fields of `Model`.
    """
    full = config.layers - windowed
    mixers = [(attention, full)]
    if windowed:
        mixers.insert(0, (attention.replace(window=window), windowed))
    return model_with(config, *mixers, *feed_forward, tied=tied, **differences)


def model_with(config: Config, *blocks: tuple[Block, int], tied: bool, **differences: Any) -> Model:
    """The (block, count) that a config lists, between its embedding and its LM head."""
    return Model(
        name=config.name,
        hidden=config.hidden,
        vocabulary=config.number("vocab_size"),
        blocks=tuple(Repeated(block, count) for block, count in blocks if count),
        tied=config.flag("tie_word_embeddings", default=tied),
        **differences,
    )


def windowed_layers(config: Config, default: int) -> int:
    """How many layers slide a window: as `layer_types` lists them, else `default`."""
    types = config.kinds("layer_types")
    if types is None:
        return default
    return sum(kind == "sliding_attention" for kind in types)
