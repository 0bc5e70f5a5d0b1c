"""One iteration of a batch, as one device sees it: what operators are made from."""

import equinox as eqx
import jax.numpy as jnp

from diffgenz.core.record import Record
from diffgenz.core.smooth import Leaf, Scalar, as_leaf, ceil_share
from diffgenz.operators.precision import Precision


class ContextShare(Record):
    """How the context-parallel ranks of an attention group share the sequences of an iteration.

    Arguments:
        ranks: in the group.
        distinct: new tokens of all ranks over those of one: 1 in decode, where each computes all of them; None: `ranks`, as in prefill.
    """

    ranks: Leaf = eqx.field(converter=as_leaf)
    distinct: Leaf | None = eqx.field(
        converter=lambda distinct: None if distinct is None else as_leaf(distinct), default=None
    )

    @property
    def parts(self) -> Scalar:
        """`distinct`, whatever the phase."""
        return self.ranks if self.distinct is None else self.distinct

    @property
    def repeated(self) -> Scalar | None:
        """The share of a rank's tokens that the others compute too, None where there is none: d / (p + d) of p own and d common ones."""
        return (
            None
            if self.distinct is None
            else (self.ranks - self.distinct) / jnp.maximum(self.ranks - 1, 1.0)
        )


class Step(Record):
    """One iteration of a batch, as one device sees it.

    Arguments:
        sequences: requests in the (micro-)batch.
        queries: new tokens per request: the prompt in prefill (this rank's part of it), 1 in decode.
        context: tokens per request already in the KV cache.
        shard: the device's share of every layer's heads and features, 1 / tensor-parallel ranks.
        precision: the formats.
        expert_shard: the device's share of the routed experts, 1 / expert-parallel groups.
        attention_data: groups of ranks with requests of their own, such as these, whose tokens meet at the experts.
        decoding: whether this is decode, for blocks that compute it in another form (latent attention).
        shared: how context-parallel ranks share the sequences; None: they do not.
        sequence: 1 where tensor-parallel ranks share what is done to each token alone between their blocks, else 0; None: 0.
    """

    sequences: Leaf = eqx.field(converter=as_leaf)
    queries: Leaf = eqx.field(converter=as_leaf)
    context: Leaf = eqx.field(converter=as_leaf)
    shard: Leaf = eqx.field(converter=as_leaf)
    precision: Precision
    expert_shard: Leaf = eqx.field(converter=as_leaf, default=1.0)
    attention_data: Leaf = eqx.field(converter=as_leaf, default=1.0)
    decoding: bool = eqx.field(static=True, default=False)
    shared: ContextShare | None = None
    sequence: Leaf | None = None

    @property
    def tokens(self) -> Scalar:
        """New tokens in the iteration."""
        return self.sequences * self.queries

    @property
    def all_queries(self) -> Scalar:
        """New tokens per request on all context-parallel ranks."""
        return self.queries if self.shared is None else self.queries * self.shared.parts

    @property
    def residual_tokens(self) -> Scalar:
        """New tokens that this rank normalises and keeps the residual stream of: all, or its share, rounded up."""
        return (
            self.tokens
            if self.sequence is None
            else self.tokens - self.sequence * (self.tokens - ceil_share(self.tokens, self.shard))
        )

    @property
    def groups(self) -> Scalar:
        """New tokens that meet at the experts over those of this rank: the groups of ranks with tokens of their own."""
        return (
            self.attention_data if self.shared is None else self.attention_data * self.shared.parts
        )

    @property
    def own_tokens(self) -> Scalar:
        """New tokens over all ranks that see them too: what this one sends to experts."""
        own = self.tokens * self.shard
        return own if self.shared is None else own * (self.shared.parts / self.shared.ranks)
