"""Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): one compressed vector per token.

In prefill, keys and values are expanded from the latent vectors, and attention is multi-head. In
decode, the expansion is absorbed into queries and outputs (one product per head), and attention is
multi-query over the latent vectors themselves, so that one read serves all heads.

The cache holds one vector of latent + rope_dim elements per token. It is replicated over the
tensor-parallel ranks, and so are the compressing projections. Context-parallel ranks share the
cache; in prefill they gather it, and each of them expands all of it.
"""

import dataclasses
from typing import ClassVar

import equinox as eqx

from diffgenz.core import xp
from diffgenz.core.record import Record, number
from diffgenz.core.smooth import Leaf, Scalar, ceil_share
from diffgenz.kernels.shapes import LatentDecodeShape, LatentPrefillShape
from diffgenz.models.blocks.block import Block, Cache
from diffgenz.models.blocks.module import ATTENTION, IN_ATTENTION, OUT, Module, spelled
from diffgenz.operators.attention import (
    attention_keys,
    attention_over,
    with_gear_factors,
    with_gear_work,
)
from diffgenz.operators.elementwise import elementwise
from diffgenz.operators.linear import linear, per_head_linear, wide_linear
from diffgenz.operators.message import AllGather, Axis
from diffgenz.operators.operator import Operator
from diffgenz.operators.step import Shared, Step


class Indexer(Record):
    """The indexer of DeepSeek sparse attention (DeepSeek-V3.2), which picks tokens to attend to.

    It is a cheap 8-bit attention. Every tensor-parallel rank computes all of it.

    Arguments:
        heads: heads of the indexer, at least 1.
        head_dim: elements of each of its heads, at least 1.
        picked: tokens that each query then attends to, at least 1.
        reuses: whether the layer takes the picks of an earlier layer, so that it has neither
            weights nor keys nor work for them (GLM-5.2).
    """

    heads: Leaf = number(at_least=1)
    head_dim: Leaf = number(at_least=1)
    picked: Leaf = number(at_least=1)
    reuses: bool = eqx.field(static=True, default=False)

    def projections(self, hidden: Scalar, query_rank: Scalar, step: Step) -> tuple[Operator, ...]:
        """The projections that make the indexer's queries, keys and head weights.

        Arguments:
            hidden: width of the residual stream.
            query_rank: width of the compressed queries.
            step: the iteration.
        """
        precision, tokens, width = step.precision, step.tokens, self.heads * self.head_dim
        name, size = "indexer_projections", precision.dtype_size
        read = tokens * width * size
        return (
            linear(name, tokens, width, query_rank, precision, "attention"),
            wide_linear(name, tokens, self.head_dim + self.heads, hidden, precision),
            elementwise(
                "indexer_norm", read, tokens * width, parameters=2 * self.head_dim, size=size
            ),
        )

    def scores(self, step: Step, ratio: Scalar | float = 1.0) -> Operator:
        """The attention kernel that gives each query a score for each key of the context.

        Arguments:
            step: the iteration.
            ratio: tokens that each key stands for.
        """
        per_key = self.head_dim + 4.0  # an 8-bit key and its fp32 scale
        held = step.sequences * (step.context + step.all_queries) / ratio * per_key
        keys = attention_keys(step, None) / ratio
        none = xp.zeros(())
        scores = attention_over(
            step, keys, self.heads, self.head_dim, none, read=held, held=held, name="indexer"
        )
        if not (isinstance(step.shared, Shared) and step.decoding):
            return scores
        # to find the best of all keys, context-parallel ranks gather an fp32 score for each key
        gathered = AllGather("context_all_gather", Axis.CONTEXT, step.tokens * keys * 4.0)
        return dataclasses.replace(scores, messages=(gathered,))


