"""How many requests the memory has room for."""

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar
from diffgenz.inference.memory import Memory
from diffgenz.scenario.scenario import Scenario


def requests_that_fit(case: Scenario, memory: Memory) -> Scalar:
    """Requests of the scenario's lengths that fit together, over all replicas.

    What is left of the memory is filled up with the caches of further requests, in each attention
    group of each replica; activations are those of the scenario. It is what vLLM logs as maximum
    concurrency.

    Arguments:
        case: the scenario.
        memory: that of its estimate.

    Returns:
        A whole number, at least 0; infinite where requests keep nothing.
    """
    groups = case.plan.data * case.plan.attention_data
    own = xp.ceil(case.workload.batch / groups)
    room = xp.maximum(memory.kv_cache + memory.margin, 0.0)
    return xp.floor(own * room / memory.kv_cache) * groups
