"""Lists of steps: for each step of a request, what its tokens chose in each layer.

    [{"1": [[12], [7], [12]], "3": [[0], [9], [4]]},    the prompt's three tokens, in layers 1 and 3
     {"1": [[12]], "3": [[9]]}, ...]                    each generated token

Step 0 is the prefill. A document is the list of one request, a list of such lists, or a dictionary
of them by request; a file has one document, or one per line.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.routing.readers.reader import Asked, experts_of
from diffgenz.routing.trace import DECODE, PREFILL, Trace


def knows(document: Any) -> bool:
    """Whether a document is a step, a list of steps, or holds lists of steps."""
    return any(_is_step(_first(document, depth)) for depth in range(3))


def read(path: Path, found: Iterator[tuple[int, Any]], asked: Asked) -> Iterator[Trace]:
    """The tokens of each request.

    Raises:
        InputError: a step has other layers than the first, tokens that differ in number between
            layers, or a token another number of experts.
    """
    request, layers, single = 0, None, []
    for line, document in found:
        if _is_step(document):  # a step in each line: the file is one request
            single.append(document)
            continue
        for each in _requests(document):
            try:
                trace = _trace(each, request, layers, asked)
            except InputError as error:
                raise InputError(f"{path}: request {request}, from line {line}: {error}") from None
            layers = trace.layers
            yield trace
            request += 1
    if single:
        yield _trace(single, request, layers, asked)


def _first(document: Any, depth: int) -> Any:
    """The first value inside, so many levels down."""
    for _ in range(depth):
        if isinstance(document, dict):
            document = next(iter(document.values()), None)
        elif isinstance(document, list):
            document = document[0] if document else None
    return document


def _is_step(document: Any) -> bool:
    """Whether it is {layer: [[expert, ...], ...], ...}."""
    if not isinstance(document, dict) or not document:
        return False
    if not all(_layer(key) is not None for key in document):
        return False
    inside = next(iter(document.values()))
    return isinstance(inside, list) and (
        not inside or (isinstance(inside[0], list) and all(type(e) is int for e in inside[0]))
    )


def _layer(key: str) -> int | None:
    """The index of a layer: of "3", "layer_3", "model.layers.3.mlp"."""
    numbers = re.findall(r"\d+", key)
    return int(numbers[0]) if len(numbers) == 1 else None


def _requests(document: Any) -> Iterator[list[Any]]:
    """The lists of steps in a document."""
    if isinstance(document, dict):
        document = list(document.values())
    if not isinstance(document, list):
        raise InputError(f"steps: {type(document).__name__} is no list of steps")
    if document and isinstance(document[0], dict):
        yield document
    else:
        for inside in document:
            yield from _requests(inside)


def _trace(steps: list[Any], request: int, layers: tuple[int, ...] | None, asked: Asked) -> Trace:
    """The tokens of one request."""
    blocks: list[np.ndarray] = []
    for number, step in enumerate(steps):
        if not isinstance(step, dict):
            raise InputError(f"step {number}: is {type(step).__name__}; give {{layer: [[expert]]}}")
        found: dict[int, Any] = {}
        for key, value in step.items():
            layer = _layer(str(key))
            if layer is None or layer in found:
                raise InputError(f"step {number}: {key!r} is no layer of its own; name each once")
            found[layer] = value
        have = tuple(sorted(found))
        layers = have if layers is None else layers
        if have != layers:
            odd = sorted(set(have) ^ set(layers))
            raise InputError(
                f"step {number}: has {len(have)} layers, the first has {len(layers)}; "
                f"layer {odd[0]} is missing in one: record all layers of all steps"
            )
        try:
            block: np.ndarray = np.array([found[layer] for layer in layers])
        except ValueError:
            block = np.zeros(0)
        if block.ndim != 3 or block.dtype.kind not in "iu":
            raise InputError(
                f"step {number}: has no [tokens, k] whole numbers in each layer; all layers have "
                "the same tokens, and all tokens the same number of experts"
            )
        if blocks and block.shape[2] != blocks[0].shape[2]:
            raise InputError(
                f"step {number}: has {block.shape[2]} experts per token, the first has "
                f"{blocks[0].shape[2]}; all tokens have the same number"
            )
        blocks.append(np.moveaxis(block, 0, 1))
    if not blocks:
        raise InputError("steps: there are none; give the prefill at least")
    chosen = np.concatenate(blocks)
    sizes = [len(block) for block in blocks]
    phase = np.full(len(chosen), DECODE)
    phase[: sizes[0]] = PREFILL
    return Trace(
        experts=experts_of(chosen, asked),
        layers=layers or (),
        chosen=chosen,
        request=np.full(len(chosen), request),
        phase=phase,
        model=asked.model,
    )
