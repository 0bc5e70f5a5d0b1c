"""The fewest accelerators that hold a model and its requests."""

import math
from itertools import product

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.inference.essential import essential
from diffgenz.inference.jobs import jobs_of
from diffgenz.inference.memory import Memory
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.scenario import Scenario


def smallest_layout(case: Scenario, data: int = 1) -> Scenario | None:
    """The scenario on the fewest accelerators that hold it, or None where no number of them does.

    Tensor ranks inside the innermost network level, stages and context ranks are tried in powers
    of two. Context ranks come last: only they share the KV cache of a layer beyond its heads.

    Arguments:
        case: its plan, and how many accelerators it has, do not count.
        data: replicas.
    """
    model, network = case.model, case.platform.network
    inner, connected = (int(network[0].size), int(network[-1].size)) if network else (1, 1)
    most_tensor, layers = int(min(model.most_shards, inner)), int(model.layers)
    most_context = 1 if model.keeps_state else connected
    powers = [
        [2**n for n in range(most.bit_length())] for most in (most_tensor, layers, most_context)
    ]
    plans = [
        (t, p, c) for t, p, c in product(*powers) if t * p * c * data <= connected or t * p * c == 1
    ]
    plans.sort(key=lambda plan: (math.prod(plan), plan[2], plan[1]))
    tensor, pipeline, context = (
        jnp.asarray(np.array(column, dtype=float)) for column in zip(*plans, strict=True)
    )
    layouts = Parallelism(
        tensor,
        pipeline,
        jnp.full_like(tensor, data),
        overlap=jnp.zeros_like(tensor),
        expert=jnp.ones_like(tensor),
        attention_data=jnp.ones_like(tensor),
        context=None if model.keeps_state else context,
    )
    fits = np.asarray(_memories(essential(case), layouts).fits)
    if not fits.any():
        return None
    tensor_ranks, stages, context_ranks = plans[int(np.argmax(fits))]
    plan = Parallelism(tensor_ranks, stages, data, context=context_ranks)
    platform = case.platform.replace(accelerators=float(plan.ranks))
    return case.replace(platform=platform, plan=plan)


@eqx.filter_jit
def _memories(case: Scenario, plans: Parallelism) -> Memory:
    def one(plan: Parallelism) -> Memory:
        return jobs_of(eqx.tree_at(lambda c: c.plan, case, plan)).memory

    return jax.vmap(one)(plans)
