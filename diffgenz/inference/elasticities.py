"""`elasticities`: what a metric depends on, by the numbers of hardware and routing, in one call."""

from typing import Any

import jax
import numpy as np
from jax.tree_util import GetAttrKey

from diffgenz.core.differences import as_double, in_double, moves, slopes
from diffgenz.core.leaves import Path, leaf_at, leaf_names, number_at, with_leaves, with_parts
from diffgenz.core.smooth import Scalar, as_leaf
from diffgenz.core.verb import verb
from diffgenz.inference.essential import essential
from diffgenz.inference.estimate import compiled_estimate
from diffgenz.inference.metrics import metric_named
from diffgenz.inference.resolved import resolved
from diffgenz.scenario.scenario import Scenario

_PARTS = ("platform", "routing")
"""The parts of a scenario whose numbers have elasticities."""


def elasticities(case: Scenario, metric: str = "tpot") -> dict[str, Scalar]:
    """d ln metric / d ln x for every hardware number x, and every number of a routing.

    An elasticity says by how many percent the metric moves when x grows by one percent. For a time,
    the elasticities to latencies minus those to peaks and bandwidths sum to 1: hardware that is
    twice as fast in all of them takes half the time. A number that is zero has elasticity 0.

    Arguments:
        case: the scenario.
        metric: the name of one of `METRICS`.

    Returns:
        The elasticity by name of the number, such as "accelerator.memory_bandwidth" or
        "network[0].latency"; those of a routing come last, such as "routing.decode.rows".

    Raises:
        InputError: an unknown metric, or one that the scenario does not have.
    """
    scaled = _scaled(essential(case), metric)  # the others are not in use, such as other peaks
    return {name: as_leaf(scaled.get(name, 0.0)) for name in varying(case)}


def varying(case: Scenario) -> dict[str, Path]:
    """Where the numbers are in a scenario that have elasticities, by name.

    Arguments:
        case: the scenario.
    """
    found = {}
    for part in _PARTS:
        record, here = getattr(case, part), GetAttrKey(part)
        for name, path in leaf_names(record).items():
            about = number_at(record, path)
            if about is None or not about.structure:
                found[name if part == "platform" else f"{part}.{name}"] = (here, *path)
    return found


def _derived(case: Scenario, metric: str) -> dict[str, Scalar]:
    """The elasticities to all these numbers of an `essential` scenario, by derivatives."""

    def of(parts: dict[str, Any]) -> Scalar:
        there = with_parts(case, parts)
        return metric_named(compiled_estimate(resolved(there)), metric)

    parts = {name: getattr(case, name) for name in _PARTS}
    value, gradient = jax.value_and_grad(of)(parts)
    slopes_at = with_parts(case, gradient)
    return {
        name: leaf_at(slopes_at, path) * leaf_at(case, path) / value
        for name, path in varying(case).items()
    }


def _differenced(case: Scenario, metric: str) -> dict[str, Scalar]:
    """The same for one configuration, by differences of logarithms."""
    paths = varying(case)
    with in_double():
        case = as_double(case)
        factors = zip(paths.values(), np.exp(moves(len(paths))), strict=True)
        there = with_leaves(case, {path: leaf_at(case, path) * factor for path, factor in factors})
        value = metric_named(compiled_estimate(resolved(there)), metric)
        found = slopes(np.log(value), len(paths))
    return dict(zip(paths, found, strict=True))


PATIENCE = 2
"""As of `verb`: compiling takes 12.5 s of a CPU, as long as 300 answers in NumPy (41 ms each)."""

_scaled = verb(_derived, plain=_differenced, patience=PATIENCE)
