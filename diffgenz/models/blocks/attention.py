"""Self-attention: multi-head, grouped-query or multi-query, full or sliding-window, with its projections."""

from typing import ClassVar

import equinox as eqx

from diffgenz.core.checks import check
from diffgenz.core.smooth import Leaf, Scalar, as_leaf, ceil_share
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.norm import Norm, norm
from diffgenz.operators.compression import with_gear_factors, with_gear_work
from diffgenz.operators.operator import Operator, attention, elementwise, linear
from diffgenz.operators.step import Step


class Attention(Block):
    """norm -> QKV projection -> rotary embedding and cache write -> attention -> output projection -> all-reduce.

    Arguments:
        heads, kv_heads, head_dim: of the whole model. Heads that do not divide over the ranks are padded, KV heads fewer than ranks replicated.
        window: tokens a query sees, or None for all.
        qkv_bias, out_bias: whether the projections have one.
        norm: the norm, or None where the block shares another's (parallel blocks).
        norms: how many (2 with a norm after the block, as in Gemma 2).
        rotary: whether positions are rotary (a kernel of its own, fused with the cache write).
        query_key_norm: parameters of the norms on queries and keys: None, "head" (one head_dim each) or "all" (every head's).
        sinks: whether each head has a learned logit that takes attention away from all keys (gpt-oss).
        output_gate: whether a second projection, as wide as the queries, gates the heads' outputs (Qwen3-Next).
        streams: hidden states of the model's width that it reads, side by side (2 in Zamba2: the residual and the embedding).
        reduces: whether the block ends in an all-reduce of its own (parallel blocks share one).
    """

    mixes_tokens: ClassVar[bool] = True

    heads: Leaf = eqx.field(converter=as_leaf)
    kv_heads: Leaf = eqx.field(converter=as_leaf)
    head_dim: Leaf = eqx.field(converter=as_leaf)
    window: Leaf | None = eqx.field(
        converter=lambda window: None if window is None else as_leaf(window), default=None
    )
    qkv_bias: bool = eqx.field(static=True, default=False)
    out_bias: bool = eqx.field(static=True, default=False)
    norm: Norm | None = eqx.field(static=True, default=Norm.RMS)
    norms: int = eqx.field(static=True, default=1)
    rotary: bool = eqx.field(static=True, default=True)
    query_key_norm: str | None = eqx.field(static=True, default=None)
    sinks: bool = eqx.field(static=True, default=False)
    output_gate: bool = eqx.field(static=True, default=False)
    streams: int = eqx.field(static=True, default=1)
    reduces: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        for field in ("heads", "kv_heads", "head_dim"):
            check(field, getattr(self, field), exclusive=True)
        if self.window is not None:
            check("window", self.window, minimum=1, remedy="leave it out for full attention")

    @property
    def most_shards(self) -> Scalar:
        """One head each."""
        return self.heads

    def operators(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        heads = ceil_share(self.heads, step.shard)
        kv_heads = ceil_share(self.kv_heads, step.shard)
        queries, keys = heads * self.head_dim, kv_heads * self.head_dim
        precision = step.precision
        operators = [
            linear(
                "qkv",
                step.tokens,
                queries * (2 if self.output_gate else 1) + 2 * keys,
                self.streams * hidden,
                precision,
                bias=self.qkv_bias,
            ),
            self._rotary_and_cache(queries, keys, step),
            self._core(heads, kv_heads, step),
            linear("attention_out", step.tokens, hidden, queries, precision, bias=self.out_bias),
        ]
        if self.output_gate:
            gated = step.tokens * queries * precision.dtype_size
            operators.insert(-1, elementwise("output_gate", 2 * gated, gated))
        if self.norm is not None:
            operators.insert(0, norm(self.norm, self.streams * hidden, step, count=self.norms))
        return tuple(operators)

    def _core(self, heads: Scalar, kv_heads: Scalar, step: Step) -> Operator:
        core = attention(step, heads, kv_heads, self.head_dim, self.window)
        return with_gear_work(
            with_gear_factors(core, step, 2 * kv_heads, self.head_dim), step, self.head_dim
        )

    def _rotary_and_cache(self, queries: Scalar, keys: Scalar, step: Step) -> Operator:
        """One kernel: rotate (and normalise) queries and keys in place, quantise keys and values into the cache."""
        normalised = {None: 0.0, "head": 2 * self.head_dim, "all": queries + keys}[
            self.query_key_norm
        ]
        if self.sinks:
            normalised = normalised + queries / self.head_dim
        size = step.precision.dtype_size
        rotated = (queries if self.rotary or self.query_key_norm else 0.0) + keys
        stored = 2 * keys * step.precision.cached_size(self.head_dim)
        read, written = (
            step.tokens * (rotated + keys) * size,
            step.tokens * (rotated * size + stored),
        )
        return elementwise("rotary_and_cache", read, written, parameters=normalised, size=size)
