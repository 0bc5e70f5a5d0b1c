"""Self-attention and its projections: multi-head, grouped or multi-query, full or windowed."""

import dataclasses
from typing import ClassVar

import equinox as eqx

from diffgenz.core.record import number
from diffgenz.core.smooth import Leaf, Scalar, ceil_share
from diffgenz.models.blocks.block import Block
from diffgenz.operators.attention import attention
from diffgenz.operators.elementwise import elementwise
from diffgenz.operators.linear import linear
from diffgenz.operators.operator import Operator
from diffgenz.operators.step import Step


class Attention(Block):
    """Self-attention with a KV cache.

    norm -> QKV projection -> rotary embedding and cache write -> attention -> output projection
    -> all-reduce

    Heads that do not divide over the ranks are padded. KV heads are replicated where there are
    fewer of them than ranks.

    Arguments:
        heads: query heads of the whole model.
        kv_heads: key and value heads of the whole model.
        head_dim: elements of each head.
        window: tokens that a query sees, or None for all.
        qkv_bias: whether the QKV projection has a bias.
        out_bias: whether the output projection has a bias.
        rotary: whether positions are rotary (a kernel of its own, fused with the cache write).
        query_key_norm: what the norms on queries and keys have parameters for: None (no such
            norms), "head" (one head_dim each), "head and bias" (a layer norm's two) or "all" (every
            head's).
        sinks: whether each head has a learned logit that takes attention away from all keys
            (gpt-oss).
        output_gate: whether a second projection, as wide as the queries, gates the heads' outputs
            (Qwen3-Next).
        borrows: whether it reads the keys and values that an earlier layer has cached, and makes
            none of its own (Gemma 3n).
        streams: how many hidden states of the model's width it reads, side by side (2 in Zamba2:
            the residual and the embedding).
        norm, norms, reduces: as in `Block`.
    """

    mixes_tokens: ClassVar[bool] = True

    heads: Leaf = number(above=0)
    kv_heads: Leaf = number(above=0)
    head_dim: Leaf = number(above=0)
    window: Leaf | None = number(at_least=1, default=None, remedy="leave it out for full attention")
    qkv_bias: bool = eqx.field(static=True, default=False)
    out_bias: bool = eqx.field(static=True, default=False)
    rotary: bool = eqx.field(static=True, default=True)
    query_key_norm: str | None = eqx.field(static=True, default=None)
    sinks: bool = eqx.field(static=True, default=False)
    output_gate: bool = eqx.field(static=True, default=False)
    borrows: bool = eqx.field(static=True, default=False)
    streams: int = eqx.field(static=True, default=1)

    @property
    def most_shards(self) -> Scalar:
        """Tensor-parallel ranks that can share it: one head each."""
        return self.heads

    def normalised(self, hidden: Scalar) -> Scalar:
        return self.streams * hidden

    def _shards(self, step: Step) -> tuple[Scalar, Scalar]:
        """The query heads and the KV heads of one device."""
        return ceil_share(self.heads, step.shard), ceil_share(self.kv_heads, step.shard)

    def work(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        heads, kv_heads = self._shards(step)
        queries = heads * self.head_dim
        keys = 0.0 if self.borrows else kv_heads * self.head_dim
        precision, tokens = step.precision, step.tokens
        gates = queries if self.output_gate else 0.0
        seen = self.streams * hidden
        gated = tokens * queries * precision.dtype_size
        return (
            linear("qkv", tokens, queries + gates + 2 * keys, seen, precision, bias=self.qkv_bias),
            self._rotary_and_cache(queries, keys, step),
            *self.core(step),
            *((elementwise("output_gate", 2 * gated, gated),) if self.output_gate else ()),
            linear("attention_out", tokens, hidden, queries, precision, bias=self.out_bias),
        )

    def core(self, step: Step) -> tuple[Operator, ...]:
        heads, kv_heads = self._shards(step)
        core = attention(step, heads, kv_heads, self.head_dim, self.window)
        return (dataclasses.replace(core, cached=0.0) if self.borrows else core,)

    def _rotary_and_cache(self, queries: Scalar, keys: Scalar | float, step: Step) -> Operator:
        """The kernel that prepares queries and keys and fills the cache.

        It rotates and normalises queries and keys in place, and writes keys and values to the
        cache.
        """
        each = self.head_dim * (1 if self.borrows else 2)
        normalised = {None: 0.0, "head": each, "head and bias": 2 * each, "all": queries + keys}[
            self.query_key_norm
        ]
        if self.sinks:
            normalised = normalised + queries / self.head_dim
        size = step.precision.dtype_size
        rotated = (queries if self.rotary or self.query_key_norm else 0.0) + keys
        stored = 2 * keys * step.precision.cached_size(self.head_dim)
        read = step.tokens * (rotated + keys) * size
        written = step.tokens * (rotated * size + stored)
        return elementwise("rotary_and_cache", read, written, parameters=normalised, size=size)