class LatentAttention(Block):
    """Attention over latent vectors, from which the keys and values of all heads follow.

    norm -> compress -> expand queries -> attention -> output projection -> all-reduce

    Arguments:
        heads: query heads of the whole model.
        latent: width of the compressed keys and values (kv_lora_rank).
        nope_dim: elements of a head's queries and keys without position.
        rope_dim: elements of a head's queries and keys with position.
        value_dim: elements of a head's values.
        query_rank: width of the compressed queries, or None where they are projected directly
            (DeepSeek-V2-Lite).
        indexer: what picks the tokens to attend to, or None to attend to all.
        norm, norms, reduces: as in `Block`.
    """

    mixes_tokens: ClassVar[bool] = True

    heads: Leaf = number(at_least=1)
    latent: Leaf = number(at_least=1)
    nope_dim: Leaf = number(at_least=1)
    rope_dim: Leaf = number(at_least=1)
    value_dim: Leaf = number(at_least=1)
    query_rank: Leaf | None = number(at_least=1, default=None)
    indexer: Indexer | None = None

    @property
    def cache(self) -> Cache | None:
        return Cache.FULL

    @property
    def most_shards(self) -> Scalar:
        """Tensor-parallel ranks that can share it: one head each."""
        return self.heads

    @property
    def _compressed(self) -> Scalar:
        """Elements that the cache holds for each token."""
        return self.latent + self.rope_dim

    @property
    def _picks(self) -> Indexer | None:
        """The indexer whose work is this layer's."""
        return None if self.indexer is None or self.indexer.reuses else self.indexer

    def work(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        precision, tokens, size = step.precision, step.tokens, step.precision.dtype_size
        heads = ceil_share(self.heads, step.shard)
        rank = self.latent if self.query_rank is None else self.query_rank
        widths = heads * (self.nope_dim + self.rope_dim)
        if self.query_rank is None:
            down, source, normalised = self._compressed, hidden, self.latent
        else:
            down, source = self.query_rank + self._compressed, self.query_rank
            normalised = self.latent + self.query_rank
        stored = self._compressed * precision.cached_size(self._compressed)
        read = tokens * (normalised + heads * self.rope_dim + self.rope_dim) * size
        written = read + tokens * stored
        picks = self._picks
        picking = () if picks is None else picks.projections(hidden, rank, step)
        before, after = self._around_core(heads, step)
        return (
            linear("compress", tokens, down, hidden, precision, "attention"),
            linear("queries", tokens, widths, source, precision, "attention"),
            elementwise("rotary_and_cache", read, written, parameters=normalised, size=size),
            *picking,
            before,
            *self.core(step),
            *after,
            linear("attention_out", tokens, hidden, heads * self.value_dim, precision, "attention"),
        )

    def modules(self, hidden: Scalar) -> tuple[Module, ...]:
        def module(rows: tuple[str, ...], parameters: Scalar, leaves: str, fused: str = ""):
            names = spelled(IN_ATTENTION, leaves)
            return Module(ATTENTION, rows, parameters, names, spelled(IN_ATTENTION, fused))

        rank = hidden if self.query_rank is None else self.query_rank
        queries = self.heads * (self.nope_dim + self.rope_dim) * rank
        expanded = self.heads * (self.nope_dim + self.value_dim) * self.latent
        both = "fused_qkv_a_proj_with_mqa fused_qkv_a_proj"
        modules = [
            module(("compress",), hidden * self._compressed, "kv_a_proj_with_mqa kv_a_proj", both),
            module(("queries",), queries, "q_proj" if self.query_rank is None else "q_b_proj"),
            module(("expand", "absorb"), expanded, "kv_b_proj"),
            module(("attention_out",), hidden * self.heads * self.value_dim, OUT),
        ]
        if self.query_rank is not None:
            modules.append(module(("compress",), hidden * self.query_rank, "q_a_proj", both))
        if self.indexer is not None and not self.indexer.reuses:
            width = self.indexer.heads * self.indexer.head_dim
            names = "indexer.wq_b indexer.q_b_proj"
            modules.append(module(("indexer_projections",), width * rank, names))
        return tuple(modules)

    def _around_core(self, heads: Scalar, step: Step) -> tuple[Operator, tuple[Operator, ...]]:
        """The kernels before and after attention: the expansion, or the absorbed products."""
        precision = step.precision
        if not step.decoding:
            rows = step.sequences * (step.context + step.all_queries)
            width = heads * (self.nope_dim + self.value_dim)
            return linear("expand", rows, width, self.latent, precision, "attention"), ()

        def absorb(outputs: Scalar, inputs: Scalar) -> Operator:
            return per_head_linear(
                "absorb", step.tokens, heads, outputs, inputs, precision, "attention"
            )

        return absorb(self.latent, self.nope_dim), (absorb(self.value_dim, self.latent),)

    def core(self, step: Step) -> tuple[Operator, ...]:
        heads = ceil_share(self.heads, step.shard)
        attention = self._absorbed(heads, step) if step.decoding else self._expanded(heads, step)
        picks = self._picks
        return (attention,) if picks is None else (picks.scores(step), attention)

    def _cached(self, step: Step) -> Scalar:
        """B of the latent vectors of all tokens of all sequences."""
        per_token = self._compressed * step.precision.cached_size(self._compressed)
        return step.sequences * (step.context + step.all_queries) * per_token

    def _keys(self, step: Step) -> tuple[Scalar, Scalar]:
        """Tokens that a query attends to, and their share of all those that it could attend to."""
        keys = attention_keys(step, None)
        if self.indexer is None:
            return keys, xp.ones(())
        picked = attention_keys(step, self.indexer.picked)
        return picked, picked / keys

    def _expanded(self, heads: Scalar, step: Step) -> Operator:
        """Multi-head attention over expanded keys and values, as in prefill."""
        keys, _ = self._keys(step)
        rows, cached = step.sequences * (step.context + step.all_queries), self._cached(step)
        query_dim = self.nope_dim + self.rope_dim
        read = rows * heads * (query_dim + self.value_dim) * step.precision.dtype_size
        core = attention_over(
            step, keys, heads, query_dim, self.value_dim, read=read, held=cached, sent=cached
        )
        # the context at which causal attention sees this mean number of keys
        before = xp.maximum(keys - 0.5 * (step.queries + 1), 0.0)
        shape = LatentPrefillShape(
            step.sequences, step.queries, before, heads, query_dim, self.value_dim
        )
        core = dataclasses.replace(core, kernel="latent_prefill", shape=shape)
        return with_gear_factors(core, step, xp.ones(()), self._compressed)

    def _absorbed(self, heads: Scalar, step: Step) -> Operator:
        """Multi-query attention over the latent vectors, as in decode."""
        keys, share = self._keys(step)
        cached, width = self._cached(step), self._compressed
        core = attention_over(
            step, keys, heads, width, self.latent, read=cached * share, held=cached
        )
        seen = keys / step.shared.ranks
        shape = LatentDecodeShape(
            step.sequences,
            step.queries,
            seen,
            heads,
            self.latent,
            self.rope_dim,
            step.precision.cached_size(width),
        )
        core = dataclasses.replace(core, kernel="latent_decode", shape=shape)
        return with_gear_work(with_gear_factors(core, step, xp.ones(()), width), step, width)
