"""Memory: what the fullest accelerator holds, summed over the operators that times come from."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool

from diffgenz.core.smooth import Leaf, Scalar
from diffgenz.hardware.accelerator import MemoryTier
from diffgenz.inference.iteration import Iteration
from diffgenz.inference.served import Served
from diffgenz.inference.timing.pipeline import Pipeline
from diffgenz.operators.message import AllGather, Axis
from diffgenz.operators.operator import Kind, Operator
from diffgenz.scenario.scenario import Scenario
from diffgenz.scenario.serving_options import MTP, Offload

MATRICES = (Kind.LINEAR, Kind.WIDE)
"""Operators whose weights may be offloaded; norms and convolutions are too small to be worth it."""


class Memory(eqx.Module):
    """B on the fullest accelerator.

    Arguments:
        weights: of its shard.
        kv_cache: KV cache and states of all requests in flight, at full length.
        activations: of the largest iteration.
        total: their sum, and what the runtime reserves.
        capacity: of the main memory.
        movable: the part of the total that may live in slower memory; None where nothing may.
        room: what slower memory holds, all tiers together; None where nothing may move there.
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
        """B left, in slower memory too if something may move there; negative where it does not fit.

        Smooth, for optimizers.
        """
        left = self.capacity - self.total
        if self.movable is None or self.room is None:
            return left
        return left + jnp.minimum(self.movable, self.room)

    @property
    def fits(self) -> Bool[Array, "..."]:
        """Whether it fits, and the draft model too where it has accelerators of its own."""
        own = self.margin >= 0
        return own if self.draft is None else own & self.draft.fits


def memory_of(
    case: Scenario,
    pipeline: Pipeline,
    served: Served,
    tower: tuple[Iteration, Scalar] | None,
    draft: tuple[Scenario, Served] | None,
) -> Memory:
    """The memory that a scenario takes on its fullest accelerator.

    Weights and KV cache are those of the stage with most layers. Embedding and LM head are both on
    the only stage, or on the first and the last, of which the larger counts (tied weights: the
    same, on both). A vision tower is on the first. Activations: the residual stream, the largest
    operator's inputs and outputs, and what it gathers from context-parallel ranks, of the largest
    iteration. A draft model adds its weights and KV cache; the model's own module too, on the last
    stage, which then has the embedding as well as the head.

    Arguments:
        case: the scenario, its images part of the prompt.
        pipeline: of its plan.
        served: its micro-batches.
        tower: the iteration of a vision tower, and the share of it that the images fill, at most
            1; None where there is none.
        draft: the scenario of what drafts, and its requests; None where nothing does.
    """
    accelerator, serving, plan = case.platform.accelerator, case.serving, case.plan
    layers = served.decode.layers
    embedding, head = _stored(served.decode.embedding), _stored(served.decode.head)
    activations = _held(served.prefill)
    if serving.widens_decode:
        for iteration in served.widest[1:]:
            activations = jnp.maximum(activations, _held(iteration))
    if tower is not None:
        iteration, filled = tower
        embedding = embedding + _stored(iteration.operators)
        activations = jnp.maximum(activations, filled * _held(iteration))
    ends = jnp.where(plan.pipeline > 1, jnp.maximum(embedding, head), embedding + head)
    if isinstance(serving.draft, MTP):
        ends = embedding + head
    weights = _stored(layers) * pipeline.widest + ends
    kv_cache = own_cache = served.cache * pipeline.widest
    apart = None
    if draft is not None:
        its_case, its = draft
        its_weights = _stored(its.decode.operators)
        if case.serving.draft_platform is not None:
            home = its_case.platform.accelerator
            held = _held(its.prefill)
            total = its_weights + its.cache + held + home.memory_reserve
            apart = Memory(its_weights, its.cache, held, total, home.memory_capacity)
        else:
            weights, kv_cache = weights + its_weights, kv_cache + its.cache
    total = weights + kv_cache + activations + accelerator.memory_reserve
    movable = None
    if serving.offload is Offload.KV_CACHE:
        movable = own_cache
    elif serving.offload is Offload.WEIGHTS:
        matrices = [op for op in layers if op.kind in MATRICES]
        movable = _stored(matrices) * pipeline.widest
    memory = Memory(weights, kv_cache, activations, total, accelerator.memory_capacity, draft=apart)
    return memory if movable is None else _offloaded(memory, movable, accelerator.tiers)


def _offloaded(memory: Memory, movable: Scalar, tiers: tuple[MemoryTier, ...]) -> Memory:
    """`memory` with what it has no room for, if `movable`, in the nearest tier that has."""
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
        memory.draft,
    )


def _held(iteration: Iteration) -> Scalar:
    """B of activations: the residual stream, and the largest operator with what it gathers."""
    largest = jnp.zeros(())
    for op in iteration.operators:
        gathered = [
            message.volume
            for message in op.messages
            if isinstance(message, AllGather) and message.over is Axis.CONTEXT
        ]
        held = sum(gathered, start=op.inputs + op.outputs)
        largest = jnp.maximum(largest, held)
    return iteration.residual + largest


def _stored(operators: Sequence[Operator]) -> Scalar:
    return sum(
        (jnp.asarray(op.repeats * op.parameters * op.parameter_size) for op in operators),
        start=jnp.zeros(()),
    )
