"""Memory: what the fullest accelerator holds, summed over the records of the same operators that times come from."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool

from diffgenz.core.smooth import Leaf, Scalar, ceil_share
from diffgenz.hardware.platform import Accelerator, MemoryTier
from diffgenz.inference.drafting import Drafter
from diffgenz.inference.encoding import Encoding
from diffgenz.inference.iteration import Iteration, prefill_step
from diffgenz.inference.prefill_decode import (
    chunk_count,
    decode_iteration,
    decode_layers,
    decode_step,
    mixed_iteration,
    prefill_iteration,
    prompt_step,
)
from diffgenz.inference.timing.pipeline import Pipeline
from diffgenz.models.model import Model
from diffgenz.operators.operator import Kind, Operator
from diffgenz.operators.precision import Precision
from diffgenz.operators.step import Step
from diffgenz.scenario.parallelism import Parallelism, Workload
from diffgenz.scenario.serving_options import MTP, Offload, Serving

MATRICES = (Kind.LINEAR, Kind.WIDE)
"""Operators whose weights may be offloaded; norms and convolutions are too small to be worth it."""


class Memory(eqx.Module):
    """B on the fullest accelerator.

    Arguments:
        weights: of its shard. kv_cache: and states, of all requests in flight at full length. activations: of the largest step.
        total: their sum, and what the runtime reserves. capacity: of the main memory.
        movable: the part of the total that may live in slower memory; None where nothing may. room: what slower memory holds, all tiers together.
        offloaded: what lives in each tier, nearest first, since the main memory is full.
        draft: on an accelerator of the draft model, where it has its own.
    """

    weights: Leaf
    kv_cache: Leaf
    activations: Leaf
    total: Leaf
    capacity: Leaf
    movable: Leaf | None = None
    room: Leaf | None = None
    offloaded: tuple[Leaf, ...] = ()
    draft: "Memory | None" = None

    @property
    def margin(self) -> Leaf:
        """B left, in slower memory too if something may move there; negative where it does not fit. Smooth, for optimizers."""
        left = self.capacity - self.total
        return (
            left
            if self.movable is None or self.room is None
            else left + jnp.minimum(self.movable, self.room)
        )

    @property
    def fits(self) -> Bool[Array, "..."]:
        """Whether it fits, and the draft model too where it has accelerators of its own."""
        return self.margin >= 0 if self.draft is None else (self.margin >= 0) & self.draft.fits


def memory_use(
    model: Model,
    accelerator: Accelerator,
    workload: Workload,
    plan: Parallelism,
    precision: Precision,
    pipeline: Pipeline,
    serving: Serving | None = None,
    encoding: Encoding | None = None,
) -> Memory:
    """The memory that serving `workload` (image tokens counted as input) takes; `encoding` is that of its images.

    Weights and KV cache are those of the stage with most layers. Embedding and LM head are both on the only stage, or on the first and the
    last, whichever is larger (tied weights: the same, on both). A vision tower is on the first. Activations: the residual stream and the
    largest operator's inputs and outputs, with what it gathers from context-parallel ranks, of the largest iteration. A draft model adds its
    weights and KV cache; the model's own module too, on the last stage, which then has the embedding as well as the head.
    """
    requests = ceil_share(pipeline.requests, 1 / plan.attention_data)
    prompt = prompt_step(workload, plan, precision, pipeline.micro_batch, serving)
    full = prompt.replace(sequences=requests)
    last = decode_step(full, workload.input_tokens + workload.output_tokens - 1, serving)
    decode = Iteration.of(model, last)
    embedding, head = _stored(decode.embedding), _stored(decode.head)
    if encoding is not None:
        embedding = embedding + _stored(encoding.operators)
    ends = jnp.where(plan.pipeline > 1, jnp.maximum(embedding, head), embedding + head)
    if serving is not None and isinstance(serving.draft, MTP):
        ends = embedding + head
    weights = _stored(decode.layers) * pipeline.widest + ends
    kv_cache = own_cache = _cached(decode_layers(model, last, workload, serving)) * pipeline.widest
    activations = _activations(model, workload, prompt, serving)
    if encoding is not None:
        for op in encoding.operators:
            activations = jnp.maximum(activations, encoding.passes * (op.inputs + op.outputs))
    draft = None
    drafter = Drafter.of(serving, model, plan, precision, pipeline.requests)
    if drafter is not None:
        proposing = prefill_step(workload, drafter.plan, drafter.precision, drafter.requests)
        last = decode_step(proposing, workload.input_tokens + workload.output_tokens - 1, serving)
        its_weights = _stored(Iteration.of(drafter.model, last).operators)
        its_cache = _cached(decode_layers(drafter.model, last, workload, serving))
        if drafter.platform is None:
            weights, kv_cache = weights + its_weights, kv_cache + its_cache
        else:
            home = drafter.platform.accelerator
            held = _held(
                Iteration.of(
                    drafter.model,
                    prompt_step(
                        workload, drafter.plan, drafter.precision, drafter.requests, serving
                    ),
                )
            )
            sum_of_parts = its_weights + its_cache + held + home.memory_reserve
            draft = Memory(its_weights, its_cache, held, sum_of_parts, home.memory_capacity)
    total = weights + kv_cache + activations + accelerator.memory_reserve
    memory = Memory(weights, kv_cache, activations, total, accelerator.memory_capacity, draft=draft)
    if serving is None or serving.offload is None:
        return memory
    matrices = tuple(op for op in decode.layers if op.kind in MATRICES)
    return _offloaded(
        memory,
        own_cache if serving.offload is Offload.KV_CACHE else _stored(matrices) * pipeline.widest,
        accelerator.tiers,
    )


def _offloaded(memory: Memory, movable: Scalar, tiers: tuple[MemoryTier, ...]) -> Memory:
    """`memory` with what it has no room for, as far as it is `movable`, in the nearest tier that has."""
    left = jnp.minimum(jnp.maximum(memory.total - memory.capacity, 0.0), movable)
    held = []
    for tier in tiers:
        held.append(jnp.minimum(left, tier.capacity))
        left = left - held[-1]
    room = sum((tier.capacity for tier in tiers), start=jnp.zeros(()))
    return Memory(
        memory.weights,
        memory.kv_cache,
        memory.activations,
        memory.total,
        memory.capacity,
        movable,
        room,
        tuple(held),
    )


def _activations(model: Model, workload: Workload, prompt: Step, serving: Serving | None) -> Scalar:
    chunks = chunk_count(prompt, serving)
    prefill = prefill_iteration(model, prompt, chunks)
    if serving is None:
        return _held(prefill)
    decode = decode_iteration(model, prompt, workload, serving)
    return jnp.maximum(
        _held(prefill),
        _held(decode if chunks is None else mixed_iteration(model, prompt, prefill, decode)),
    )


def _held(iteration: Iteration) -> Scalar:
    largest = jnp.zeros(())
    for op in iteration.operators:
        held = op.inputs + op.outputs
        largest = jnp.maximum(largest, held if op.gathered is None else held + op.gathered)
    return iteration.residual_volume + largest


def _cached(layers: tuple[Operator, ...]) -> Scalar:
    return sum((jnp.asarray(op.repeats * op.cached) for op in layers), start=jnp.zeros(()))


def _stored(operators: tuple[Operator, ...]) -> Scalar:
    return sum(
        (jnp.asarray(op.repeats * op.parameters * op.parameter_size) for op in operators),
        start=jnp.zeros(()),
    )
