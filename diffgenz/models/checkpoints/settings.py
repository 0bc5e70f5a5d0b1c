"""The facts of a quantisation section, read by name, with errors that name the key.

A list or an object that nobody reads may leave modules wide, so that it is an error, too.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.models.fields import is_off

REMEDY = "give the formats themselves: weights, activations"
"""What to do about a section that cannot be read."""

SELECTING = re.compile(
    r"ignor|exclu|skip|convert|target|module|layer|overrid|dynamic|extra|group|quantize|keep"
)
"""Matches keys that may say which modules are in which format."""


class Settings:
    """A part of a quantisation section.

    Arguments:
        where: what errors call it.
        raw: its content.

    Methods that take several keys take them for names of one fact, of which the first that is
    there counts; what is null is not there.
    """

    def __init__(self, where: str, raw: Mapping[str, Any]):
        self.where, self.raw = where, raw
        self._read: set[str] = set()
        self._parts: dict[str, Settings] = {}

    def get(self, *keys: str) -> Any:
        """The value as it is; None where there is none."""
        self._read.update(keys)
        return next((self.raw[key] for key in keys if self.raw.get(key) is not None), None)

    def bad(self, key: str, what: str) -> InputError:
        """The error for a key whose value is not what it must be."""
        value = repr(self.raw.get(key))
        shown = value if len(value) <= 60 else f"{value[:57]}..."
        return InputError(f"{self.where}: {key}: {shown} {what}; {REMEDY}")

    def _key(self, keys: Iterable[str]) -> str:
        """That of `keys` which is there, else the first of them."""
        names = list(keys)
        return next((key for key in names if self.raw.get(key) is not None), names[0])

    def text(self, *keys: str) -> str | None:
        """A text; None where there is none.

        Raises:
            InputError: it is something else.
        """
        value = self.get(*keys)
        if value is not None and not isinstance(value, str):
            raise self.bad(self._key(keys), "is no text")
        return value

    def whole(self, *keys: str) -> int | None:
        """A whole number, which may be spelled as text; None where there is none.

        Raises:
            InputError: it is something else.
        """
        value = self.get(*keys)
        if isinstance(value, str) and re.fullmatch(r"-?\d{1,9}", value):
            value = int(value)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.bad(self._key(keys), "is no whole number")
        if not abs(value) < 2**31 or value != int(value):
            raise self.bad(self._key(keys), "is no whole number")
        return int(value)

    def needed(self, *keys: str) -> int:
        """A whole number that must be there.

        Raises:
            InputError: there is none, or it is something else.
        """
        value = self.whole(*keys)
        if value is None:
            names = " (or ".join(keys) + ")" * (len(keys) - 1)
            raise InputError(f"{self.where}: lacks {names}; {REMEDY}")
        return value

    def flag(self, *keys: str, default: bool) -> bool:
        """A truth value, else `default`.

        Raises:
            InputError: it is something else.
        """
        value = self.get(*keys)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.bad(self._key(keys), "is neither true nor false")
        return value

    def texts(self, *keys: str) -> tuple[str, ...]:
        """The texts of a list, which may hold lists, or a text with commas; empty for nothing.

        Raises:
            InputError: it is something else.
        """
        value, key = self.get(*keys), self._key(keys)
        if value is None:
            return ()
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        if not isinstance(value, list):
            raise self.bad(key, "is no list of modules")
        flat = [part for each in value for part in (each if isinstance(each, list) else [each])]
        if not all(isinstance(part, str) and part for part in flat):
            raise self.bad(key, "is no list of modules")
        return tuple(flat)

    def part(self, *keys: str) -> "Settings | None":
        """A nested object; None where there is none, or an empty one.

        Raises:
            InputError: it is something else.
        """
        value, key = self.get(*keys), self._key(keys)
        if value is None or value == {}:
            return None
        if not isinstance(value, Mapping):
            raise self.bad(key, "is no object")
        if key not in self._parts:
            self._parts[key] = Settings(f"{self.where}: {key}", value)
        return self._parts[key]

    def parts(self, *keys: str) -> "dict[str, Settings | None]":
        """The objects that a nested object holds, by name; None for those that are null or empty.

        Raises:
            InputError: it holds something else.
        """
        part = self.part(*keys)
        return {} if part is None else part.objects()

    def objects(self) -> "dict[str, Settings | None]":
        """All that it holds, each an object; None for those that are null or empty.

        Raises:
            InputError: it holds something else.
        """
        return {key: self.part(key) for key in self.raw}

    def refuse_unread(self) -> None:
        """Refuse lists and objects that may select modules and that nobody has read.

        Raises:
            InputError: there is one, here or in a part that was read.
        """
        for key, value in self.raw.items():
            selects = isinstance(value, list | Mapping) and SELECTING.search(key)
            if key not in self._read and selects and not is_off(value):
                raise self.bad(key, "may leave modules wide, and is not known here")
        for part in self._parts.values():
            part.refuse_unread()
