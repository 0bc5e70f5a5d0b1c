"""`elasticities`: what a metric depends on, for every hardware number, in one call."""

import equinox as eqx
import jax
import jax.numpy as jnp

from diffgenz.core.leaves import leaf_at, leaf_names, number_at
from diffgenz.core.smooth import Scalar
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
    scaled = _scaled(essential(case), metric)
    known = leaf_names(scaled)  # the others are not in use, such as peaks of other formats
    found = {}
    for name, path in leaf_names(case.platform).items():
        about = number_at(case.platform, path)
        if about is None or not about.structure:
            slope = leaf_at(scaled, path) if name in known else 0.0
            found[name] = jnp.asarray(slope, float)
    return found


@eqx.filter_jit
def _scaled(case: Scenario, metric: str) -> Platform:
    def of(hardware: Platform) -> Scalar:
        there = eqx.tree_at(lambda c: c.platform, case, hardware)
        return metric_named(compiled_estimate(resolved(there)), metric)

    value, gradient = jax.value_and_grad(of)(case.platform)
    return jax.tree.map(lambda slope, x: slope * x / value, gradient, case.platform)
