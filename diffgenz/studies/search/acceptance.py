"""Which plans a serving engine accepts, in which formats."""

from collections.abc import Sequence

import numpy as np

from diffgenz.core.errors import NoSolution
from diffgenz.operators.precision import Precision
from diffgenz.scenario.engines.engine import TITLES, Ranks
from diffgenz.scenario.engines.layouts import Layouts
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.scenario import Scenario
from diffgenz.studies.search.deployment import RANKS


def accepted_by_engines(
    case: Scenario, plans: Parallelism, precisions: Sequence[Precision]
) -> np.ndarray:
    """Which plans vLLM or SGLang run in which formats; of shape (plans, precisions).

    Arguments:
        case: the question; of it, the model counts.
        plans: as one batch.
        precisions: the formats.

    Raises:
        NoSolution: none at all; it says why the first plan is refused.
    """
    layouts, count = Layouts(case.model), plans.tensor.size
    columns = (getattr(plans, name) for name in RANKS)
    ranks = dict(zip(RANKS, (_whole(each, count) for each in columns), strict=True))
    rows = [
        Ranks(**{name: column[index] for name, column in ranks.items()}) for index in range(count)
    ]
    by_weights: dict[object, np.ndarray] = {}  # what is cached or sent is of no account
    found = []
    for precision in precisions:
        key = (precision.weights, float(precision.weight_size), *precision.modules_named.items())
        if key not in by_weights:
            by_weights[key] = np.array([_accepted(layouts, row, precision) for row in rows], bool)
        found.append(by_weights[key])
    accepted = np.stack(found, axis=1)
    if not accepted.any():
        reasons = "; ".join(
            f"{title} refuses {next(layouts.refusals(rows[0], precisions[0], engine))}"
            for engine, title in TITLES.items()
        )
        raise NoSolution(
            f"no engine accepts any layout of {case.model.name} on "
            f"{int(case.platform.accelerators)} accelerators ({reasons}); use another number of "
            "them, or --any-layout (any_layout=True)"
        )
    return accepted


def _accepted(layouts: Layouts, ranks: Ranks, precision: Precision) -> bool:
    return any(next(layouts.refusals(ranks, precision, each), None) is None for each in TITLES)


def _whole(column: object, count: int) -> list[int]:
    return [1] * count if column is None else np.asarray(column, int).tolist()
