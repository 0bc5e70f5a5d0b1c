"""Responses of vLLM and SGLang with the routed experts of a request; one document per request.

vLLM, `--enable-return-routed-experts` (docs.vllm.ai): until 0.21 `prompt_routed_experts` [prompt
tokens, layers, k] beside `choices[].routed_experts` [generated tokens, layers, k], as nested lists;
later `choices[].routed_experts` of the whole sequence, as base64 of a .npy file. SGLang,
`--enable-return-routed-experts`: `meta_info.routed_experts`, base64 of int32 [tokens, layers, k]
without its shape. The last generated token is never routed: a sequence has prompt + generated - 1.

A document is a response, or has one under "response"; `domain` (or `category`, `task`) and `model`
beside it are read, too.
"""

import base64
import binascii
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.routing.readers.reader import Asked, experts_of, routed
from diffgenz.routing.trace import DECODE, PREFILL, Trace

DOMAINS = ("domain", "category", "task", "dataset")
"""What may say the domain of a request."""


def knows(document: Any) -> bool:
    """Whether a document, or the first of a list of them, has routed experts."""
    document = document[0] if isinstance(document, list) and document else document
    if not isinstance(document, dict):
        return False
    inner = document.get("response", document)
    return isinstance(inner, dict) and any(
        isinstance(part, dict) and ("routed_experts" in part or "prompt_routed_experts" in part)
        for part in (inner, inner.get("meta_info"), *_choices(inner))
    )


def read(path: Path, found: Iterator[tuple[int, Any]], asked: Asked) -> Iterator[Trace]:
    """The tokens of each request, one per choice.

    Raises:
        InputError: a response has no routed experts, or they cannot be decoded.
    """
    request = 0
    for line, document in found:
        for each in document if isinstance(document, list) else [document]:
            try:
                for trace in _traces(each, request, asked):
                    yield trace
                    request += 1
            except InputError as error:
                raise InputError(f"{path}: line {line}: {error}") from None


def _choices(response: dict[str, Any]) -> list[Any]:
    """The choices of a response."""
    found = response.get("choices") or response.get("outputs") or []
    return found if isinstance(found, list) else []


def _traces(document: Any, request: int, asked: Asked) -> Iterator[Trace]:
    """The tokens of a response, one trace for each of its choices."""
    inner = document.get("response", document) if isinstance(document, dict) else None
    if not isinstance(inner, dict):
        raise InputError("response: is no JSON object; give one per line")
    meta = inner.get("meta_info") or {}
    usage = inner.get("usage") or {}
    prompt = _number(meta, usage, inner, "prompt_tokens")
    domain = next((str(d[n]) for n in DOMAINS for d in (document, inner) if n in d), "all")
    model = inner.get("model") or document.get("model") or asked.model
    first = inner.get("prompt_routed_experts")
    choices = [c for c in _choices(inner) if isinstance(c, dict)] or [inner]
    for choice in choices:
        given = choice.get("routed_experts", meta.get("routed_experts"))
        if given is None and first is None:
            raise InputError(
                "routed_experts: is not there; serve with --enable-return-routed-experts"
            )
        made = _number(meta, usage, inner, "completion_tokens")
        whole = None if prompt is None or made is None else prompt + max(made - 1, 0)
        ids = None if given is None else _decoded(given, whole, asked)
        if first is not None:
            head = _decoded(first, prompt, asked)
            parts = [head] if ids is None or not len(ids) else [head, ids]
            if len({part.shape[1:] for part in parts}) > 1:
                raise InputError("routed_experts: has other layers or top-k than the prompt's")
            ids, prompts = np.concatenate(parts), len(head)
        else:
            prompts = _prompts(ids, prompt, made)
        assert ids is not None
        phase = np.where(np.arange(len(ids)) < prompts, PREFILL, DECODE)
        ids, layers, kept = routed(ids)
        yield Trace(
            experts=experts_of(ids, asked),
            layers=tuple(map(int, layers)),
            chosen=ids,
            request=np.full(len(ids), request),
            phase=phase[kept],
            domains=(domain,),
            model=None if model is None else str(model),
        )
        request += 1


def _prompts(ids: Any, prompt: int | None, made: int | None) -> int:
    """How many of the tokens are of the prompt.

    An array of the generated tokens alone has as many rows as were generated, or one fewer.
    """
    if prompt is None:
        raise InputError(
            "usage.prompt_tokens: is not there, which says where the prompt ends; keep it"
        )
    if made is not None and len(ids) in (made, made - 1) and len(ids) < prompt + made - 1:
        return 0
    # What a prefix cache held is left out at the front.
    return prompt if made is None else max(len(ids) - max(made - 1, 0), 0)


def _number(meta: Any, usage: Any, inner: Any, name: str) -> int | None:
    """A number of tokens, where the response has one."""
    found = next((d[name] for d in (usage, meta, inner) if isinstance(d.get(name), int)), None)
    return found


def _decoded(given: Any, tokens: int | None, asked: Asked) -> np.ndarray:
    """[tokens, layers, k] of nested lists, of base64, or of {"data", "dtype", "shape"}.

    Arguments:
        given: as in the response.
        tokens: how many there should be, for data without a shape.
        asked: may say k, for data without a shape.
    """
    try:
        if isinstance(given, dict):
            data = base64.b64decode(given["data"], validate=True)
            return _ids(np.frombuffer(data, _integer(given["dtype"])).reshape(given["shape"]))
        if isinstance(given, str):
            data = base64.b64decode(given, validate=True)
            if data.startswith(b"\x93NUMPY"):
                return _ids(np.load(io.BytesIO(data), allow_pickle=False))
            flat = np.frombuffer(data, "<i4")
            if asked.k is None or not tokens:
                raise InputError(
                    f"routed_experts: {flat.size:,} numbers without a shape; say how many experts "
                    "a token chooses (--model, or k=), and keep usage.prompt_tokens and "
                    "completion_tokens"
                )
            if flat.size % (tokens * asked.k):
                raise InputError(
                    f"routed_experts: {flat.size:,} numbers are not {tokens} tokens of whole "
                    f"layers with {asked.k} experts; the trace may be of another model"
                )
            return _ids(flat.reshape(tokens, -1, asked.k))
        return _ids(np.array(given))
    except InputError:
        raise
    except (binascii.Error, EOFError, KeyError, OSError, TypeError, ValueError) as error:
        raise InputError(
            f"routed_experts: cannot be decoded ({str(error)[:80]}); tokens may differ in their "
            "number of experts, or the line ends too early"
        ) from None


def _integer(name: Any) -> np.dtype:
    """A type of whole numbers."""
    dtype = np.dtype(str(name))
    if dtype.kind not in "iu":
        raise ValueError(f"{name} is no type of whole numbers")
    return dtype


def _ids(array: np.ndarray) -> np.ndarray:
    """The array, which must be [tokens, layers, k] whole numbers."""
    if not array.size:
        return np.zeros((0, 1, 1), np.int32) if array.ndim != 3 else array.astype(np.int32)
    if array.ndim != 3 or array.dtype.kind not in "iu":
        raise ValueError(f"shape {list(array.shape)} of {array.dtype}, not [tokens, layers, k]")
    return array if array.dtype.kind == "i" else array.astype(np.int64)
