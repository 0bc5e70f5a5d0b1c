"""Tables of a file that people write.

Unknown keys and values of the wrong kind are refused; the error says where they stand and what to
write instead.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from diffgenz.core.errors import InputError, unknown
from diffgenz.core.units import parse


@contextmanager
def said_of(place: str) -> Iterator[None]:
    """Let errors that are raised within begin with `place`."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


class Section:
    """One table.

    Arguments:
        place: where it stands, for errors: "space.toml: axes.tensor".
        raw: what stands there.
        known: the keys that it may have; None: any.

    Raises:
        InputError: it is no table, or has a key that is not known.
    """

    def __init__(self, place: str, raw: Any, known: Iterable[str] | None = None):
        self.place = place
        if not isinstance(raw, Mapping):
            raise InputError(
                f"{place}: {raw!r} is not a table; write key = value lines under "
                f"[{place.rsplit(': ', 1)[-1]}], or {{ key = value }}"
            )
        self.raw: dict[str, Any] = dict(raw)
        names = None if known is None else list(known)
        for key in self.raw:
            if names is not None and key not in names:
                raise unknown(f"{place}: key", key, names)

    def at(self, key: str) -> str:
        """Where `key` stands."""
        return f"{self.place}.{key}" if ": " in self.place else f"{self.place}: {key}"

    def section(self, key: str, known: Iterable[str] | None = None) -> "Section":
        """The table called `key`, empty where there is none."""
        return Section(self.at(key), self.raw.get(key, {}), known)

    def demand(self, **examples: str) -> None:
        """Raise `InputError` where a table is missing or empty.

        Arguments:
            examples: by the key of each table, what to write in it.
        """
        for key, example in examples.items():
            if not self.raw.get(key):
                place = self.at(key)
                raise InputError(f"{place}: is missing or empty; write [{key}] with {example}")

    def text(self, key: str) -> str:
        """The text called `key`."""
        return self._of_kind(key, str, "a text")

    def whole(self, key: str) -> int:
        """The whole number called `key`; a float without a fraction, such as 1e6, is one."""
        value = self.raw[key]
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return self._of_kind(key, int, "a whole number")

    def number(self, key: str) -> float:
        """The number called `key`."""
        return float(self._of_kind(key, (int, float), "a number"))

    def flag(self, key: str) -> bool:
        """Whether `key` is true; false where it is not there."""
        return key in self.raw and self._of_kind(key, bool, "true or false")

    def texts(self, key: str) -> tuple[str, ...]:
        """The texts called `key`."""
        entries = self.entries(key)
        if not all(isinstance(entry, str) for entry in entries):
            raise InputError(
                f'{self.at(key)}: {entries!r} are not all texts; write {key} = ["...", "..."]'
            )
        return tuple(entries)

    def entries(self, key: str) -> list[Any]:
        """The list called `key`."""
        return self._of_kind(key, list, "a list")

    def _of_kind(self, key: str, kind: Any, words: str) -> Any:
        value = self.raw[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise InputError(
                f"{self.at(key)}: {value!r} is not {words}; write {key} = {_EXAMPLES[words]}"
            )
        return value


_EXAMPLES = {
    "a text": '"..."',
    "a whole number": "8",
    "a number": "0.5",
    "true or false": "true",
    "a list": "[...]",
}


def quantity(place: str, value: Any, unit: str | None) -> float:
    """The number in SI that a file states.

    Arguments:
        place: where it stands, for errors.
        value: a plain number, which is in SI, or text with a unit.
        unit: the SI unit wanted; None: the number has no unit.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return parse(value, unit or "1", field=place)
