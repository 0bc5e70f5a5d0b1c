"""`worth`: what some more of each number does to a metric, in the metric's own unit."""

from collections.abc import Sequence

import numpy as np

from diffgenz.core.differences import as_double, in_double
from diffgenz.core.leaves import leaf_at, with_leaves
from diffgenz.inference.elasticities import varying
from diffgenz.inference.essential import essential
from diffgenz.inference.estimate import compiled_estimate
from diffgenz.inference.metrics import metric_named
from diffgenz.inference.resolved import resolved
from diffgenz.scenario.scenario import Scenario


def worth(
    case: Scenario, metrics: Sequence[str], numbers: Sequence[str], more: float = 0.1
) -> dict[str, dict[str, float]]:
    """By how much metrics change when one number grows and all others stay.

    Estimates are made anew with each number, so that the answer holds for large changes, too.

    Arguments:
        case: one concrete scenario.
        metrics: names of `METRICS`.
        numbers: names of numbers of platform and routing, as `elasticities` has them.
        more: by which share of itself each number grows; negative where it shrinks.

    Returns:
        In SI, by metric and number.

    Raises:
        InputError: an unknown metric, or one that the scenario does not have.
    """
    names = varying(case)
    with in_double():
        question = as_double(essential(case))
        used = varying(question)
        moved = [name for name in numbers if name in used]
        # the last column is the scenario as it is
        factors = np.ones((len(moved), len(moved) + 1)) + more * np.eye(len(moved), len(moved) + 1)
        changes = {
            used[name]: leaf_at(question, used[name]) * row
            for name, row in zip(moved, factors, strict=True)
        }
        result = compiled_estimate(resolved(with_leaves(question, changes)))
        found = {}
        for metric in metrics:
            values = np.broadcast_to(np.asarray(metric_named(result, metric)), len(moved) + 1)
            changed = dict(zip(moved, (values[:-1] - values[-1]).tolist(), strict=True))
            found[metric] = {name: changed.get(name, 0.0) for name in numbers if name in names}
    return found
