"""Operators: one kernel's shape and bytes each, and the constructors that know them.

An `Operator` says what a kernel does, not how long it takes: FLOP = 2 m n k groups, bytes by kind, elements it keeps in memory. Times (`roofline`),
parameter counts, memory and energy are all sums over the same records. A new operator is one constructor here.
"""

import enum
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp

from diffgenz.precision import Precision
from diffgenz.record import Record
from diffgenz.smooth import Leaf, Scalar, as_leaf

STATE_SIZE = 4.0
"""B of an element of a recurrent state, which is kept in fp32."""


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

    @property
    def flops(self) -> Scalar | float:
        """FLOP of one execution (a multiply and an add are 2)."""
        return 2 * self.m * self.n * self.k * self.groups

    @property
    def traffic(self) -> Scalar | float:
        """B moved to and from memory in one execution."""
        return self.weights + self.inputs + self.outputs + self.kv_cache

    def times(self, repeats: Scalar | float) -> "Operator":
        """The same operator, `repeats` times as often."""
        return eqx.tree_at(lambda op: op.repeats, self, self.repeats * repeats)


class Step(Record):
    """One iteration of a batch, as one device sees it.

    Arguments:
        sequences: requests in the (micro-)batch.
        queries: new tokens per request: the prompt in prefill, 1 in decode.
        context: tokens per request already in the KV cache.
        shard: the device's share of every layer's heads and features, 1 / tensor-parallel ranks.
        precision: the formats.
        expert_shard: the device's share of the routed experts, 1 / expert-parallel groups.
        attention_data: groups of ranks with requests of their own, such as these, whose tokens meet at the experts.
        decoding: whether this is decode, for blocks that compute it in another form (latent attention).
    """

    sequences: Leaf = eqx.field(converter=as_leaf)
    queries: Leaf = eqx.field(converter=as_leaf)
    context: Leaf = eqx.field(converter=as_leaf)
    shard: Leaf = eqx.field(converter=as_leaf)
    precision: Precision
    expert_shard: Leaf = eqx.field(converter=as_leaf, default=1.0)
    attention_data: Leaf = eqx.field(converter=as_leaf, default=1.0)
    decoding: bool = eqx.field(static=True, default=False)

    @property
    def tokens(self) -> Scalar:
        """New tokens in the iteration."""
        return self.sequences * self.queries


class Exchange(NamedTuple):
    """Tokens on their way to experts and back, where attention groups have requests of their own.

    Arguments:
        picks: experts per token. dispatch, combine: B of one copy of this device's tokens, its share of those it sees, on the way there and back.
        repeats: executions.
    """

    picks: Scalar
    dispatch: Scalar
    combine: Scalar
    repeats: Scalar | float = 1.0


def linear(name: str, rows: Scalar, outputs: Scalar, inputs: Scalar, precision: Precision, *, bias: bool = False) -> Operator:
    """A linear layer: (rows, inputs) x (inputs, outputs); in dtype where only experts are quantised.

    Arguments:
        rows: tokens. outputs, inputs: features of this device's shard. bias: whether it adds one.
    """
    if precision.experts_only:
        return wide_linear(name, rows, outputs, inputs, precision, bias=bias)
    parameters = outputs * (inputs + bias)
    return Operator(
        name,
        Kind.LINEAR,
        m=rows,
        n=outputs,
        k=inputs,
        weights=parameters * precision.weight_size,
        inputs=rows * inputs * precision.activation_size,
        outputs=rows * outputs * precision.dtype_size,
        parameters=parameters,
        parameter_size=precision.weight_size,
    )


