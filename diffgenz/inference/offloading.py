"""Offloading: what the main memory has no room for is read from slower memory, while the rest computes.

An iteration takes as long as it would with all memory in one, or as the slower memory needs for what the iteration reads of it:

    time = max(own time, share in the tier x B that the iteration touches / tier bandwidth)

The share is that of all that may move (`Memory`). Touched are, of weights, the matrices of all layers, but only the experts that tokens go to
(kernels read host memory in place, as they do in vLLM with unified virtual addressing); of a KV cache, what attention reads and, in prefill, writes:
both directions at once, so that every key and value crosses once. Tiers have paths of their own and work at the same time. Nothing stays behind for
the next micro-batch: each reads its weights anew.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool

from diffgenz.core.smooth import Scalar
from diffgenz.hardware.platform import Accelerator
from diffgenz.inference.iteration import Iteration
from diffgenz.inference.memory import MATRICES, Memory
from diffgenz.inference.timing.pipeline import Parts, Pipeline
from diffgenz.scenario.serving_options import Offload


class Offloading(eqx.Module):
    """Slower memory as iterations see it.

    Arguments:
        what: lives there. per_byte: s of the slowest tier for each B that an iteration touches of it, wherever that lives.
        alone: whether stages are one: only there does the transfer hide behind embedding and LM head too.
    """

    what: Offload = eqx.field(static=True)
    per_byte: Scalar
    alone: Bool[Array, ""]

    @classmethod
    def of(
        cls, what: Offload, memory: Memory, accelerator: Accelerator, pipeline: Pipeline
    ) -> "Offloading":
        """The slower memory of `accelerator`, holding what `memory` says."""
        assert memory.movable is not None
        per_byte = jnp.zeros(())
        for held, tier in zip(memory.offloaded, accelerator.tiers, strict=True):
            per_byte = jnp.maximum(
                per_byte, held / jnp.maximum(memory.movable, 1.0) / tier.bandwidth
            )
        return cls(what, per_byte, pipeline.widest >= 1)

    def slowed(self, times: Parts, iteration: Iteration) -> Parts:
        """`times` of `iteration` with the layers' wait."""
        return Parts(times.layers + self.wait(times, iteration), times.head, times.rest)

    def wait(self, times: Parts, iteration: Iteration) -> Scalar:
        """Seconds by which the layers of `iteration`, which takes `times` of its own, wait for slower memory."""
        if self.what is Offload.WEIGHTS:
            reads = [op.repeats * op.weights for op in iteration.layers if op.kind in MATRICES]
        else:  # prefill writes what it keeps, and reads it where it lies; windows keep less than they read, sparse attention reads less than it keeps
            reads = [op.repeats * jnp.minimum(op.kv_cache, op.cached) for op in iteration.layers]
        touched = sum(reads, start=jnp.zeros(()))
        behind = times.layers + jnp.where(self.alone, times.head + times.rest, 0.0)
        return jnp.maximum(self.per_byte * touched - behind, 0.0)
