"""Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): keys and values compressed to one latent vector per token."""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from diffgenz.core.checks import check
from diffgenz.core.record import Record
from diffgenz.core.smooth import Leaf, Scalar, as_leaf, ceil_share
from diffgenz.kernels.shapes import LatentDecodeShape, LatentPrefillShape
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.norm import Norm, norm
from diffgenz.operators.compression import with_gear_factors, with_gear_work
from diffgenz.operators.operator import (
    Operator,
    attention_keys,
    attention_over,
    elementwise,
    linear,
    per_head_linear,
    wide_linear,
)
from diffgenz.operators.step import Step


class Indexer(Record):
    """DeepSeek sparse attention (DeepSeek-V3.2): a cheap attention in 8 bit that picks the tokens the real one attends to.

    Arguments:
        heads, head_dim: of the indexer. picked: tokens each query attends to.
    """

    heads: Leaf = eqx.field(converter=as_leaf)
    head_dim: Leaf = eqx.field(converter=as_leaf)
    picked: Leaf = eqx.field(converter=as_leaf)

    def __check_init__(self):
        for field in ("heads", "head_dim", "picked"):
            check(field, getattr(self, field), minimum=1)

    def operators(self, hidden: Scalar, query_rank: Scalar, step: Step) -> tuple[Operator, ...]:
        """Projections of queries, keys and head weights, then one score per context token: every rank computes all of it."""
        precision, tokens, width = step.precision, step.tokens, self.heads * self.head_dim
        per_token = self.head_dim + 4.0  # an 8-bit key and its fp32 scale
        length, keys = (
            step.sequences * (step.context + step.all_queries),
            attention_keys(step, None),
        )
        scores = attention_over(
            step,
            keys,
            self.heads,
            self.head_dim,
            jnp.zeros(()),
            read=length * per_token,
            held=length * per_token,
            name="indexer",
        )
        if (
            step.shared is not None and step.decoding
        ):  # the best of all keys: context-parallel ranks gather their scores, one of fp32 for each key
            scores = dataclasses.replace(scores, merged=None, gathered=step.tokens * keys * 4.0)
        return (
            linear("indexer_projections", tokens, width, query_rank, precision),
            wide_linear(
                "indexer_projections", tokens, self.head_dim + self.heads, hidden, precision
            ),
            elementwise(
                "indexer_norm",
                tokens * width * precision.dtype_size,
                tokens * width,
                parameters=2 * self.head_dim,
                size=precision.dtype_size,
            ),
            scores,
        )


