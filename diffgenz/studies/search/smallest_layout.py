"""The fewest accelerators that hold a model and its requests."""

import math
from itertools import product
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.hardware.platform import Accelerator, Platform
from diffgenz.inference.encoding import Encoding, prompted
from diffgenz.inference.memory import Memory, memory_use
from diffgenz.inference.timing.pipeline import Pipeline
from diffgenz.models.model import Model
from diffgenz.operators.precision import Precision
from diffgenz.scenario.parallelism import Parallelism, Workload
from diffgenz.scenario.serving_options import Serving


class Layout(NamedTuple):
    """A layout: tensor x context x pipeline ranks, and all accelerators."""

    tensor: int
    pipeline: int
    accelerators: int
    context: int = 1


def smallest_layout(
    model: Model,
    platform: Platform,
    workload: Workload,
    data: int,
    precision: Precision,
    serving: Serving | None = None,
) -> Layout | None:
    """The layout with fewest accelerators that fits, or None: tensor ranks inside the innermost network level, stages, and context ranks, in
    powers of two. Context ranks come last: only they share the KV cache of a layer beyond its heads.

    Arguments:
        platform: its accelerator and network; how many it has does not count. data: replicas.
    """
    inner, connected = (
        (int(platform.network[0].size), int(platform.network[-1].size))
        if platform.network
        else (1, 1)
    )
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
        context=None if model.keeps_state else context,
    )
    fits = np.asarray(
        _memories(model, platform.accelerator, workload, layouts, precision, serving).fits
    )
    if not fits.any():
        return None
    tensor_ranks, stages, context_ranks = plans[int(np.argmax(fits))]
    return Layout(tensor_ranks, stages, tensor_ranks * stages * context_ranks * data, context_ranks)


@eqx.filter_jit
def _memories(
    model: Model,
    accelerator: Accelerator,
    workload: Workload,
    plans: Parallelism,
    precision: Precision,
    serving: Serving | None,
) -> Memory:
    def one(plan):
        split = Pipeline.of(workload, plan, model.layers)
        encoding = Encoding.of(model, workload, plan, precision, split.requests)
        return memory_use(
            model, accelerator, prompted(model, workload), plan, precision, split, serving, encoding
        )

    return jax.vmap(one)(
        jax.tree.map(lambda ranks: jnp.broadcast_to(ranks, plans.tensor.shape), plans)
    )
