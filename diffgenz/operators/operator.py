"""Operators: one kernel's shape and bytes each, and the constructors that know them.

An `Operator` says what a kernel does, not how long it takes: FLOP = 2 m n k groups, bytes by kind, elements it keeps in memory. Times (`roofline`),
parameter counts, memory and energy are all sums over the same records. A new operator is one constructor here.
"""

import dataclasses
import enum
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp

from diffgenz.core.smooth import Scalar
from diffgenz.kernels.shapes import (
    BatchedShape,
    DecodeShape,
    ElementwiseShape,
    ExpertsShape,
    GemmShape,
    PrefillShape,
)
from diffgenz.operators.precision import Precision
from diffgenz.operators.step import Step

LOG_SUM_EXP_SIZE = 4.0
"""B of the log-sum-exp of a query's scores, by which partial attention outputs are merged: fp32."""


class Kind(enum.Enum):
    """What binds an operator, and how a breakdown files it."""

    LINEAR = "linear"  # a GEMM with weights, at the linear layers' peak
    WIDE = "wide"  # products kept in dtype: LM head, router, scans
    ATTENTION = "attention"  # scores and values, at dtype's peak
    ELEMENTWISE = "elementwise"  # memory only: its arithmetic hides behind its bytes


class Operator(eqx.Module):
    """One kernel on one device, executed `repeats` times.

    Arguments:
        name: what it is called in a breakdown.
        kind: see `Kind`.
        m, n, k, groups: rows, columns, depth, and how many such products; FLOP = 2 m n k groups.
        weights, inputs, outputs, kv_cache: B moved to or from memory in one execution.
        parameters: elements that stay in memory (the shard's weights).
        parameter_size: B of each.
        active: the share of them that one token is multiplied with (1, but for routed experts).
        cached: B of KV cache or state that stay in memory.
        repeats: executions.
        gathered: B, all parts together, that context-parallel ranks gather for it. merged: B of its outputs that they sum. None: nothing.
        kernel: the family of measured kernels that times it (see `kernels`), or "" where there is none.
        shape: what that family calls its shape; None where the operator before it, of the same family, includes its time.
    """

    name: str = eqx.field(static=True)
    kind: Kind = eqx.field(static=True)
    m: Scalar | float = 0.0
    n: Scalar | float = 0.0
    k: Scalar | float = 0.0
    groups: Scalar | float = 1.0
    weights: Scalar | float = 0.0
    inputs: Scalar | float = 0.0
    outputs: Scalar | float = 0.0
    kv_cache: Scalar | float = 0.0
    parameters: Scalar | float = 0.0
    parameter_size: Scalar | float = 0.0
    active: Scalar | float = 1.0
    cached: Scalar | float = 0.0
    repeats: Scalar | float = 1.0
    gathered: Scalar | None = None
    merged: Scalar | None = None
    kernel: str = eqx.field(static=True, default="")
    shape: Any = None

    @property
    def flops(self) -> Scalar | float:
        """FLOP of one execution (a multiply and an add are 2)."""
        return 2 * self.m * self.n * self.k * self.groups

    @property
    def traffic(self) -> Scalar | float:
        """B moved to and from memory in one execution."""
        return self.weights + self.inputs + self.outputs + self.kv_cache

    def inside(self, kernel: str) -> "Operator":
        """The same operator where a measured `kernel` family does it together with what comes before it."""
        return dataclasses.replace(self, kernel=kernel, shape=None)

    def times(self, repeats: Scalar | float) -> "Operator":
        """The same operator, `repeats` times as often."""
        return eqx.tree_at(lambda op: op.repeats, self, self.repeats * repeats)


class Exchange(NamedTuple):
    """Tokens on their way to experts and back, where groups of ranks have tokens of their own.

    Arguments:
        picks: experts per token. experts: there are. tokens: of this device, its share of those it sees.
        dispatch, combine: B of one copy of them, on the way there and back.
        busiest: what the busiest group of experts gets over the mean. groups: of ranks with tokens of their own; with 1 nothing travels.
        repeats: executions.
    """

    picks: Scalar
    experts: Scalar
    tokens: Scalar
    dispatch: Scalar
    combine: Scalar
    busiest: Scalar
    groups: Scalar
    repeats: Scalar | float = 1.0


def linear(
    name: str,
    rows: Scalar,
    outputs: Scalar,
    inputs: Scalar,
    precision: Precision,
    *,
    bias: bool = False,
) -> Operator:
    """A linear layer: (rows, inputs) x (inputs, outputs); in dtype where only experts are quantised.

    Arguments:
        rows: tokens. outputs, inputs: features of this device's shard. bias: whether it adds one.
    """
    if precision.experts_only:
        return wide_linear(name, rows, outputs, inputs, precision, bias=bias)
    parameters = outputs * (inputs + bias)
    weights = parameters * precision.weight_size
    read, written = rows * inputs * precision.activation_size, rows * outputs * precision.dtype_size
    return Operator(
        name,
        Kind.LINEAR,
        m=rows,
        n=outputs,
        k=inputs,
        weights=weights,
        inputs=read,
        outputs=written,
        parameters=parameters,
        parameter_size=precision.weight_size,
        kernel="gemm",
        shape=GemmShape(rows, outputs, inputs, weights + read + written),
    )


