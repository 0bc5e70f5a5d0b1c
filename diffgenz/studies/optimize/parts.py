"""Estimates of all parts of a mix in one go, where they differ in numbers alone.

Parts of one model become more columns of one call in NumPy, and one `vmap` in a compiled program,
which then takes no longer to compile than a single part.
"""

from collections.abc import Container, Sequence
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from diffgenz.core import xp
from diffgenz.inference.estimate import Estimate, estimate
from diffgenz.scenario.mix import parts_of
from diffgenz.serving.under_load import UnderLoad, in_columns, metrics_under_load


def estimates_of(question: Any) -> list[Estimate]:
    """The estimate of each part.

    Arguments:
        question: a scenario or mix without labels, whose numbers are tracers, or NumPy's, alone or
            in columns.
    """
    parts = parts_of(question)
    alike: dict[Any, list[int]] = {}
    flat: list[list[Any]] = []
    for place, part in enumerate(parts):
        leaves, structure = jax.tree.flatten(part)
        flat.append(leaves)
        alike.setdefault(structure, []).append(place)
    found: dict[int, Estimate] = {}
    for structure, places in alike.items():
        if len(places) == 1:
            results = [estimate(parts[places[0]])]
        else:
            rows = [flat[place] for place in places]
            results = _together(structure, rows)
        found |= dict(zip(places, results, strict=True))
    return [found[place] for place in range(len(parts))]


def metrics_of_load(question: UnderLoad, needed: Container[str]) -> dict[str, Any]:
    """The metrics of a scenario under a load.

    Arguments:
        question: without labels, its numbers as in `estimates_of`.
        needed: what formulas use.
    """
    if xp.is_jax(question):
        return metrics_under_load(question, needed)
    found = in_columns(question, needed)
    if any(np.ndim(leaf) for leaf in jax.tree.leaves(question)):
        return dict(found)
    return {name: column[0] for name, column in found.items()}


def _together(structure: Any, rows: Sequence[list[Any]]) -> list[Estimate]:
    """The estimates of parts of one structure, from the leaves of each."""
    columns = list(zip(*rows, strict=True))
    shared = [all(_same(column[0], other) for other in column[1:]) for column in columns]
    count = len(rows)
    if any(isinstance(leaf, Tracer) for row in rows for leaf in row):
        leaves = [
            column[0] if same else xp.stack([xp.asarray(leaf, float) for leaf in column])
            for column, same in zip(columns, shared, strict=True)
        ]
        axes = [None if same else 0 for same in shared]

        def one(*part: Any) -> Estimate:
            return estimate(jax.tree.unflatten(structure, part))

        all_at_once = jax.vmap(one, in_axes=axes)(*leaves)
        return [jax.tree.map(lambda leaf, i=i: leaf[i], all_at_once) for i in range(count)]
    width = max([np.size(leaf) for row in rows for leaf in row], default=1)
    leaves = [
        _tiled(column[0], count)
        if same
        else np.concatenate([np.broadcast_to(leaf, (width,)) for leaf in column])
        for column, same in zip(columns, shared, strict=True)
    ]
    all_at_once = estimate(jax.tree.unflatten(structure, leaves))
    return [
        jax.tree.map(lambda leaf, i=i: _part(leaf, i, width), all_at_once) for i in range(count)
    ]


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, Tracer) or isinstance(other, Tracer):
        return False
    return np.shape(one) == () == np.shape(other) and bool(one == other)


def _tiled(leaf: Any, count: int) -> Any:
    return leaf if np.ndim(leaf) == 0 else np.tile(leaf, count)


def _part(leaf: Any, place: int, width: int) -> Any:
    return leaf if np.ndim(leaf) == 0 else leaf[place * width : (place + 1) * width]
