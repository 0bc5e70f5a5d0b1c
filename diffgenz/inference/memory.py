"""Memory of the fullest accelerator, summed over the same operators that times come from."""

import dataclasses
from collections.abc import Mapping, Sequence

from diffgenz.core import xp
from diffgenz.core.reprs import text_of, text_of_record
from diffgenz.core.smooth import Flag, Leaf, Scalar
from diffgenz.core.tree import Tree
from diffgenz.hardware.accelerator import MemoryTier
from diffgenz.inference.iteration import Iteration
from diffgenz.inference.padded_experts import Tile, padded_by
from diffgenz.inference.served import Served
from diffgenz.inference.timing.pipeline import Pipeline
from diffgenz.operators.message import AllGather, Axis
from diffgenz.operators.operator import Kind, Operator
from diffgenz.scenario.scenario import Scenario
from diffgenz.scenario.serving_options import MTP, Offload

MATRICES = (Kind.LINEAR, Kind.WIDE)
"""Operators whose weights may be offloaded; norms and convolutions are too small to be worth it."""


class Memory(Tree):
    """B on the fullest accelerator.

    Arguments:
        weights: B of the weights of its shard.
        kv_cache: B of KV cache and states of all requests in flight, at full length.
        activations: B of activations of the largest iteration.
        total: the sum of these three, and what the runtime reserves.
        capacity: B of the main memory that the server may use (`Serving.memory_utilization`).
        movable: the part of `total` that may live in slower memory; None where nothing may.
        room: B that slower memory can hold, all tiers together; None where nothing may move there.
        offloaded: B that live in each tier, nearest first, since the main memory is full.
        draft: the memory of an accelerator of the draft model, where that has accelerators of its
            own.
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

    def __repr__(self) -> str:
        shown = dataclasses.replace(self, movable=None, room=None)
        units = dict.fromkeys((field.name for field in dataclasses.fields(self)), "B")
        return text_of_record(shown, units, (f"fits={text_of(self.fits)}",))

    @property
    def margin(self) -> Leaf:
        """B that are left, in slower memory too where something may move there.

        It is negative where the scenario does not fit, and continuous, for optimizers.
        """
        left = self.capacity - self.total
        if self.movable is None or self.room is None:
            return left
        return left + xp.minimum(self.movable, self.room)

    @property
    def fits(self) -> Flag:
        """Whether the scenario fits, and the draft model too on accelerators of its own."""
        own = self.margin >= 0
        return own if self.draft is None else own & self.draft.fits


def memory_of(
    case: Scenario,
    pipeline: Pipeline,
    served: Served,
    tower: tuple[Iteration, Scalar] | None,
    draft: tuple[Scenario, Served] | None,
    tiles: tuple[Mapping[str, Tile], Mapping[str, Tile]],
) -> Memory:
    """The memory that a scenario takes on its fullest accelerator.

    Weights and KV cache are those of the stage with most layers. A single stage has both embedding
    and LM head. With several stages the first has the embedding and the last the LM head, and the
    larger of the two counts (tied weights are on both). A vision tower is on the first stage.
    Experts are padded as engines keep them (`padded_experts`).

    Activations are those of the largest iteration: the residual stream, the inputs and outputs of
    the largest operator, and what that operator gathers from context-parallel ranks.

    A draft model adds its weights and KV cache. So does the model's own module; it is on the last
    stage, which then has the embedding as well as the head.

    Arguments:
        case: the scenario, whose images are part of the prompt.
        pipeline: the pipeline of its plan.
        served: its micro-batches.
        tower: the iteration of a vision tower, and the share of it that the images fill, at most
            1; None where there is no tower.
        draft: the scenario of what drafts, and its requests; None where nothing drafts.
        tiles: what experts are padded to, the model's and those of what drafts.
    """
    accelerator, serving, plan = case.platform.accelerator, case.serving, case.plan
    layers = served.decode.layers
    embedding, head = _stored(served.decode.embedding), _stored(served.decode.head)
    activations = _held(served.prefill)
    if serving.widens_decode:
        for iteration in served.widest[1:]:
            activations = xp.maximum(activations, _held(iteration))
    if tower is not None:
        iteration, filled = tower
        embedding = embedding + _stored(iteration.operators)
        activations = xp.maximum(activations, filled * _held(iteration))
    ends = xp.where(plan.pipeline > 1, xp.maximum(embedding, head), embedding + head)
    if isinstance(serving.draft, MTP):
        ends = embedding + head
    weights = _stored(layers, tiles[0]) * pipeline.widest + ends
    kv_cache = own_cache = served.cache * pipeline.widest
    apart = None
    if draft is not None:
        its_case, its = draft
        its_weights = _stored(its.decode.operators, tiles[1])
        if case.serving.draft_platform is not None:
            home = its_case.platform.accelerator
            held = _held(its.prefill)
            total = its_weights + its.cache + held + home.memory_reserve
            usable = serving.memory_utilization * home.memory_capacity
            apart = Memory(its_weights, its.cache, held, total, usable)
        else:
            weights, kv_cache = weights + its_weights, kv_cache + its.cache
    total = weights + kv_cache + activations + accelerator.memory_reserve
    movable = None
    if serving.offload is Offload.KV_CACHE:
        movable = own_cache
    elif serving.offload is Offload.WEIGHTS:
        matrices = [op for op in layers if op.kind in MATRICES]
        movable = _stored(matrices, tiles[0]) * pipeline.widest
    usable = serving.memory_utilization * accelerator.memory_capacity
    memory = Memory(weights, kv_cache, activations, total, usable, draft=apart)
    return memory if movable is None else _offloaded(memory, movable, accelerator.tiers)


def _offloaded(memory: Memory, movable: Scalar, tiers: tuple[MemoryTier, ...]) -> Memory:
    """`memory` with what does not fit, up to `movable` B of it, in the nearest tiers with room."""
    left = xp.minimum(xp.maximum(memory.total - memory.capacity, 0.0), movable)
    held = []
    for tier in tiers:
        held.append(xp.minimum(left, tier.capacity))
        left = left - held[-1]
    room = sum((tier.capacity for tier in tiers), start=xp.zeros(()))
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
    largest = xp.zeros(())
    for op in iteration.operators:
        gathered = [
            message.volume
            for message in op.messages
            if isinstance(message, AllGather) and message.over is Axis.CONTEXT
        ]
        held = sum(gathered, start=op.inputs + op.outputs)
        largest = xp.maximum(largest, held)
    return iteration.residual + largest


def _stored(operators: Sequence[Operator], tiles: Mapping[str, Tile] | None = None) -> Scalar:
    """B of weights, those of experts padded to `tiles`."""
    total = xp.zeros(())
    for op in operators:
        stored = op.repeats * op.parameters * op.parameter_size
        total = total + xp.asarray(stored * padded_by(op, tiles or {}))
    return total
