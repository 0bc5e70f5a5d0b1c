"""Pipeline parallelism: how stages of layers, and the micro-batches in them, make up the time of an iteration.

Both times that matter are sums of the parts of one micro-batch's way through the model, each counted so many times (`Passes`):

    first token of a batch    every part once, then the slowest stage once for each further micro-batch
    between tokens            every part once, or, where that is longer, the slowest stage once for each micro-batch in flight

With one stage there is one micro-batch, and both are every part once.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp

from diffgenz.core.smooth import Scalar, ceil_share, once
from diffgenz.inference.timing.collectives import Link
from diffgenz.scenario.parallelism import Parallelism, Workload


class Parts(eqx.Module):
    """Something of each part of a model: its seconds, or how often it counts.

    Arguments:
        layers: all of them. head: the LM head. rest: the embedding, and the transfers between stages.
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

    def first_pass(self, times: Parts, chunks: Scalar | None = None) -> Parts:
        """How often each part counts until the last micro-batch has left the pipeline, all having entered together.

        Arguments:
            times: of one micro-batch, or of one of its `chunks`, which follow each other through the stages. On a single stage all parts of each
                chunk count; on several the embedding and the transfers hide behind the slowest stage, but for those of the first.
        """
        waits = (self.micro_batches if chunks is None else self.micro_batches * chunks) - 1
        slowest = self._slowest_stage(times)
        rest = jnp.ones(()) if chunks is None else jnp.where(self.widest < 1, 1.0, chunks)
        return Parts(1 + waits * slowest.layers, 1 + waits * slowest.head, rest)

    def steady_state(self, times: Parts) -> Parts:
        """How often each part counts between two tokens of a request, the pipeline being full."""
        way_through = Parts(jnp.ones(()), jnp.ones(()), jnp.ones(()))
        pace = jax.tree.map(lambda share: self.micro_batches * share, self._slowest_stage(times))
        waiting = jax.lax.stop_gradient(times.total(pace) > times.total(way_through))
        return jax.tree.map(lambda slow, own: jnp.where(waiting, slow, own), pace, way_through)

    def _slowest_stage(self, times: Parts) -> Parts:
        """The stage that sets the pace: one with most layers, or the last with the LM head."""
        last = jax.lax.stop_gradient(
            times.layers * self.narrowest + times.head > times.layers * self.widest
        )
        return Parts(
            jnp.where(last, self.narrowest, self.widest), jnp.where(last, 1.0, 0.0), jnp.zeros(())
        )


def hop_time(plan: Parallelism, links: Sequence[Link], volume: Scalar) -> Scalar:
    """Seconds to pass `volume` B over all boundaries between stages, each boundary over the innermost level that spans it.

    Stages are blocks of `plan.stage` neighbours. The boundaries that leave a level of s accelerators are one fewer than such levels in use.
    """
    total = jnp.zeros(())
    leaving_inner = plan.pipeline - 1
    for index, link in enumerate(links):
        levels_in_use = jnp.ceil(jax.lax.stop_gradient(plan.stage * plan.pipeline) / link.size)
        leaving = (
            0.0 if index == len(links) - 1 else jnp.minimum(plan.pipeline - 1, levels_in_use - 1)
        )
        total = total + (leaving_inner - leaving) * link.send(volume)
        leaving_inner = leaving
    return total
