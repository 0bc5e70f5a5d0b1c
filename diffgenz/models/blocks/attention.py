"""Self-attention and its projections: multi-head, grouped or multi-query, full or windowed."""

import dataclasses
from typing import ClassVar

import equinox as eqx

from diffgenz.core import xp
from diffgenz.core.record import number
from diffgenz.core.smooth import Leaf, Scalar, ceil_share
from diffgenz.models.blocks.block import Block, Cache
from diffgenz.models.blocks.module import ATTENTION, IN_ATTENTION, OUT, Module, spelled
from diffgenz.operators.attention import attention
from diffgenz.operators.elementwise import elementwise
from diffgenz.operators.linear import linear
from diffgenz.operators.message import AllReduce, Axis
from diffgenz.operators.operator import Operator
from diffgenz.operators.step import Step

SUM_SIZE = 4.0
"""Bytes of a float32 sum of squares."""


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
            head's, whose tensor-parallel ranks add up their sums of squares).
        sinks: whether each head has a learned logit that takes attention away from all keys
            (gpt-oss).
        output_gate: whether a second projection, as wide as the queries, gates the heads' outputs
            (Qwen3-Next).
        head_gate: whether a projection to one number per head gates that head's output (Step-3.5).
        value_dim: elements of each head's values, or None for head_dim (MiMo-V2).
        tied_values: whether keys and values are the same projection, of which both are cached
            (Gemma 4).
        borrows_cache: whether keys and values are those that an earlier layer cached, so that this
            one has queries alone (Gemma 3n, Gemma 4).
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
    head_gate: bool = eqx.field(static=True, default=False)
    value_dim: Leaf | None = number(above=0, default=None)
    tied_values: bool = eqx.field(static=True, default=False)
    borrows_cache: bool = eqx.field(static=True, default=False)
    streams: int = eqx.field(static=True, default=1)

    @property
    def cache(self) -> Cache | None:
        if self.borrows_cache:
            return None
        return Cache.FULL if self.window is None else Cache.WINDOW

    @property
    def most_shards(self) -> Scalar:
        """Tensor-parallel ranks that can share it: one head each."""
        return self.heads

    def normalised(self, hidden: Scalar) -> Scalar:
        return self.streams * hidden

    def _shards(self, step: Step) -> tuple[Scalar, Scalar]:
        """The query heads and the KV heads of one device."""
        return ceil_share(self.heads, step.shard), ceil_share(self.kv_heads, step.shard)

    @property
    def _values(self) -> Scalar:
        """Elements of each head's values."""
        return self.head_dim if self.value_dim is None else self.value_dim

    def work(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        heads, kv_heads = self._shards(step)
        queries, outputs = heads * self.head_dim, heads * self._values
        keys = 0.0 if self.borrows_cache else kv_heads * self.head_dim
        values = 0.0 if self.borrows_cache else kv_heads * self._values
        precision, tokens = step.precision, step.tokens
        gates = (outputs if self.output_gate else 0.0) + (heads if self.head_gate else 0.0)
        projected = queries + gates + keys + (0.0 if self.tied_values else values)
        seen = self.streams * hidden
        gated = tokens * outputs * precision.dtype_size
        weighed = tokens * gates * precision.dtype_size
        has_gate = self.output_gate or self.head_gate
        return (
            linear("qkv", tokens, projected, seen, precision, ATTENTION, bias=self.qkv_bias),
            self._rotary_and_cache(queries, keys, values, step),
            *self.core(step),
            *((elementwise("output_gate", gated + weighed, gated),) if has_gate else ()),
            linear(
                "attention_out", tokens, hidden, outputs, precision, ATTENTION, bias=self.out_bias
            ),
        )

    def modules(self, hidden: Scalar) -> tuple[Module, ...]:
        seen, queries = self.streams * hidden, self.heads * self.head_dim
        outputs = self.heads * self._values
        widths = {
            "q_proj query wq": queries + (outputs if self.output_gate else 0.0),
            "g_proj gate_proj": self.heads if self.head_gate else 0.0,
        }
        if not self.borrows_cache:
            widths["k_proj key wk"] = self.kv_heads * self.head_dim
            if not self.tied_values:
                widths["v_proj value wv"] = self.kv_heads * self._values
        fused = spelled(IN_ATTENTION, "qkv_proj query_key_value Wqkv c_attn qkv wqkv W_pack")
        fused = (*fused, "norm_attn_norm.attn.Wqkv")
        out = spelled(IN_ATTENTION, OUT, "mixer.o_proj", "norm_attn_norm.attn.out_proj")
        return (
            *(
                Module(
                    ATTENTION,
                    ("qkv",),
                    width * (seen + self.qkv_bias),
                    spelled(IN_ATTENTION, leaves, f"mixer.{leaves.split()[0]}"),
                    fused,
                )
                for leaves, width in widths.items()
                if not (isinstance(width, float) and width == 0.0)
            ),
            Module(ATTENTION, ("attention_out",), hidden * (outputs + self.out_bias), out),
        )

    def core(self, step: Step) -> tuple[Operator, ...]:
        heads, kv_heads = self._shards(step)
        core = attention(step, heads, kv_heads, self.head_dim, self.window, self.value_dim)
        if self.borrows_cache:
            core = dataclasses.replace(core, cached=xp.zeros(()))
        return (core,)

    def _rotary_and_cache(
        self, queries: Scalar, keys: Scalar | float, values: Scalar | float, step: Step
    ) -> Operator:
        """The kernel that prepares queries and keys and fills the cache.

        It rotates and normalises queries and keys in place, and writes keys and values to the
        cache. Norms over all heads need the sums of squares of all ranks, of queries and of keys,
        in float32 (vLLM `MiniMaxText01RMSNormTP.forward_qk`; its OLMo 2 gathers all queries and
        keys instead, which takes longer).
        """
        each = self.head_dim if self.borrows_cache else 2 * self.head_dim
        normalised = {None: 0.0, "head": each, "head and bias": 2 * each, "all": queries + keys}[
            self.query_key_norm
        ]
        if self.sinks:
            normalised = normalised + queries / self.head_dim
        size = step.precision.dtype_size
        rotated = (queries if self.rotary or self.query_key_norm else 0.0) + keys
        stored = (keys + values) * step.precision.cached_size(self.head_dim)
        read = step.tokens * (rotated + values) * size
        written = step.tokens * (rotated * size + stored)
        kernel = elementwise("rotary_and_cache", read, written, parameters=normalised, size=size)
        if self.query_key_norm != "all":
            return kernel
        sums = step.tokens * (SUM_SIZE if self.borrows_cache else 2 * SUM_SIZE)
        return kernel.sending(AllReduce("norm_sums", Axis.TENSOR, sums))
