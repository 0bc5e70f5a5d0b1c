"""vLLM's route logs in JSON lines, as loggers in its `FusedMoE` layer write them.

    {"type": "meta", "model_id": ..., "num_experts": 60, "top_k": 4, "layers_logged": [0]}
    {"type": "route", "req_id": "r1", "token_idx": 0, "layer": 0,
     "topk_ids": [43, 5, 7, 58], "topk_weights": [0.10, 0.05, 0.04, 0.04]}

A token is a `req_id` and a `token_idx`. Loggers that count the tokens of each forward pass from 0
write the same ones again: the first time is pass 0, the next is pass 1. A record may say its
`phase` ("prefill" or "decode") and its `domain`. Where none says a phase, tokens of pass 0 count as
prefill if there are more passes, and all tokens count as decode if not.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.routing.readers.reader import Asked
from diffgenz.routing.readers.rows import Rows
from diffgenz.routing.trace import Trace


def knows(document: Any) -> bool:
    """Whether a document is a header or a record of a route log."""
    return isinstance(document, dict) and (
        document.get("type") == "route"
        or (document.get("type") == "meta" and ("top_k" in document or "model_id" in document))
        or ("topk_ids" in document and "layer" in document)
    )


def read(path: Path, found: Iterator[tuple[int, Any]], asked: Asked) -> Iterator[Trace]:
    """The tokens of all requests.

    Raises:
        InputError: a record lacks a field, or a token lacks a layer.
    """
    rows, experts, model = Rows(), asked.experts, asked.model
    for line, document in found:
        if not isinstance(document, dict):
            raise InputError(f"{path}: line {line} is no record; give one JSON object per line")
        if document.get("type") == "meta":
            experts = experts or document.get("num_experts")
            model = model or document.get("model_id")
            continue
        try:
            ids = document["topk_ids"]
            token = document["token_idx"] if "token_idx" in document else document.get("token", 0)
            several = bool(ids) and isinstance(ids[0], list)
            gates = document.get("topk_weights")
            for index, each in enumerate(ids if several else [ids]):
                rows.add(
                    layer=int(document["layer"]),
                    token=index if several else int(token),
                    experts=each,
                    weights=None if gates is None else gates[index] if several else gates,
                    request=str(document.get("req_id", document.get("request_id", ""))),
                    phase=document.get("phase"),
                    domain=document.get("domain"),
                )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"{path}: line {line}: has no layer, token_idx and topk_ids of whole numbers "
                f"({error}); a record is {{layer, token_idx, topk_ids}}"
            ) from None
    yield from rows.traces(path, asked._replace(experts=experts, model=model))
