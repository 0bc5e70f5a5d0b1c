"""Attention over a KV cache: causal and fused, full or windowed, whole or on context ranks."""

import dataclasses
import math

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar
from diffgenz.kernels.shapes import DecodeShape, PrefillShape
from diffgenz.operators.message import AllGather, AllReduce, Axis, Message
from diffgenz.operators.operator import Kind, Operator
from diffgenz.operators.step import Shared, Step

LOG_SUM_EXP_SIZE = 4.0
"""B of the log-sum-exp of a query's scores, by which partial attention outputs are merged: fp32."""


def attention_keys(step: Step, window: Scalar | None) -> Scalar:
    """The mean number of keys that a new token attends to in causal attention, itself included.

    Query j of q sees min(context + j, window) keys. The mean is written without differences of
    squares, which would cancel in float32: of the q queries, `ramp` are still filling the window.

    Arguments:
        step: the iteration.
        window: tokens that a query can see, or None for all.
    """
    queries = step.all_queries
    if window is None:
        return step.context + 0.5 * (queries + 1)
    start = xp.minimum(step.context, window)
    end = xp.minimum(step.context + queries, window)
    ramp = end - start
    return (ramp * (0.5 * (start + end + 1)) + (queries - ramp) * window) / queries


def held_by(step: Step, window: Scalar) -> Scalar:
    """Tokens of each sequence that the cache of a window holds, those of this step included.

    min(context + queries, window + ahead)
    """
    return xp.minimum(step.context + step.all_queries, window + step.ahead)


def attention(
    step: Step,
    heads: Scalar,
    kv_heads: Scalar,
    head_dim: Scalar,
    window: Scalar | None = None,
    value_dim: Scalar | None = None,
) -> Operator:
    """Attention of the new tokens over keys and values cached per KV head.

    It is fused (FlashAttention, arXiv 2205.14135): scores never reach memory. Keys and values are
    read once per KV head, in the format of the KV cache. There are 2 FLOP for each (query, key)
    pair, head and element of a key, and as many of a value. A cache that GEAR compressed adds its
    outliers and its low-rank term.

    Arguments:
        step: the iteration.
        heads: query heads of this device.
        kv_heads: key and value heads of this device.
        head_dim: elements of each head's queries and keys.
        window: tokens that a query can see, or None for all.
        value_dim: elements of each head's values, or None for `head_dim`. Measured kernels know
            one size, and are asked for the mean of both.
    """
    values = head_dim if value_dim is None else value_dim
    mean_dim = head_dim if value_dim is None else 0.5 * (head_dim + value_dim)
    length = step.context + step.all_queries
    held = length if window is None else held_by(step, window)
    read = sent = length if window is None else xp.minimum(length, window + step.all_queries - 1)
    if isinstance(step.shared, Shared) and not step.decoding and window is not None:
        # zig-zag: two runs of queries, a window before each
        read = xp.minimum(read, step.queries + 2 * (window - 1))
    size = step.precision.cached_size(head_dim)
    each = step.sequences * (2 * kv_heads * mean_dim * size)
    core = attention_over(
        step,
        attention_keys(step, window),
        heads,
        head_dim,
        values,
        read=read * each,
        held=held * each,
        sent=sent * each,
    )
    before = _context(step, window)
    seen = before + step.queries
    # a window that does not reach still runs the kernel with one
    within = math.inf if window is None else window
    if step.decoding:
        kernel, shape = (
            "decode",
            DecodeShape(
                step.sequences, step.queries, seen, heads, kv_heads, mean_dim, within, size
            ),
        )
    else:
        kernel, shape = (
            "prefill",
            PrefillShape(
                step.sequences, step.queries, before, heads, kv_heads, mean_dim, within, size
            ),
        )
    core = dataclasses.replace(core, kernel=kernel, shape=shape)
    return with_gear_work(with_gear_factors(core, step, 2 * kv_heads, head_dim), step, head_dim)


def _context(step: Step, window: Scalar | None) -> Scalar:
    """Tokens in the cache before the new ones, as one rank sees them.

    With context parallelism these are the rank's part of the sequence in decode, and the mean over
    the runs of queries that the rank computes in prefill.
    """
    if not isinstance(step.shared, Shared):
        return step.context
    if step.decoding:
        return (step.context + step.queries) / step.shared.ranks - step.queries
    if window is not None:
        return step.context
    return step.context + 0.5 * (step.all_queries - step.queries)


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
    """Attention of each new token over `keys` others, read from a cache of any layout.

    Context-parallel ranks each cache an equal part of every sequence. In prefill they gather all of
    it, and each attends with its own queries. In decode each attends to its part with all queries,
    and outputs are then merged by their log-sum-exp: value_dim numbers in dtype and one in fp32 for
    each query and head.

    Arguments:
        step: the iteration.
        keys: the mean number of keys per new token.
        heads: query heads of this device.
        query_dim: elements of a head's queries and keys.
        value_dim: elements of a head's values and outputs.
        read: B of keys and values of whole sequences that are moved.
        held: B of keys and values of whole sequences that stay cached.
        sent: B of whole sequences that context-parallel ranks gather in prefill; default: `read`.
        name: the operator's row in a breakdown.
    """
    size = step.precision.dtype_size
    messages: tuple[Message, ...] = ()
    if isinstance(step.shared, Shared):
        part = 1 / step.shared.ranks
        held = held * part
        if step.decoding:
            keys, read = keys * part, read * part
            outputs = step.tokens * heads * (value_dim * size + LOG_SUM_EXP_SIZE)
            messages = (AllReduce("context_merge", Axis.CONTEXT, outputs),)
        else:
            gathered = read if sent is None else sent
            messages = (AllGather("context_all_gather", Axis.CONTEXT, gathered),)
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
        messages=messages,
    )


def with_gear_factors(op: Operator, step: Step, vectors: Scalar, width: Scalar) -> Operator:
    """`op` with the low-rank factor B that GEAR keeps once per sequence.

    Without GEAR it is unchanged. The bytes per token are in `op` already (`Precision.cached_size`).

    Arguments:
        op: an attention operator.
        step: the iteration.
        vectors: vectors that a token has in the cache on this device.
        width: elements of each vector.
    """
    gear = step.precision.gear
    if gear is None:
        return op
    once = step.sequences * vectors * gear.sequence_size(step.precision.dtype_size, width)
    return dataclasses.replace(
        op, kernel="", shape=None, kv_cache=op.kv_cache + once, cached=op.cached + once
    )  # no table of measurements holds such kernels


def with_gear_work(op: Operator, step: Step, width: Scalar) -> Operator:
    """`op` with the FLOP of GEAR's outliers and low-rank term.

    Without GEAR it is unchanged. The FLOP count for keys that were in the cache before, since new
    ones are still whole.

    Arguments:
        op: an attention operator.
        step: the iteration.
        width: elements of each cached vector.
    """
    gear = step.precision.gear
    if gear is None:
        return op
    compressed = xp.minimum(step.context / op.n, 1.0)
    return dataclasses.replace(op, k=op.k * (1 + gear.extra_work(width) * compressed))