def wide_linear(
    name: str, rows: Scalar, outputs: Scalar, inputs: Scalar, precision: Precision, *, bias: bool = False, tied: bool = False
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
) -> Operator:
    """A linear layer of routed experts, as one grouped GEMM: rows go to the weights of their own expert.

    Arguments:
        rows: (token, expert) pairs on this device. outputs, inputs: features of one expert's shard.
        held, reached: experts of this device, and the expected number that any row goes to: only their weights are read.
        used: the share of all experts that one token goes to. padding: rows added per reached expert by the kernel's tiles.
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
    )


def elementwise(
    name: str, read: Scalar, written: Scalar, *, parameters: Scalar | float = 0.0, size: Scalar | float = 0.0, repeats: Scalar | float = 1.0
) -> Operator:
    """A kernel bound by memory: norms, rotary embedding, activations, residuals, gathers.

    Arguments:
        read, written: B. parameters: elements it keeps, of `size` B each.
    """
    return Operator(name, Kind.ELEMENTWISE, inputs=read, outputs=written, parameters=parameters, parameter_size=size, repeats=repeats)


def attention_keys(step: Step, window: Scalar | None) -> Scalar:
    """Mean number of keys that a new token attends to, causally, itself included.

    Query j of q sees min(context + j, window) keys. Written without differences of squares, which would cancel in float32:
    of the q queries, `ramp` are still filling the window.
    """
    if window is None:
        return step.context + 0.5 * (step.queries + 1)
    start = jnp.minimum(step.context, window)
    end = jnp.minimum(step.context + step.queries, window)
    ramp = end - start
    return (ramp * (0.5 * (start + end + 1)) + (step.queries - ramp) * window) / step.queries


def attention(step: Step, heads: Scalar, kv_heads: Scalar, head_dim: Scalar, window: Scalar | None = None) -> Operator:
    """Fused attention of the new tokens over their context (FlashAttention, arXiv 2205.14135: scores never reach memory).

    Arguments:
        heads, kv_heads: of this device. head_dim: of each. window: tokens a query can see, or None for all.

    Keys and values are read once per KV head, at the KV cache's format; FLOP are 4 per (query, key) pair, head and head_dim.
    """
    length = step.context + step.queries
    held = length if window is None else jnp.minimum(length, window)
    read = length if window is None else jnp.minimum(length, window + step.queries - 1)
    per_token = 2 * kv_heads * head_dim * step.precision.cached_size(head_dim)
    keys = attention_keys(step, window)
    return attention_over(step, keys, heads, head_dim, head_dim, read=step.sequences * read * per_token, held=step.sequences * held * per_token)


def attention_over(
    step: Step, keys: Scalar, heads: Scalar, query_dim: Scalar, value_dim: Scalar, *, read: Scalar, held: Scalar | float, name: str = "attention"
) -> Operator:
    """Attention of each new token over `keys` others, whatever it reads them from.

    Arguments:
        keys: mean per new token. query_dim, value_dim: of a head's queries (and keys), and of its values (and outputs).
        read, held: B of keys and values that it moves, and that stay cached.
    """
    size = step.precision.dtype_size
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
    )


def causal_conv(step: Step, channels: Scalar, width: Scalar, *, bias: bool) -> Operator:
    """A short depthwise convolution along the tokens, activation fused in; it keeps the last `width - 1` tokens of each sequence.

    Arguments:
        channels: of this device. width: taps of each channel's filter. bias: whether it adds one.
    """
    size, parameters = step.precision.dtype_size, channels * (width + bias)
    moved, state = step.tokens * channels * size, step.sequences * channels * (width - 1) * size
    return Operator(
        "conv",
        Kind.ELEMENTWISE,
        weights=parameters * size,
        inputs=moved,
        outputs=moved,
        kv_cache=2 * state,
        parameters=parameters,
        parameter_size=size,
        cached=state,
    )


def scan(
    step: Step,
    heads: Scalar,
    state: Scalar,
    *,
    passes: float,
    pairwise: Scalar | float,
    chunk: Scalar | float,
    read: Scalar,
    written: Scalar,
    parameters: Scalar,
) -> Operator:
    """A recurrence along the tokens over a state of fixed size, read and written once for each sequence.

    FLOP = 2 tokens heads (passes state + pairwise (min(chunk, queries) + 1) / 2). Decode updates the state token by token. Prefill takes
    `chunk` tokens at once: causal attention inside a chunk, the state between chunks, which stays on the chip.

    Arguments:
        heads: of this device. state: elements for each.
        passes: multiply-adds per token and element of the state: an update and a readout are two.
        pairwise: multiply-adds per head for a pair of tokens of one chunk, which prefill spends instead of a longer recurrence.
        read, written: elements of dtype per token. parameters: elements it keeps.
    """
    size = step.precision.dtype_size
    pairs = 0.0 if step.decoding else 0.5 * (jnp.minimum(chunk, step.queries) + 1)
    held = step.sequences * heads * state * STATE_SIZE
    return Operator(
        "scan",
        Kind.WIDE,
        m=step.tokens,
        n=heads,
        k=passes * state + pairwise * pairs,
        weights=parameters * size,
        inputs=step.tokens * read * size,
        outputs=step.tokens * written * size,
        kv_cache=2 * held,
        parameters=parameters,
        parameter_size=size,
        cached=held,
    )


def per_head_linear(name: str, rows: Scalar, heads: Scalar, outputs: Scalar, inputs: Scalar, precision: Precision) -> Operator:
    """A product with a weight matrix for each head (the absorbed projections of latent attention)."""
    parameters, wide = heads * outputs * inputs, precision.experts_only
    weight_size = precision.dtype_size if wide else precision.weight_size
    return Operator(
        name,
        Kind.WIDE if wide else Kind.LINEAR,
        m=rows,
        n=outputs,
        k=inputs,
        groups=heads,
        weights=parameters * weight_size,
        inputs=rows * heads * inputs * (precision.dtype_size if wide else precision.activation_size),
        outputs=rows * heads * outputs * precision.dtype_size,
        parameters=parameters,
        parameter_size=weight_size,
    )


def einsum(name: str, equation: str, sizes: dict[str, Scalar | float], *, sizes_of: tuple[Scalar | float, ...], kind: Kind = Kind.LINEAR) -> Operator:
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
