"""What people call a trace: a file, a folder, or a model that traces are drawn from."""

import json
import tomllib
from pathlib import Path

from diffgenz.core.errors import InputError
from diffgenz.routing.source import joined, open_trace
from diffgenz.routing.synthetic import synthesize
from diffgenz.routing.synthetic_files import load_synthetic, preset_names
from diffgenz.routing.trace import Counts, Trace

REQUESTS, PROMPT, ANSWER = 128, 16, 48
"""Requests that are drawn from a preset, and the tokens of each."""


def names_trace(text: str) -> bool:
    """Whether a text names a trace; else it names a routing by its numbers, or nothing.

    Arguments:
        text: a preset, or a path. A .toml file of a generative model has `experts`; a .json file of
            numbers is an object of numbers.
    """
    path = Path(text)
    if text in preset_names() or path.is_dir():
        return True
    if not path.is_file():
        return bool(path.suffix) and path.suffix not in (".toml", ".json") and ":" not in text
    try:
        if path.suffix == ".toml":
            return "experts" in tomllib.loads(path.read_text(encoding="utf-8"))
        if path.suffix == ".json":
            told = json.loads(path.read_text(encoding="utf-8"))
            return not isinstance(told, dict) or "models" in told
    except (OSError, ValueError, RecursionError):
        return False
    return True


def read_trace(
    text: str | list[str],
    *,
    experts: int | None = None,
    k: int | None = None,
    model: str | None = None,
    seed: int = 0,
) -> Trace | Counts:
    """The trace of that name: drawn where it is a generative model, else read.

    Arguments:
        text: a preset, a .toml file of a generative model, or the path of a trace, or several.
        experts: routed experts per layer, where files do not say.
        k: experts that a token chooses, where files do not say.
        model: the model's name; chooses among those of a file.
        seed: of the random numbers.

    Raises:
        InputError: none has that name, or it cannot be read.
    """
    texts = [text] if isinstance(text, str) else list(text)
    first = texts[0]
    if first in preset_names() or (first.endswith(".toml") and names_trace(first)):
        if len(texts) > 1:
            raise InputError(f"trace: {first} is drawn, not recorded; give it alone")
        return synthesize(load_synthetic(first), REQUESTS, PROMPT, ANSWER, seed=seed)
    for each in texts:
        if not Path(each).exists():
            raise InputError(
                f"trace: there is no file {each}; give a trace, or a preset: "
                f"{', '.join(preset_names())}"
            )
    source = open_trace(texts, experts=experts, k=k, model=model)
    return source if isinstance(source, Counts) else joined(list(source.chunks()))
