"""JSON documents: a file of one, or of one per line; told apart by what the first one holds."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.routing.readers import json_counts, responses, routes, steps
from diffgenz.routing.readers.reader import Asked, Reader
from diffgenz.routing.trace import Counts, Trace

Documents = Iterator[tuple[int, Any]]
"""The line that each document begins in, and the document."""

KINDS: tuple[tuple[Callable[[Any], bool], Callable[..., Iterator[Trace | Counts]]], ...] = (
    (routes.knows, routes.read),
    (responses.knows, responses.read),
    (steps.knows, steps.read),
    (json_counts.knows, json_counts.read),
)
"""What tells a kind of document, and what reads documents of it."""


def knows(path: Path) -> bool:
    """Whether it is JSON, by its name or by how it begins."""
    if path.suffix in (".json", ".jsonl", ".ndjson"):
        return True
    with path.open("rb") as file:
        return file.read(64).lstrip()[:1] in (b"{", b"[")


def read(path: Path, asked: Asked) -> Iterator[Trace | Counts]:
    """What the documents hold.

    Raises:
        InputError: it is not JSON, or no kind of document that is known.
    """
    found = documents(path)
    line, first = next(found, (0, None))
    if first is None:
        raise InputError(f"{path}: is empty; give a file with documents")
    for knows_kind, read_kind in KINDS:
        if knows_kind(first):
            yield from read_kind(path, _with(line, first, found), asked)
            return
    keys = ", ".join(map(str, first))[:80] if isinstance(first, dict) else type(first).__name__
    raise InputError(
        f"{path}: holds {keys}; known are vLLM's route logs, vLLM's and SGLang's responses with "
        "routed_experts, lists of steps {layer: [[expert, ...]]}, and matrices of counts"
    )


def documents(path: Path) -> Documents:
    """The JSON documents of a file, one line at a time where each line is one.

    Raises:
        InputError: a document is not JSON, as where the file ends too early.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            beginning = next((line for line in file if line.strip()), "")
            try:
                json.loads(beginning)
                lines = True
            except (ValueError, RecursionError):
                lines = False
            file.seek(0)
            if not lines:
                yield 1, _parsed(path, 1, file.read())
                return
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _parsed(path, number, line)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not text in UTF-8 ({error.reason}); save it again") from None


def _parsed(path: Path, line: int, text: str) -> Any:
    """A document, or the error that says where it breaks off."""
    if not text.strip():
        raise InputError(f"{path}: is empty; give a file with documents")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: line {line} is not JSON ({error}); it may end too early: record it again"
        ) from None


def _with(line: int, first: Any, others: Documents) -> Documents:
    """The first document and the others."""
    yield line, first
    yield from others


READERS = (Reader("JSON: route logs, responses, steps, counts", knows, read),)
