"""Counts in JSON: matrices as nested lists, and counts of several models by domain.

SGLang's `--init-expert-location` takes {"logical_count": [[...], ...]}; DeepSeek's EPLB takes a
matrix [layers, experts]. Counts by domain are {"models": {name: {"experts": 64, "top_k": 8,
"domains": {"code": [[...], ...]}}}}, as is what stands below "models".
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from diffgenz.core.errors import InputError, unknown
from diffgenz.routing.readers.reader import Asked
from diffgenz.routing.readers.recorder import counts_of
from diffgenz.routing.trace import Counts

MATRICES = ("logical_count", "counts", "weight", "expert_load", "load")
"""How a matrix of counts is called."""


def knows(document: Any) -> bool:
    """Whether it is a matrix of numbers, or names one, or has counts by domain."""
    if isinstance(document, dict):
        return any(name in document for name in (*MATRICES, "models", "domains"))
    return _is_matrix(document)


def read(path: Path, found: Iterator[tuple[int, Any]], asked: Asked) -> Iterator[Counts]:
    """The counts of a document.

    Raises:
        InputError: rows differ in length, or the file has several models and none is asked for.
    """
    for _line, document in found:
        try:
            yield _counts(document, asked)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None


def _is_matrix(document: Any) -> bool:
    """Whether it is lists of numbers, two or three deep."""
    for depth in range(4):
        if not isinstance(document, list) or not document:
            return depth in (2, 3) and type(document) in (int, float)
        document = document[0]
    return False


def _counts(document: Any, asked: Asked) -> Counts:
    """The counts of one document."""
    if isinstance(document, dict) and "models" in document:
        models = document["models"]
        if asked.model is None and len(models) != 1:
            raise InputError(
                f"model: the file has {', '.join(models)}; say which with --model (model=)"
            )
        name = asked.model or next(iter(models))
        if name not in models:
            raise unknown("model", name, models)
        return _by_domain(models[name], asked, name)
    if isinstance(document, dict) and "domains" in document:
        return _by_domain(document, asked, document.get("model", asked.model))
    if isinstance(document, dict):
        document = next(document[name] for name in MATRICES if name in document)
    return counts_of(_matrix(document, "counts"), asked)


def _matrix(rows: Any, name: str) -> np.ndarray:
    """An array of nested lists."""
    try:
        return np.array(rows, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name}: rows have different lengths; give each the same") from None


def _by_domain(model: dict[str, Any], asked: Asked, name: str | None) -> Counts:
    """The counts of a model by domain."""
    domains = model["domains"]
    empty = [domain for domain, rows in domains.items() if not np.any(_matrix(rows, domain))]
    if empty or not domains:
        raise InputError(
            f"domain: {', '.join(empty) or 'none'} has no counts; leave out empty domains"
        )
    matrices = [_matrix(rows, domain) for domain, rows in domains.items()]
    if len({matrix.shape for matrix in matrices}) > 1:
        raise InputError("counts: domains differ in layers or experts; give each the same")
    counts = np.stack(matrices)
    experts = asked.experts or model.get("experts")
    if experts is not None and counts.shape[2] != experts:
        raise InputError(f"experts: {experts} are said, {counts.shape[2]} are counted")
    return Counts(
        counts=counts,
        groups=tuple(domains),
        by="domain",
        layers=tuple(range(counts.shape[1])),
        k=asked.k or model.get("top_k"),
        model=name,
    )
