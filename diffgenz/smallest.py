"""The fewest accelerators that hold a model and its requests."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.encoding import Encoding, prompted
from diffgenz.footprint import Memory, memory_use
from diffgenz.hardware import Accelerator, Platform
from diffgenz.models.model import Model
from diffgenz.pipeline import Pipeline
from diffgenz.precision import Precision
from diffgenz.serving_options import Serving
from diffgenz.workload import Parallelism, Workload


class Layout(NamedTuple):
    """A layout that fits: tensor x pipeline ranks of each replica, and all accelerators."""

    tensor: int
    pipeline: int
    accelerators: int


def smallest_layout(
    model: Model, platform: Platform, workload: Workload, data: int, precision: Precision, serving: Serving | None = None
) -> Layout | None:
    """The layout with fewest accelerators that fits, or None: tensor ranks inside the innermost network level, and stages, in powers of two.

    Arguments:
        platform: its accelerator and network; how many it has does not count. data: replicas.
    """
    inner, connected = (int(platform.network[0].size), int(platform.network[-1].size)) if platform.network else (1, 1)
    most_tensor, layers = int(min(model.most_shards, inner)), int(model.layers)
    powers = [(2**t, 2**p) for t in range(most_tensor.bit_length()) for p in range(layers.bit_length())]
    plans = [(t, p) for t, p in powers if t <= most_tensor and p <= layers and (t * p * data <= connected or t * p == 1)]
    plans.sort(key=lambda plan: (plan[0] * plan[1], plan[1]))
    tensor, pipeline = (jnp.asarray(np.array(column, dtype=float)) for column in zip(*plans, strict=True))
    layouts = Parallelism(tensor, pipeline, jnp.full_like(tensor, data))
    fits = np.asarray(_memories(model, platform.accelerator, workload, layouts, precision, serving).fits)
    if not fits.any():
        return None
    first = plans[int(np.argmax(fits))]
    return Layout(*first, first[0] * first[1] * data)


@eqx.filter_jit
def _memories(
    model: Model, accelerator: Accelerator, workload: Workload, plans: Parallelism, precision: Precision, serving: Serving | None
) -> Memory:
    def one(tensor, pipeline, data):
        plan = Parallelism(tensor, pipeline, data)
        split = Pipeline.of(workload, plan, model.layers)
        encoding = Encoding.of(model, workload, plan, precision, split.requests)
        return memory_use(model, accelerator, prompted(model, workload), plan, precision, split, serving, encoding)

    return jax.vmap(one)(plans.tensor, plans.pipeline, plans.data)
