"""Pipeline parallelism: how stages of layers, and the micro-batches in them, make up a time.

Both times that matter are sums of the parts of one micro-batch's way through the model, each
counted so many times (`Passes`):

    first token of a batch    every part once, then the slowest stage once for each further
                              micro-batch
    between tokens            every part once, or, where that is longer, the slowest stage once for
                              each micro-batch in flight

With one stage there is one micro-batch, and both are every part once.
"""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp

from diffgenz.core.smooth import Scalar, ceil_share, once
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.workload import Workload


class Parts(eqx.Module):
    """One number for each part of a model: its seconds, or how often it counts.

    Arguments:
        layers: of all layers.
        head: of the LM head.
        rest: of the embedding and the transfers between stages.
    """

    layers: Scalar
    head: Scalar
    rest: Scalar

    def total(self, passes: "Parts") -> Scalar:
        """The sum of the parts, each counted `passes` times."""
        return self.layers * passes.layers + self.head * passes.head + self.rest * passes.rest


class Pipeline(eqx.Module):
    """The split of one replica's requests and layers over its stages.

    Arguments:
        requests: of the fullest replica.
        micro_batch: requests that move through the stages together: requests / stages, rounded up.
        micro_batches: in flight, at most one per stage.
        widest: share of the layers on the stages that have most.
        narrowest: share on the last stage, which has the LM head too and is given the fewest.
    """

    requests: Scalar
    micro_batch: Scalar
    micro_batches: Scalar
    widest: Scalar
    narrowest: Scalar

    @classmethod
    def of(cls, workload: Workload, plan: Parallelism, layers: Scalar) -> "Pipeline":
        """The pipeline of `plan` for a model of `layers` layers."""
        per_stage, per_layer = 1 / plan.pipeline, 1 / layers
        requests = ceil_share(workload.batch, 1 / plan.data)
        micro_batch = once(ceil_share(requests, per_stage), per_stage)
        return cls(
            requests,
            micro_batch,
            jax.lax.stop_gradient(jnp.ceil(requests / micro_batch)),
            widest=ceil_share(layers, per_stage) * per_layer,
            narrowest=jnp.floor(layers * per_stage * (1 + 4e-7)) * per_layer,
        )

    def slowest_stage(self, times: Parts) -> Parts:
        """The stage that sets the pace: one with most layers, or the last with the LM head."""
        last = jax.lax.stop_gradient(
            times.layers * self.narrowest + times.head > times.layers * self.widest
        )
        return Parts(
            jnp.where(last, self.narrowest, self.widest), jnp.where(last, 1.0, 0.0), jnp.zeros(())
        )


class Passes(eqx.Module):
    """How often each part of an iteration counts in a time."""

    @abstractmethod
    def of(self, times: Parts) -> Parts:
        """How often each part counts, an iteration taking `times`."""


class Every(Passes):
    """Every part, so many times.

    Arguments:
        count: how many.
    """

    count: Scalar

    def of(self, times: Parts) -> Parts:
        return Parts(self.count, self.count, self.count)


class UntilFirst(Passes):
    """Until the last micro-batch has left the pipeline, all having entered together.

    Chunks follow each other through the stages. On a single stage all parts of each chunk count;
    on several the embedding and the transfers hide behind the slowest stage, except those of the
    first chunk.

    Arguments:
        pipeline: the stages.
        chunks: iterations of each micro-batch; None: one.
    """

    pipeline: Pipeline
    chunks: Scalar | None = None

    def of(self, times: Parts) -> Parts:
        flight, chunks = self.pipeline.micro_batches, self.chunks
        waits = (flight if chunks is None else flight * chunks) - 1
        slowest = self.pipeline.slowest_stage(times)
        rest = jnp.ones(())
        if chunks is not None:
            rest = jnp.where(self.pipeline.widest < 1, 1.0, chunks)
        return Parts(1 + waits * slowest.layers, 1 + waits * slowest.head, rest)


class PerToken(Passes):
    """Between two tokens of a request, the pipeline being full.

    Arguments:
        pipeline: the stages.
        tokens: tokens of a sequence in each iteration; None: one.
    """

    pipeline: Pipeline
    tokens: Scalar | None = None

    def of(self, times: Parts) -> Parts:
        way_through = Parts(jnp.ones(()), jnp.ones(()), jnp.ones(()))
        flight = self.pipeline.micro_batches
        pace = jax.tree.map(lambda share: flight * share, self.pipeline.slowest_stage(times))
        waiting = jax.lax.stop_gradient(times.total(pace) > times.total(way_through))
        passes = jax.tree.map(lambda slow, own: jnp.where(waiting, slow, own), pace, way_through)
        if self.tokens is None:
            return passes
        return jax.tree.map(lambda count: count / self.tokens, passes)
