"""The facts of a config.json.

Errors name the field that is missing or unusable, and a field that nobody reads is one
(`Config.refuse_unread`).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.models.fields import is_off, is_without_influence

WIDTH = ("hidden_size", "n_embd", "n_embed", "d_model")
"""What files call the width of the residual stream."""

HEADS = ("num_attention_heads", "n_head", "n_heads")
"""What files call the query heads of an attention layer."""

LARGEST = 2**24
"""What no width, no number of heads, experts or tokens of a vocabulary reaches."""

DEEPEST = 2**14
"""What no number of layers reaches."""


class NotModelled(InputError):
    """A field or a `model_type` with a meaning that no family has.

    A generic reading names it as ignored.
    """


class Config:
    """A config.json whose fields are read by name, with errors that name the field.

    It remembers what was read. What changes a model's shape or cost must be read by its family
    (`refuse_unread`).

    Arguments:
        name: what error messages and models call it.
        raw: the content of the file.
        generic: whether what is not modelled is noted (`ignored`) instead of refused.
        aliases: further names of a field, by the name that families know it under.

    Methods that take several keys take them for aliases of one fact.
    """

    def __init__(
        self,
        name: str,
        raw: Mapping[str, Any],
        generic: bool = False,
        aliases: Mapping[str, tuple[str, ...]] | None = None,
    ):
        self.name, self.raw = name, raw
        self.generic, self.aliases = generic, aliases or {}
        self.read: set[str] = set()
        self._set_aside: set[str] = set()
        self._sections: dict[str, Config] = {}

    def get(self, *keys: str, default: Any = None) -> Any:
        """The value of that of `keys` which is present and not null, else `default`.

        Raises:
            InputError: two of them are present and contradict each other.
        """
        names = self._names(keys)
        self.read.update(names)
        stated = [key for key in names if self.raw.get(key) is not None]
        for key in stated[1:]:
            if self.raw[key] != self.raw[stated[0]]:
                raise InputError(
                    f"{self.name}: {stated[0]}: {self.raw[stated[0]]!r} contradicts {key}, "
                    f"{self.raw[key]!r}; remove one"
                )
        return self.raw[stated[0]] if stated else default

    def _names(self, keys: Sequence[str]) -> list[str]:
        """These keys with their aliases, each once."""
        return list(
            dict.fromkeys(each for key in keys for each in (key, *self.aliases.get(key, ())))
        )

    def stated(self, *keys: str) -> str:
        """The name under which the file states a fact that may be called by any of `keys`."""
        names = self._names(keys)
        return next((name for name in names if self.raw.get(name) is not None), names[0])

    def ignore(self, *keys: str) -> None:
        """Note that these fields are known, and change nothing in this family."""
        self.read.update(self._names(keys))

    def expect(self, **values: Any) -> None:
        """Refuse a file that states another value for one of these fields than the family has.

        A generic reading sets the field aside instead.

        Raises:
            NotModelled: a field is present, not null, and has another value.
        """
        for key, value in values.items():
            if self.get(key, default=value) != value:
                if not self.generic:
                    raise self.not_modelled(key)
                self._set_aside.add(key)

    def not_modelled(self, key: str) -> NotModelled:
        """The error for a field whose value has a meaning that is not modelled."""
        shown = brief(self.raw[key])
        kind = self.raw.get("model_type")
        where = f"model_type {kind}" if isinstance(kind, str) else "this section"
        return NotModelled(
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

    @property
    def ignored(self) -> list[str]:
        """What a generic reading leaves out: "field = value", those of sections included."""
        own = [key for key in self.raw if key in self._set_aside or key in self.unread]
        inner = (
            f"{key}.{each}" for key, section in self._sections.items() for each in section.ignored
        )
        return [*(f"{key} = {brief(self.raw[key])}" for key in own), *inner]

    def with_defaults(self, **defaults: Any) -> "Config":
        """The same config with `defaults` for the fields that it lacks.

        Published files leave such fields to the defaults of transformers' configuration classes
        (5.x).
        """
        stated = {key: value for key, value in self.raw.items() if value is not None}
        copy = self._copy(defaults | stated)
        copy.read.update(key for key in defaults if key not in stated)
        return copy

    def calling(self, **names: str) -> "Config":
        """The same config, where fields are called by these further names.

        Arguments:
            names: what the file calls a field, by the name that most files have for it.
        """
        copy = self._copy(self.raw)
        copy.aliases = {**self.aliases, **{key: (name,) for key, name in names.items()}}
        return copy

    def _copy(self, raw: Mapping[str, Any]) -> "Config":
        """A config of other content that remembers together with this one what was read."""
        copy = Config(self.name, raw, self.generic, self.aliases)
        copy.read, copy._set_aside, copy._sections = self.read, self._set_aside, self._sections
        return copy

    def revised(self, **values: Any) -> "Config":
        """The same config with these values for fields that it states in another way."""
        return self._copy({**self.raw, **values})

    def lacks(self, *keys: str) -> InputError:
        """The error for a field that is missing, which may be called by any of `keys`."""
        others = ", ".join(keys[1:])
        names = f"{keys[0]} (or {others})" if others else keys[0]
        return InputError(
            f"{self.name}: config.json lacks {names}; add it, or take the complete file"
        )

    def number(
        self,
        *keys: str,
        default: float | None = None,
        most: float = LARGEST,
        fraction: bool = False,
    ) -> int | float:
        """The first of `keys` as a positive number, else `default`.

        Arguments:
            keys: aliases, in the order in which they are tried.
            default: the value where no key is present.
            most: the largest value that makes sense.
            fraction: whether it may be other than a whole number.

        Raises:
            InputError: no key is present and there is no default, or the value is not such a
                number.
        """
        value = self.get(*keys, default=default)
        if value is None:
            raise self.lacks(*keys)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 < value < math.inf:
            raise self._refused(keys, value, "is not a positive number")
        if value > most:
            raise self._refused(keys, value, f"exceeds {most:g}, which no model has; correct it")
        if not fraction and value != int(value):
            raise self._refused(keys, value, "is not a whole number")
        return value

    def count(
        self, *keys: str, default: float | None = None, least: int = 1, most: float = LARGEST
    ) -> int:
        """The first of `keys` as a whole number, else `default`.

        Arguments:
            keys: aliases, in the order in which they are tried.
            default: the value where no key is present.
            least: the smallest value that is allowed, 0 or 1.
            most: the largest value that makes sense.

        Raises:
            InputError: as in `number`.
        """
        value = self.get(*keys, default=default)
        if least == 0 and isinstance(value, int | float) and value == 0 and value is not False:
            return 0
        return int(self.number(*keys, default=default, most=most))

    def _refused(self, keys: Sequence[str], value: Any, why: str) -> InputError:
        """The error for a value that a field cannot have."""
        return InputError(f"{self.name}: {self.stated(*keys)}: {brief(value)} {why}")

    def flag(self, *keys: str, default: bool) -> bool:
        """The first of `keys` as a truth value, else `default`.

        Raises:
            InputError: the value is neither true nor false.
        """
        value = self.get(*keys, default=default)
        if not isinstance(value, bool):
            raise self._refused(keys, value, "is neither true nor false")
        return value

    def text(self, *keys: str, default: str) -> str:
        """The first of `keys` as a text, else `default`.

        Raises:
            InputError: the value is no text.
        """
        value = self.get(*keys, default=default)
        if not isinstance(value, str):
            raise self._refused(keys, value, "is not a text")
        return value

    def listed(self, *keys: str, least: int = 0) -> tuple[int, ...] | None:
        """The layers that the list under one of `keys` names by their indices; None without one.

        Arguments:
            keys: aliases, in the order in which they are tried.
            least: the index of the first layer, 0 or 1.

        Raises:
            InputError: it is not a list of indices of layers, each once.
        """
        value = self.get(*keys)
        if value is None:
            return None
        last = self.layers - 1 + least
        if (
            not isinstance(value, list)
            or not all(type(each) is int and least <= each <= last for each in value)
            or len(set(value)) < len(value)
        ):
            raise self._refused(
                keys, value, f"does not list layers, each of {least} to {last} once"
            )
        return tuple(each - least for each in value)

    def section(self, key: str) -> "Config":
        """The object that is nested under `key`, as a config of its own.

        Raises:
            InputError: it is missing.
        """
        section = self.get(key)
        if section is None:
            raise self.lacks(key)
        if not isinstance(section, Mapping):
            raise self._refused([key], section, "is not an object of fields")
        if key not in self._sections:
            self._sections[key] = Config(f"{self.name}: {key}", section, self.generic)
        return self._sections[key]

    def kinds(self, *keys: str) -> list[Any] | None:
        """What each of the layers is, where a list under one of `keys` says so; else None.

        Raises:
            InputError: the list does not have one entry for each layer.
        """
        kinds = self.get(*keys)
        if kinds is not None and (not isinstance(kinds, list) or len(kinds) != self.layers):
            raise InputError(
                f"{self.name}: {self.stated(*keys)} must list {self.layers} layers "
                "(num_hidden_layers)"
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
        stated = self.get("sliding_window") is not None
        return self.number("sliding_window", most=2**31) if stated else None

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return self.count(*WIDTH)

    @property
    def layers(self) -> int:
        """Layers of the model."""
        return self.count("num_hidden_layers", "n_layer", "n_layers", "num_layers", most=DEEPEST)

    @property
    def heads(self) -> int:
        """Query heads of an attention layer."""
        return self.count(*HEADS)

    @property
    def head_dim(self) -> int:
        """Elements of each head; hidden / heads where the file says nothing.

        Raises:
            InputError: it says nothing, and hidden is no multiple of heads.
        """
        if self.get("head_dim") is None and self.hidden % self.heads:
            raise InputError(
                f"{self.name}: {self.stated(*HEADS)}: {self.heads} does not divide "
                f"{self.stated(*WIDTH)}, {self.hidden}; add head_dim, or correct one of them"
            )
        return self.count("head_dim", default=self.hidden // self.heads)


def brief(value: Any) -> str:
    """A value of a config.json as people read it in one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
