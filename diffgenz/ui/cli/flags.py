"""Flags: the words of a scenario as arguments of a command.

Nothing here imports JAX, so that `--help` is quick.
"""

import argparse
import functools
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


SYNONYMS = {
    "batch": "concurrency max-concurrency batch-size bs max-num-seqs max-running-requests",
    "isl": "input-len input-length input-tokens prompt-len prompt-tokens random-input-len",
    "osl": "output-len output-length output-tokens max-tokens random-output-len",
    "gpus": "total-gpus num-gpus n-gpus world-size accelerators",
    "tp": "tensor-parallel-size tp-size tensor-parallel",
    "pp": "pipeline-parallel-size pp-size pipeline-parallel",
    "dp": "data-parallel-size dp-size",
    "ep": "enable-expert-parallel expert-parallel-size ep-size",
    "attention-dp": "enable-dp-attention",
    "weights": "quantization quant weight-dtype",
    "kv-cache": "kv-cache-dtype kv-dtype",
    "chunk": "max-num-batched-tokens chunked-prefill-size enable-chunked-prefill",
    "system": "gpu gpu-name hardware hw device accelerator",
}
"""Flags of engines, benchmarks and other tools, by the word that says the same here."""


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, like all others."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}{_hint(message)}; see `{self.prog} --help`")


def _hint(message: str) -> str:
    """The flags of ours that say what unknown ones in a complaint say; "" for none."""
    unknown = [word.partition("=")[0] for word in message.split() if word.startswith("--")]
    if not message.startswith("unrecognized arguments"):
        return ""
    known = {f"--{each}": f"--{ours}" for ours, text in SYNONYMS.items() for each in text.split()}
    found = [f"{flag} is {known[flag]} here" for flag in unknown if flag in known]
    return f" ({', '.join(found)})" if found else ""


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
    if word.off:
        options["type"] = functools.partial(_or_off, word)
    if word.choices:
        options["choices"] = word.choices
    if word.name in ("model", "draft-model"):
        options["metavar"] = "MODEL"
    if word.name == "system":
        options["required"] = True
    return options


def _or_off(word: Word, text: str) -> Any:
    """A number, or the text that says that there is none."""
    try:
        return text if text == word.off else word.kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor {word.off}") from None


def words_in(options: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """What the flags of a command say, by word."""
    return {name: getattr(options, name.replace("-", "_")) for name in names}
