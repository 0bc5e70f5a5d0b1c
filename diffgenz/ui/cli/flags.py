"""Flags: the words of a scenario as arguments of a command.

Nothing here imports JAX, so that `--help` is quick.
"""

import argparse
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from diffgenz.core.errors import InputError
from diffgenz.scenario.words import WORDS, Word

REQUESTS = tuple(name for name, word in WORDS.items() if word.record == "workload")
"""What is asked of a model."""

LAYOUT = tuple(name for name in WORDS if name not in (*REQUESTS, "fit"))
"""A model, where it runs and how."""

SERVING = tuple(name for name, word in WORDS.items() if word.place.startswith("serving."))
"""What a server does besides batching."""


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, like all others."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see `{self.prog} --help`")


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="print JSON, in SI units")


def add_words(
    parser: argparse.ArgumentParser,
    names: Iterable[str],
    changed: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """The arguments of some words.

    Arguments:
        parser: of the command.
        names: of the words, in the order of `--help`.
        changed: by word, what the command changes of its argument: options of `add_argument`.
    """
    for name in names:
        own = dict((changed or {}).get(name, {}))
        parser.add_argument(*_flags(WORDS[name]), **(_options(WORDS[name]) | own))


def _flags(word: Word) -> tuple[str, ...]:
    """How the argument is called: the model goes without a flag."""
    return ("model",) if word.name == "model" else (word.flag,)


def _options(word: Word) -> dict[str, Any]:
    """How `add_argument` takes a word."""
    if word.kind is bool:
        return {"action": "store_true", "help": word.help}
    options: dict[str, Any] = {"type": word.kind, "default": word.default, "help": word.help}
    if word.choices:
        options["choices"] = word.choices
    if word.name in ("model", "draft-model"):
        options["metavar"] = "MODEL"
    if word.name == "system":
        options["required"] = True
    return options


def words_in(options: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """What the flags of a command say, by word."""
    return {name: getattr(options, name.replace("-", "_")) for name in names}