def wide_linear(
    name: str,
    rows: Scalar,
    outputs: Scalar,
    inputs: Scalar,
    precision: Precision,
    *,
    bias: bool = False,
    tied: bool = False,
) -> Operator:
    """A linear layer kept in dtype, such as the LM head or a router.

    Arguments:
        rows, outputs, inputs, bias: as in `linear`. tied: whether the weights are another operator's (the embedding's), which counts them.
    """
    read = outputs * (inputs + bias)
    return Operator(
        name,
        Kind.WIDE,
        m=rows,
        n=outputs,
        k=inputs,
        weights=read * precision.dtype_size,
        inputs=rows * inputs * precision.dtype_size,
        outputs=rows * outputs * precision.dtype_size,
        parameters=outputs * bias if tied else read,
        parameter_size=precision.dtype_size,
        kernel="gemm",
        shape=GemmShape(
            rows, outputs, inputs, (read + rows * (inputs + outputs)) * precision.dtype_size
        ),
    )


def expert_linear(
    name: str,
    rows: Scalar,
    outputs: Scalar,
    inputs: Scalar,
    precision: Precision,
    *,
    held: Scalar,
    reached: Scalar,
    used: Scalar,
    padding: Scalar,
    bias: bool,
    shape: ExpertsShape | None = None,
) -> Operator:
    """A linear layer of routed experts, as one grouped GEMM: rows go to the weights of their own expert.

    Arguments:
        rows: (token, expert) pairs on this device. outputs, inputs: features of one expert's shard.
        held, reached: experts of this device, and the expected number that any row goes to: only their weights are read.
        used: the share of all experts that one token goes to. padding: rows added per reached expert by the kernel's tiles.
        shape: of all experts' work in the layer, which measured kernels do at once; None for what that includes.
    """
    each = outputs * (inputs + bias)
    return Operator(
        name,
        Kind.LINEAR,
        m=rows + padding * reached,
        n=outputs,
        k=inputs,
        weights=reached * each * precision.weight_size,
        inputs=rows * inputs * precision.activation_size,
        outputs=rows * outputs * precision.dtype_size,
        parameters=held * each,
        parameter_size=precision.weight_size,
        active=used,
        kernel="experts",
        shape=shape,
    )


def elementwise(
    name: str,
    read: Scalar,
    written: Scalar,
    *,
    parameters: Scalar | float = 0.0,
    size: Scalar | float = 0.0,
    repeats: Scalar | float = 1.0,
) -> Operator:
    """A kernel bound by memory: norms, rotary embedding, activations, residuals, gathers.

    Arguments:
        read, written: B. parameters: elements it keeps, of `size` B each.
    """
    return Operator(
        name,
        Kind.ELEMENTWISE,
        inputs=read,
        outputs=written,
        parameters=parameters,
        parameter_size=size,
        repeats=repeats,
        kernel="elementwise",
        shape=ElementwiseShape(read + written),
    )


def attention_keys(step: Step, window: Scalar | None) -> Scalar:
    """Mean number of keys that a new token attends to, causally, itself included.

    Query j of q sees min(context + j, window) keys. Written without differences of squares, which would cancel in float32:
    of the q queries, `ramp` are still filling the window.
    """
    queries = step.all_queries
    if window is None:
        return step.context + 0.5 * (queries + 1)
    start = jnp.minimum(step.context, window)
    end = jnp.minimum(step.context + queries, window)
    ramp = end - start
    return (ramp * (0.5 * (start + end + 1)) + (queries - ramp) * window) / queries


def attention(
    step: Step, heads: Scalar, kv_heads: Scalar, head_dim: Scalar, window: Scalar | None = None
) -> Operator:
    """Fused attention of the new tokens over their context (FlashAttention, arXiv 2205.14135: scores never reach memory).

    Arguments:
        heads, kv_heads: of this device. head_dim: of each. window: tokens a query can see, or None for all.

    Keys and values are read once per KV head, at the KV cache's format; FLOP are 4 per (query, key) pair, head and head_dim.
    """
    length = step.context + step.all_queries
    held = length if window is None else jnp.minimum(length, window)
    read = sent = length if window is None else jnp.minimum(length, window + step.all_queries - 1)
    if step.shared is not None and not step.decoding and window is not None:
        read = jnp.minimum(
            read, step.queries + 2 * (window - 1)
        )  # zig-zag: two runs of queries, a window before each
    size = step.precision.cached_size(head_dim)
    each = step.sequences * (2 * kv_heads * head_dim * size)
    keys = attention_keys(step, window)
    core = attention_over(
        step, keys, heads, head_dim, head_dim, read=read * each, held=held * each, sent=sent * each
    )
    before = _context(step, window)
    seen = before + step.queries
    within = seen if window is None else jnp.minimum(window, seen)
    if step.decoding:
        return dataclasses.replace(
            core,
            kernel="decode",
            shape=DecodeShape(
                step.sequences, step.queries, seen, heads, kv_heads, head_dim, within, size
            ),
        )
    shape = PrefillShape(
        step.sequences, step.queries, before, heads, kv_heads, head_dim, within, size
    )
    return dataclasses.replace(core, kernel="prefill", shape=shape)


