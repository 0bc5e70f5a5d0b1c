"""Pipeline parallelism: how stages of layers, and the micro-batches in them, make up a time.

A micro-batch passes through the parts of the model. Both times that matter are sums over these
parts, each counted a number of times (`Passes`):

    first token of a batch    every part once, then the slowest stage once for each further
                              micro-batch
    between tokens            every part once, or the slowest stage once for each micro-batch in
                              flight, where that is longer

With one stage there is one micro-batch, and in both times every part counts once.
"""

from abc import abstractmethod

import jax

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar, ceil_share, once, share_of
from diffgenz.core.tree import Tree
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.workload import Workload


class Parts(Tree):
    """One number for each part of a model: its seconds, or how often it counts.

    Arguments:
        layers: the number of all layers together.
        head: that of the LM head.
        rest: that of the embedding and the transfers between stages.
    """

    layers: Scalar
    head: Scalar
    rest: Scalar

    def total(self, passes: "Parts") -> Scalar:
        """The sum of the parts, each counted as often as `passes` says."""
        return self.layers * passes.layers + self.head * passes.head + self.rest * passes.rest


class Pipeline(Tree):
    """The split of one replica's requests and layers over its stages.

    Arguments:
        requests: requests of the fullest replica.
        micro_batch: requests that move through the stages together: requests / stages, rounded up.
        micro_batches: micro-batches in flight, at most one per stage.
        widest: share of the layers on the stages that have most of them, in (0, 1].
        narrowest: share of the layers on the last stage, which has the LM head too and is given the
            fewest, in [0, 1].
    """

    requests: Scalar
    micro_batch: Scalar
    micro_batches: Scalar
    widest: Scalar
    narrowest: Scalar

    @classmethod
    def of(
        cls, workload: Workload, plan: Parallelism, layers: Scalar, smooth: bool = False
    ) -> "Pipeline":
        """The pipeline of a plan.

        Arguments:
            workload: whose batch is split.
            plan: the number of stages and of replicas.
            layers: layers of the model.
            smooth: whether requests are shared without rounding (`Scenario.smooth_batch`).
        """
        per_stage, per_layer = 1 / plan.pipeline, 1 / layers
        requests = share_of(workload.batch, 1 / plan.data, smooth)
        micro_batch = once(share_of(requests, per_stage, smooth), per_stage)
        micro_batches = requests / micro_batch
        if not smooth:
            micro_batches = xp.stop_gradient(xp.ceil(micro_batches))
        return cls(
            requests,
            micro_batch,
            micro_batches,
            widest=ceil_share(layers, per_stage) * per_layer,
            narrowest=xp.floor(layers * per_stage * (1 + 4e-7)) * per_layer,
        )

    def slowest_stage(self, times: Parts) -> Parts:
        """The parts of the stage that sets the pace, as the share of each part that it has.

        It is a stage with most layers, or the last stage with the LM head.

        Arguments:
            times: s of each part of an iteration.
        """
        last = xp.stop_gradient(
            times.layers * self.narrowest + times.head > times.layers * self.widest
        )
        return Parts(
            xp.where(last, self.narrowest, self.widest), xp.where(last, 1.0, 0.0), xp.zeros(())
        )


class Passes(Tree):
    """How often each part of an iteration counts in a time."""

    @abstractmethod
    def of(self, times: Parts) -> Parts:
        """How often each part counts.

        Arguments:
            times: s of each part of the iteration.
        """


class Every(Passes):
    """Every part counts equally often.

    Arguments:
        count: how often.
    """

    count: Scalar

    def of(self, times: Parts) -> Parts:
        return Parts(self.count, self.count, self.count)


class UntilFirst(Passes):
    """The time until the last micro-batch has left the pipeline, where all enter together.

    Chunks follow each other through the stages. On a single stage all parts of each chunk count. On
    several stages the embedding and the transfers of the first chunk count, and those of all others
    hide behind the slowest stage.

    Arguments:
        pipeline: the stages.
        chunks: iterations of each micro-batch, at least 1; None: one.
    """

    pipeline: Pipeline
    chunks: Scalar | None = None

    def of(self, times: Parts) -> Parts:
        flight, chunks = self.pipeline.micro_batches, self.chunks
        waits = (flight if chunks is None else flight * chunks) - 1
        slowest = self.pipeline.slowest_stage(times)
        rest = xp.ones(())
        if chunks is not None:
            several = self.pipeline.widest < 0.9  # 2/3 at most; of one stage 1, but for rounding
            rest = xp.where(several, 1.0, chunks)
        return Parts(1 + waits * slowest.layers, 1 + waits * slowest.head, rest)


class PerToken(Passes):
    """The time between two tokens of a request, with a full pipeline.

    Arguments:
        pipeline: the stages.
        tokens: tokens that each sequence gains in an iteration; None: one.
    """

    pipeline: Pipeline
    tokens: Scalar | None = None

    def of(self, times: Parts) -> Parts:
        way_through = Parts(xp.ones(()), xp.ones(()), xp.ones(()))
        flight = self.pipeline.micro_batches
        pace = jax.tree.map(lambda share: flight * share, self.pipeline.slowest_stage(times))
        waiting = xp.stop_gradient(times.total(pace) > times.total(way_through))
        passes = jax.tree.map(lambda slow, own: xp.where(waiting, slow, own), pace, way_through)
        if self.tokens is None:
            return passes
        return jax.tree.map(lambda count: count / self.tokens, passes)
