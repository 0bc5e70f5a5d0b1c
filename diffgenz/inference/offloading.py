"""Offloading: weights or KV cache that main memory has no room for are read from slower memory.

An iteration takes as long as it would with all memory in one, or as long as the slower memory needs
for what the iteration reads of it, where that is longer:

    time = max(own time, share in the tier x B that the iteration reads / tier bandwidth)

The share is that of everything that may move (`Memory`). Of weights, an iteration reads the
matrices of all layers, and of experts only those that tokens go to: kernels read host memory in
place, as they do in vLLM with unified virtual addressing. Of a KV cache it reads what attention
reads and, in prefill, writes. Both directions work at once, so that every key and value crosses
once. Tiers have paths of their own and work at the same time. Nothing stays behind for the next
micro-batch, so that each micro-batch reads its weights anew.
"""

import equinox as eqx

from diffgenz.core import xp
from diffgenz.core.smooth import Flag, Scalar, smooth_max
from diffgenz.core.tree import Tree
from diffgenz.hardware.accelerator import Accelerator
from diffgenz.inference.iteration import Iteration
from diffgenz.inference.memory import MATRICES, Memory
from diffgenz.inference.timing.pipeline import Parts, Pipeline
from diffgenz.scenario.serving_options import Offload


class Resident(Tree):
    """The case in which no iteration waits for slower memory, since all is in the main memory."""

    def wait(self, times: Parts, iteration: Iteration, sharpness: float) -> Scalar:
        """Zero seconds."""
        return xp.zeros(())


class Offloading(Tree):
    """Slower memory as iterations see it.

    Arguments:
        what: weights or KV cache.
        per_byte: s per byte of `what` that an iteration reads: the share of `what` in the slowest
            tier / that tier's bandwidth; tiers are read at the same time.
        alone: True with one pipeline stage, where the transfer also hides behind embedding and LM
            head.
    """

    what: Offload = eqx.field(static=True)
    per_byte: Scalar
    alone: Flag

    @classmethod
    def of(
        cls, what: Offload, memory: Memory, accelerator: Accelerator, pipeline: Pipeline
    ) -> "Offloading":
        """The slower memory of `accelerator`, holding what `memory` says."""
        assert memory.movable is not None
        per_byte = xp.zeros(())
        for held, tier in zip(memory.offloaded, accelerator.tiers, strict=True):
            share = held / xp.maximum(memory.movable, 1.0)
            per_byte = xp.maximum(per_byte, share / tier.bandwidth)
        return cls(what, per_byte, pipeline.widest >= 1)

    def wait(self, times: Parts, iteration: Iteration, sharpness: float) -> Scalar:
        """Seconds by which the layers of an iteration wait for slower memory.

        Arguments:
            times: s of each part of the iteration without slower memory.
            iteration: the iteration.
            sharpness: of the maximum of both times.
        """
        if self.what is Offload.WEIGHTS:
            reads = [op.repeats * op.weights for op in iteration.layers if op.kind in MATRICES]
        else:
            # Prefill writes what it keeps, and reads it where it lies. Windows keep less than they
            # read, and sparse attention reads less than it keeps.
            reads = [op.repeats * xp.minimum(op.kv_cache, op.cached) for op in iteration.layers]
        reading = self.per_byte * sum(reads, start=xp.zeros(()))
        behind = times.layers + xp.where(self.alone, times.head + times.rest, 0.0)
        return xp.maximum(smooth_max(reading, behind, sharpness) - behind, 0.0)