def _context(step: Step, window: Scalar | None) -> Scalar:
    """Cached tokens before the new ones, for a rank: of context-parallel ranks its part in decode, else the mean over the runs of queries it has."""
    if step.shared is None:
        return step.context
    if step.decoding:
        return (step.context + step.queries) / step.shared.ranks - step.queries
    return (
        step.context
        if window is not None
        else step.context + 0.5 * (step.all_queries - step.queries)
    )


def attention_over(
    step: Step,
    keys: Scalar,
    heads: Scalar,
    query_dim: Scalar,
    value_dim: Scalar,
    *,
    read: Scalar,
    held: Scalar | float,
    sent: Scalar | None = None,
    name: str = "attention",
) -> Operator:
    """Attention of each new token over `keys` others, whatever it reads them from.

    Arguments:
        keys: mean per new token. query_dim, value_dim: of a head's queries (and keys), and of its values (and outputs).
        read, held: B of keys and values that it moves, and that stay cached, of whole sequences.
        sent: B of whole sequences that context-parallel ranks gather in prefill; default: `read`.

    Context-parallel ranks each cache an equal part. In prefill they gather all of it, and each attends with its own queries. In decode each
    attends to its part with all queries, and outputs are merged by their log-sum-exp: value_dim numbers and one of fp32 per query and head.
    """
    size, gathered, merged = step.precision.dtype_size, None, None
    if step.shared is not None:
        part = 1 / step.shared.ranks
        held = held * part
        if step.decoding:
            keys, read, merged = (
                keys * part,
                read * part,
                step.tokens * heads * (value_dim * size + LOG_SUM_EXP_SIZE),
            )
        else:
            gathered = read if sent is None else sent
    return Operator(
        name,
        Kind.ATTENTION,
        m=step.queries,
        n=keys,
        k=0.5 * (query_dim + value_dim),
        groups=2 * step.sequences * heads,
        inputs=step.tokens * heads * query_dim * size,
        outputs=step.tokens * heads * value_dim * size,
        kv_cache=read,
        cached=held,
        gathered=gathered,
        merged=merged,
    )


def per_head_linear(
    name: str, rows: Scalar, heads: Scalar, outputs: Scalar, inputs: Scalar, precision: Precision
) -> Operator:
    """A product with a weight matrix for each head (the absorbed projections of latent attention)."""
    parameters, wide = heads * outputs * inputs, precision.experts_only
    weight_size = precision.dtype_size if wide else precision.weight_size
    weights = parameters * weight_size
    read = rows * heads * inputs * (precision.dtype_size if wide else precision.activation_size)
    written = rows * heads * outputs * precision.dtype_size
    return Operator(
        name,
        Kind.WIDE if wide else Kind.LINEAR,
        m=rows,
        n=outputs,
        k=inputs,
        groups=heads,
        weights=weights,
        inputs=read,
        outputs=written,
        parameters=parameters,
        parameter_size=weight_size,
        kernel="batched",
        shape=BatchedShape(rows, outputs, inputs, heads, weights),
    )


def einsum(
    name: str,
    equation: str,
    sizes: dict[str, Scalar | float],
    *,
    sizes_of: tuple[Scalar | float, ...],
    kind: Kind = Kind.LINEAR,
) -> Operator:
    """A product of two operands in Einstein notation, such as "bkgmd,bknd->bkgmn" (attention scores of g queries per KV head).

    Arguments:
        equation: two operands and the output, one letter per index.
        sizes: the extent of each index.
        sizes_of: B per element of the first operand, the second (filed as weights) and the output.

    Multiply-adds are the product of the extents of all distinct indices.
    """
    operands, output = equation.split("->")
    first, second = operands.split(",")

    def elements(indices: str) -> Scalar | float:
        product = 1.0
        for index in dict.fromkeys(indices):
            product = product * sizes[index]
        return product

    return Operator(
        name,
        kind,
        m=elements(first),
        n=elements("".join(index for index in second if index not in first)),
        k=1.0,
        inputs=elements(first) * sizes_of[0],
        weights=elements(second) * sizes_of[1],
        outputs=elements(output) * sizes_of[2],
    )