class LatentAttention(Block):
    """norm -> compress -> expand queries -> attention -> output projection -> all-reduce.

    In prefill keys and values are expanded from the latent vectors, and attention is multi-head. In decode the expansion is absorbed into queries and
    outputs, a product per head, and attention is multi-query over the latent vectors themselves: one read for all heads. The cache, one vector of
    latent + rope_dim per token, is replicated over the tensor-parallel ranks, and so are the compressing projections. Context-parallel ranks
    share it; in prefill they gather it, and each expands all of it.

    Arguments:
        heads: of the whole model.
        latent: width of the compressed keys and values (kv_lora_rank).
        nope_dim, rope_dim, value_dim: of each head: queries and keys without and with position, and values.
        query_rank: width of the compressed queries, or None where they are projected directly (V2-Lite).
        indexer: what picks the tokens to attend to, or None for all.
        norm, norms, reduces: as in `Attention`.
    """

    mixes_tokens: ClassVar[bool] = True

    heads: Leaf = eqx.field(converter=as_leaf)
    latent: Leaf = eqx.field(converter=as_leaf)
    nope_dim: Leaf = eqx.field(converter=as_leaf)
    rope_dim: Leaf = eqx.field(converter=as_leaf)
    value_dim: Leaf = eqx.field(converter=as_leaf)
    query_rank: Leaf | None = eqx.field(
        converter=lambda rank: None if rank is None else as_leaf(rank), default=None
    )
    indexer: Indexer | None = None
    norm: Norm = eqx.field(static=True, default=Norm.RMS)
    norms: int = eqx.field(static=True, default=1)
    reduces: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        for field in ("heads", "latent", "nope_dim", "rope_dim", "value_dim"):
            check(field, getattr(self, field), minimum=1)
        if self.query_rank is not None:
            check("query_rank", self.query_rank, minimum=1)

    @property
    def most_shards(self) -> Scalar:
        """One head each."""
        return self.heads

    def operators(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        precision, tokens = step.precision, step.tokens
        heads = ceil_share(self.heads, step.shard)
        query_width = heads * (self.nope_dim + self.rope_dim)
        compressed = self.latent + self.rope_dim
        if self.query_rank is None:
            queries = (
                linear("compress", tokens, compressed, hidden, precision),
                linear("queries", tokens, query_width, hidden, precision),
            )
            normalised = self.latent
        else:
            down = linear("compress", tokens, self.query_rank + compressed, hidden, precision)
            queries = (down, linear("queries", tokens, query_width, self.query_rank, precision))
            normalised = self.latent + self.query_rank
        size = precision.dtype_size
        stored = compressed * precision.cached_size(compressed)
        cached = step.sequences * (step.context + step.all_queries) * stored
        read = tokens * (normalised + heads * self.rope_dim + self.rope_dim) * size
        rotary = elementwise(
            "rotary_and_cache", read, read + tokens * stored, parameters=normalised, size=size
        )
        picking: tuple[Operator, ...] = ()
        if self.indexer is not None:
            picking = self.indexer.operators(
                hidden, self.latent if self.query_rank is None else self.query_rank, step
            )
        core = (
            self._absorbed(heads, cached, step)
            if step.decoding
            else self._expanded(heads, cached, step)
        )
        out = linear("attention_out", tokens, hidden, heads * self.value_dim, precision)
        return (
            norm(self.norm, hidden, step, count=self.norms),
            *queries,
            rotary,
            *picking,
            *core,
            out,
        )

    def _keys(self, step: Step) -> tuple[Scalar, Scalar]:
        """Tokens that a query attends to, and their share of all that it could."""
        keys = attention_keys(step, None)
        if self.indexer is None:
            return keys, jnp.ones(())
        picked = attention_keys(step, self.indexer.picked)
        return picked, picked / keys

    def _expanded(self, heads: Scalar, cached: Scalar, step: Step) -> tuple[Operator, ...]:
        keys, _ = self._keys(step)
        rows = step.sequences * (step.context + step.all_queries)
        expand = linear(
            "expand", rows, heads * (self.nope_dim + self.value_dim), self.latent, step.precision
        )
        query_dim = self.nope_dim + self.rope_dim
        read = rows * heads * (query_dim + self.value_dim) * step.precision.dtype_size
        core = attention_over(
            step, keys, heads, query_dim, self.value_dim, read=read, held=cached, sent=cached
        )
        before = keys - 0.5 * (
            step.queries + 1
        )  # the context of causal attention over as many keys
        shape = LatentPrefillShape(
            step.sequences, step.queries, jnp.maximum(before, 0.0), heads, query_dim, self.value_dim
        )
        core = dataclasses.replace(core, kernel="latent_prefill", shape=shape)
        return expand, with_gear_factors(core, step, jnp.ones(()), self.latent + self.rope_dim)

    def _absorbed(self, heads: Scalar, cached: Scalar, step: Step) -> tuple[Operator, ...]:
        keys, share = self._keys(step)
        precision, width = step.precision, self.latent + self.rope_dim
        core = attention_over(
            step, keys, heads, width, self.latent, read=cached * share, held=cached
        )
        seen = keys if step.shared is None else keys / step.shared.ranks
        shape = LatentDecodeShape(
            step.sequences,
            step.queries,
            seen,
            heads,
            self.latent,
            self.rope_dim,
            precision.cached_size(width),
        )
        core = dataclasses.replace(core, kernel="latent_decode", shape=shape)
        return (
            per_head_linear("absorb", step.tokens, heads, self.latent, self.nope_dim, precision),
            with_gear_work(with_gear_factors(core, step, jnp.ones(()), width), step, width),
            per_head_linear("absorb", step.tokens, heads, self.value_dim, self.latent, precision),
        )
