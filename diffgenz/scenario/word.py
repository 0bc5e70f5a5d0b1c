"""`Word`: one word of a command line or a space file, and how its value is read.

Nothing here imports JAX, so that `diffgenz --help` is quick.
"""

from typing import Any, NamedTuple

from diffgenz.core.counts import real, whole
from diffgenz.core.errors import InputError


class Word(NamedTuple):
    """One word, which says one thing about a scenario.

    Arguments:
        name: the flag without its dashes.
        kind: the type of its value: `int` or `float` for a number, `bool` for a switch.
        place: where in the scenario it stands, such as "plan.tensor".
        help: what it says, for people.
        default: its value where it is left out.
        choices: the only values that it may have; empty where it may have any.
        switches: whether it is a switch of what is computed, and no number.
        off: the text that stands for no number at all, an option that is not in use.
        is_file: whether its value may be the path of a file.
        tokens: whether it counts tokens, of which 4k is 4096.
    """

    name: str
    kind: type
    place: str
    help: str
    default: Any = None
    choices: tuple[str, ...] = ()
    switches: bool = False
    off: str = ""
    is_file: bool = False
    tokens: bool = False

    @property
    def flag(self) -> str:
        """The word on the command line."""
        return f"--{self.name}"

    @property
    def leaf(self) -> str:
        """The full name of the number that it sets; "" where it says something else."""
        number = self.kind is not str and not self.switches and "." in self.place
        return self.place if number else ""

    @property
    def number(self) -> str:
        """What the number that it sets is called in its record; "" where it sets none."""
        return self.leaf.rpartition(".")[2]

    @property
    def record(self) -> str:
        """The record that has the number, such as "plan"; "" where it sets none."""
        return self.leaf.rpartition(".")[0]

    def read(self, given: Any) -> Any:
        """The value that was given, converted to the kind of this word.

        Arguments:
            given: a text, a number or a truth value.

        Returns:
            The value; None where it is `off`.

        Raises:
            InputError: the value is not of that kind, or is not one of the choices.
        """
        if self.kind is bool:
            if isinstance(given, bool):
                return given
            raise self._refused(f"{given!r} is neither true nor false")
        if isinstance(given, bool):
            raise self._refused("expected one argument")
        try:
            value = self.value_of(str(given))
        except InputError as error:
            raise self._refused(str(error)) from None
        if self.off and value == self.off:
            return None
        if self.choices and value not in self.choices:
            among = ", ".join(map(repr, self.choices))
            raise self._refused(f"invalid choice: {value!r} (choose from {among})")
        return value

    def value_of(self, text: str) -> Any:
        """The value that a text states, of the kind of this word.

        Arguments:
            text: as people type it, such as "4k" for tokens, or `off`, which is returned.

        Raises:
            InputError: it states none.
        """
        if self.kind is str or (self.off and text == self.off):
            return text
        try:
            return whole(text, tokens=self.tokens) if self.kind is int else real(text)
        except InputError as error:
            raise InputError(f"{error}, or {self.off}" if self.off else str(error)) from None

    def _refused(self, why: str) -> InputError:
        return InputError(f"argument {self.flag}: {why}; see `diffgenz estimate --help`")
