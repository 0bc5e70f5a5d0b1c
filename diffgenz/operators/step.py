"""One iteration of a batch, as one device sees it: what operators are made from.

decode of 64 requests at 2048 tokens, tensor-parallel over 8 ranks:
    Step(sequences=64, queries=1, context=2048, shard=1 / 8, decoding=True)
a prefill of two prompts of 2048 tokens, shared by 4 context-parallel ranks:
    Step(sequences=2, queries=512, context=0, shard=1, shared=Shared(4))
"""

from typing import ClassVar, Self

import equinox as eqx

from diffgenz.core import xp
from diffgenz.core.record import Record, number
from diffgenz.core.smooth import Leaf, Scalar, share_of
from diffgenz.operators.precision import Precision
from diffgenz.operators.routing import StepRouting, Uniform


class Alone(Record):
    """Each sequence is one group's own: there is no context parallelism."""

    ranks: ClassVar[float] = 1.0
    parts: ClassVar[float] = 1.0
    repeated: ClassVar[None] = None

    def in_common(self) -> Self:
        """The same in decode."""
        return self

    def mixed(self, own: Scalar, common: Scalar) -> Self:
        """The same in an iteration of prompt and decoded tokens."""
        return self


class Shared(Record):
    """How the context-parallel ranks of an attention group share the sequences of an iteration.

    Arguments:
        ranks: ranks in the group.
        distinct: new tokens of all ranks together over those of one: 1 in decode, where each
            computes all of them; None: `ranks`, as in prefill.
    """

    ranks: Leaf = number(at_least=1)
    distinct: Leaf | None = number(default=None)

    @property
    def parts(self) -> Scalar:
        """`distinct`, also where it is None."""
        return self.ranks if self.distinct is None else self.distinct

    @property
    def repeated(self) -> Scalar | None:
        """Share of this rank's tokens that every context rank computes as well.

        Decode: 1 (all ranks compute all tokens). Prefill: 0, returned as None so that nothing is
        compiled. Mixed: d / (p + d), for p prompt tokens of its own and d decoded ones in common.
        """
        if self.distinct is None:
            return None
        return (self.ranks - self.distinct) / xp.maximum(self.ranks - 1, 1.0)

    def in_common(self) -> Self:
        """The same in decode: each rank computes all new tokens."""
        return self.replace(distinct=1.0)

    def mixed(self, own: Scalar, common: Scalar) -> Self:
        """The same in an iteration of prompt tokens and decoded ones.

        Arguments:
            own: prompt tokens of each rank, which no other computes.
            common: decoded tokens, which all compute.
        """
        return self.replace(distinct=(own * self.ranks + common) / (own + common))


class Step(Record):
    """One iteration of a batch, as one device sees it.

    Arguments:
        sequences: requests in the (micro-)batch.
        queries: new tokens per request: the prompt in prefill (this rank's part of it), 1 in
            decode.
        context: tokens per request that are in the KV cache already.
        shard: the device's share of every layer's heads and features, 1 / tensor-parallel ranks.
        precision: the formats.
        expert_shard: the device's share of the routed experts, 1 / expert-parallel groups.
        attention_data: groups of ranks with requests of their own, whose tokens meet at the
            experts.
        decoding: whether this is decode, for blocks that compute it in another form (latent
            attention).
        shared: how context-parallel ranks share the sequences, if they do.
        smooth: whether tokens are shared without rounding (`Scenario.smooth_batch`).
        ahead: prompt tokens that a window's cache holds beside the window, since they are computed
            at once; 0 where nobody asks what a cache holds.
        sequence: 1 where tensor-parallel ranks share what is done to each token alone between
            their blocks, 0 where each does all of it; None: 0, and nothing of it is compiled.
        routing: which experts tokens go to.
    """

    sequences: Leaf = number()
    queries: Leaf = number()
    context: Leaf = number()
    shard: Leaf = number()
    precision: Precision
    expert_shard: Leaf = number(default=1.0)
    attention_data: Leaf = number(default=1.0)
    decoding: bool = eqx.field(static=True, default=False)
    shared: Alone | Shared = eqx.field(default_factory=Alone)
    ahead: Leaf | float = number(default=0.0)
    sequence: Leaf | None = number(default=None)
    smooth: bool = eqx.field(static=True, default=False)
    routing: StepRouting = eqx.field(default_factory=Uniform)

    @property
    def tokens(self) -> Scalar:
        """New tokens in the iteration, on this rank."""
        return self.sequences * self.queries

    @property
    def all_queries(self) -> Scalar:
        """New tokens per request on all context-parallel ranks."""
        return self.queries * self.shared.parts

    @property
    def residual_tokens(self) -> Scalar:
        """New tokens of which this rank keeps and normalises the residual stream.

        All of them, or its share, rounded up, in sequence parallelism.
        """
        if self.sequence is None:
            return self.tokens
        share = share_of(self.tokens, self.shard, self.smooth)
        return self.tokens - self.sequence * (self.tokens - share)

    @property
    def reduction_launches(self) -> Scalar | float:
        """Collectives of an all-reduce: 2 (reduce-scatter, all-gather) in sequence parallelism."""
        return 1.0 if self.sequence is None else 1 + self.sequence

    @property
    def groups(self) -> Scalar:
        """Groups of ranks with new tokens of their own, all of which meet at the experts."""
        return self.attention_data * self.shared.parts

    @property
    def rank_groups(self) -> Scalar:
        """Groups of tensor-parallel ranks in a stage: attention_data x context."""
        return self.attention_data * self.shared.ranks

    @property
    def own_tokens(self) -> Scalar:
        """Tokens that this rank dispatches to experts, so that each token is sent once.

        Its tokens divided by the number of ranks that hold the same ones: the tensor ranks, and in
        decode the context ranks.
        """
        return self.tokens * self.shard * (self.shared.parts / self.shared.ranks)
