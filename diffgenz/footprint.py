"""Memory: what the fullest accelerator holds, summed over the records of the same operators that times come from."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool

from diffgenz.encoding import Encoding
from diffgenz.hardware import Accelerator
from diffgenz.iteration import Iteration
from diffgenz.models.model import Model
from diffgenz.operators import Operator, Step
from diffgenz.pipeline import Pipeline
from diffgenz.smooth import Leaf, Scalar, ceil_share
from diffgenz.workload import Parallelism, Workload


class Memory(eqx.Module):
    """B on the fullest accelerator.

    Arguments:
        weights: of its shard. kv_cache: and states, of all requests in flight at full length. activations: of the largest step.
        total: their sum, and what the runtime reserves. capacity: what the accelerator has.
    """

    weights: Leaf
    kv_cache: Leaf
    activations: Leaf
    total: Leaf
    capacity: Leaf

    @property
    def margin(self) -> Leaf:
        """B left; negative where it does not fit. Smooth, for optimizers."""
        return self.capacity - self.total

    @property
    def fits(self) -> Bool[Array, "..."]:
        """Whether it fits."""
        return self.margin >= 0


def memory_use(
    model: Model,
    accelerator: Accelerator,
    workload: Workload,
    plan: Parallelism,
    pipeline: Pipeline,
    prompt: Step,
    encoding: Encoding | None = None,
) -> Memory:
    """The memory that serving `workload` (image tokens counted as input) takes; `prompt` is the prefill of one micro-batch, `encoding` of its images.

    Weights and KV cache are those of the stage with most layers. Embedding and LM head are both on the only stage, or on the first and the
    last, whichever is larger (tied weights: the same, on both). A vision tower is on the first. Activations: the residual stream and the
    largest operator's inputs and outputs.
    """
    requests = ceil_share(pipeline.requests, 1 / plan.attention_data)
    last = prompt.replace(sequences=requests, queries=1.0, context=workload.input_tokens + workload.output_tokens - 1)
    prefill, decode = Iteration.of(model, prompt), Iteration.of(model, last)
    embedding, head = _stored(decode.embedding), _stored(decode.head)
    if encoding is not None:
        embedding = embedding + _stored(encoding.operators)
    ends = jnp.where(plan.pipeline > 1, jnp.maximum(embedding, head), embedding + head)
    weights = _stored(decode.layers) * pipeline.widest + ends
    kv_cache = sum((op.repeats * op.cached for op in decode.layers), start=jnp.zeros(())) * pipeline.widest
    largest = jnp.zeros(())
    for op in prefill.operators:
        largest = jnp.maximum(largest, op.inputs + op.outputs)
    if encoding is not None:
        for op in encoding.operators:
            largest = jnp.maximum(largest, encoding.passes * (op.inputs + op.outputs))
    activations = prefill.hidden_volume + largest
    total = weights + kv_cache + activations + accelerator.memory_reserve
    return Memory(weights, kv_cache, activations, total, accelerator.memory_capacity)


def _stored(operators: tuple[Operator, ...]) -> Scalar:
    return sum((jnp.asarray(op.repeats * op.parameters * op.parameter_size) for op in operators), start=jnp.zeros(()))
