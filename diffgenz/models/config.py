"""The facts of a config.json, and the parts of models that families share.

Errors name the field that is missing or unusable, and a field that nobody reads is one
(`Config.refuse_unread`).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.models.blocks.attention import Attention
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.fields import is_off, is_without_influence
from diffgenz.models.model import Model, Repeated

Layers = int | Sequence[int]
"""Which layers a block is in: their indices, or their number where all layers have it."""


class Config:
    """A config.json whose fields are read by name, with errors that name the field.

    It remembers what was read. What changes a model's shape or cost must be read by its family
    (`refuse_unread`).

    Arguments:
        name: what error messages and models call it.
        raw: the content of the file.
        read: the fields that were read so far.

    Methods that take several keys take them for aliases of one fact.
    """

    def __init__(self, name: str, raw: Mapping[str, Any], read: set[str] | None = None):
        self.name, self.raw = name, raw
        self.read: set[str] = set() if read is None else read
        self._sections: dict[str, Config] = {}

    def get(self, *keys: str, default: Any = None) -> Any:
        """The value of that of `keys` which is present and not null, else `default`.

        Raises:
            InputError: two of them are present and contradict each other.
        """
        self.read.update(keys)
        stated = [key for key in keys if self.raw.get(key) is not None]
        for key in stated[1:]:
            if self.raw[key] != self.raw[stated[0]]:
                raise InputError(
                    f"{self.name}: {stated[0]}: {self.raw[stated[0]]!r} contradicts {key}, "
                    f"{self.raw[key]!r}; remove one"
                )
        return self.raw[stated[0]] if stated else default

    def ignore(self, *keys: str) -> None:
        """Note that these fields are known, and change nothing in this family."""
        self.read.update(keys)

    def expect(self, **values: Any) -> None:
        """Refuse a file that states another value for one of these fields than the family has.

        Raises:
            InputError: a field is present, not null, and has another value.
        """
        for key, value in values.items():
            if self.get(key, default=value) != value:
                raise self.not_modelled(key)

    def not_modelled(self, key: str) -> InputError:
        """The error for a field whose value has a meaning that is not modelled."""
        value = repr(self.raw[key])
        shown = value if len(value) <= 60 else f"{value[:57]}..."
        kind = self.raw.get("model_type")
        where = f"model_type {kind}" if isinstance(kind, str) else "this section"
        return InputError(
            f"{self.name}: {key}: {where} with {key} = {shown} is not modelled; remove the field "
            "if it changes no shape, or read the file generically (--generic), which names what "
            "it leaves out"
        )

    @property
    def unread(self) -> list[str]:
        """Fields of its own that nobody has read, that are on, and that may change a shape."""
        return [
            key
            for key, value in self.raw.items()
            if key not in self.read and not is_off(value) and not is_without_influence(key)
        ]

    def refuse_unread(self) -> None:
        """Refuse a field that may change a shape or a cost and that nobody has read.

        Raises:
            InputError: there is one, here or in a section that was read.
        """
        if self.unread:
            raise self.not_modelled(self.unread[0])
        for section in self._sections.values():
            section.refuse_unread()

    def with_defaults(self, **defaults: Any) -> "Config":
        """The same config with `defaults` for the fields that it lacks.

        Published files leave such fields to the defaults of transformers' configuration classes
        (5.x).
        """
        stated = {key: value for key, value in self.raw.items() if value is not None}
        copy = Config(self.name, defaults | stated, self.read)
        copy.read.update(key for key in defaults if key not in stated)
        copy._sections = self._sections
        return copy

    def revised(self, **values: Any) -> "Config":
        """The same config with these values for fields that it states in another way."""
        copy = Config(self.name, {**self.raw, **values}, self.read)
        copy._sections = self._sections
        return copy

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
        section = self.get(key)
        if not isinstance(section, Mapping):
            raise self.lacks(key)
        if key not in self._sections:
            self._sections[key] = Config(f"{self.name}: {key}", section)
        return self._sections[key]

    def kinds(self, *keys: str) -> list[Any] | None:
        """What each of the layers is, where a list under one of `keys` says so; else None.

        Raises:
            InputError: the list does not have one entry for each layer.
        """
        kinds = self.get(*keys)
        if kinds is not None and (not isinstance(kinds, list) or len(kinds) != self.layers):
            raise InputError(
                f"{self.name}: {keys[0]} must list {self.layers} layers (num_hidden_layers)"
            )
        return kinds

    def where(self, kind: Any, *keys: str) -> tuple[int, ...] | None:
        """The layers that the list under one of `keys` calls `kind`; None without a list.

        Raises:
            InputError: as in `kinds`.
        """
        kinds = self.kinds(*keys)
        if kinds is None:
            return None
        return tuple(layer for layer, each in enumerate(kinds) if each == kind)

    def split(
        self, key: str, *kinds: Any, listed: list[Any] | None = None
    ) -> tuple[tuple[int, ...], ...] | None:
        """The layers of each of these kinds, as the list under `key` names them; None without one.

        Arguments:
            key: the field.
            kinds: the kinds of layers that are modelled.
            listed: the kind of each layer, where the field abbreviates it.

        Raises:
            InputError: it has not one entry for each layer, or names another kind.
        """
        listed = self.kinds(key) if listed is None else listed
        if listed is None:
            return None
        if len(listed) != self.layers:
            raise InputError(
                f"{self.name}: {key}: lists {len(listed)} layers, and the model has {self.layers} "
                "(num_hidden_layers)"
            )
        for layer, each in enumerate(listed):
            if each not in kinds:
                raise InputError(
                    f"{self.name}: {key}: layer {layer} is {each!r}; those that are modelled are "
                    + ", ".join(map(str, kinds))
                )
        return tuple(
            tuple(layer for layer, each in enumerate(listed) if each == kind) for kind in kinds
        )

    def others(self, layers: Sequence[int]) -> tuple[int, ...]:
        """All layers of the model but these."""
        return tuple(layer for layer in range(self.layers) if layer not in set(layers))

    def window(self) -> int | float | None:
        """Tokens of the sliding window, or None where there is none."""
        return None if self.get("sliding_window") is None else self.number("sliding_window")

    @property
    def hidden(self) -> int | float:
        """Width of the residual stream."""
        return self.number("hidden_size", "n_embd", "n_embed", "d_model")

    @property
    def layers(self) -> int:
        """Layers of the model."""
        return self.count("num_hidden_layers", "n_layer", "n_layers", "num_layers")

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
        vocabulary=config.number("vocab_size"),
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
