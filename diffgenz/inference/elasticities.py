"""`elasticities`: what a metric depends on, for every hardware number, in one call."""

import equinox as eqx
import jax
import numpy as np

from diffgenz.core.differences import as_double, in_double, moves, slopes
from diffgenz.core.leaves import Path, leaf_at, leaf_names, number_at, with_leaves
from diffgenz.core.smooth import Scalar, as_leaf
from diffgenz.core.verb import verb
from diffgenz.hardware.platform import Platform
from diffgenz.inference.essential import essential
from diffgenz.inference.estimate import compiled_estimate
from diffgenz.inference.metrics import metric_named
from diffgenz.inference.resolved import resolved
from diffgenz.scenario.scenario import Scenario


def elasticities(case: Scenario, metric: str = "tpot") -> dict[str, Scalar]:
    """d ln metric / d ln x for every hardware number x.

    An elasticity says by how many percent the metric moves when x grows by one percent. For a time,
    the elasticities to latencies minus those to peaks and bandwidths sum to 1: hardware that is
    twice as fast in all of them takes half the time. A number that is zero has elasticity 0.

    Arguments:
        case: the scenario.
        metric: the name of one of `METRICS`.

    Returns:
        The elasticity by name of the number, such as "accelerator.memory_bandwidth" or
        "network[0].latency".

    Raises:
        InputError: an unknown metric, or one that the scenario does not have.
    """
    scaled = _scaled(essential(case), metric)  # the others are not in use, such as other peaks
    return {
        name: as_leaf(scaled.get(name, 0.0))
        for name, path in leaf_names(case.platform).items()
        if not _is_structure(case.platform, path)
    }


def _is_structure(platform: Platform, path: Path) -> bool:
    about = number_at(platform, path)
    return about is not None and about.structure


def _derived(case: Scenario, metric: str) -> dict[str, Scalar]:
    """The elasticities to all hardware numbers of an `essential` scenario, by derivatives."""

    def of(hardware: Platform) -> Scalar:
        there = eqx.tree_at(lambda c: c.platform, case, hardware)
        return metric_named(compiled_estimate(resolved(there)), metric)

    platform = case.platform
    value, gradient = jax.value_and_grad(of)(platform)
    return {
        name: leaf_at(gradient, path) * leaf_at(platform, path) / value
        for name, path in leaf_names(platform).items()
    }


def _differenced(case: Scenario, metric: str) -> dict[str, Scalar]:
    """The same for one configuration, by differences of logarithms."""
    paths = {
        name: path
        for name, path in leaf_names(case.platform).items()
        if not _is_structure(case.platform, path)
    }
    with in_double():
        case = as_double(case)
        factors = zip(paths.values(), np.exp(moves(len(paths))), strict=True)
        moved = {path: leaf_at(case.platform, path) * factor for path, factor in factors}
        there = eqx.tree_at(lambda c: c.platform, case, with_leaves(case.platform, moved))
        value = metric_named(compiled_estimate(resolved(there)), metric)
        found = slopes(np.log(value), len(paths))
    return dict(zip(paths, found, strict=True))


_scaled = verb(_derived, plain=_differenced, patience=10)
