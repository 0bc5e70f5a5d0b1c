"""What describes one execution of each family of kernels: the numbers that operators fill in and tables have as columns."""

from typing import NamedTuple

import jax
import numpy as np

Number = jax.Array | np.ndarray | np.floating | float
"""One number, or an array of them: fits and reports work on whole columns."""


class GemmShape(NamedTuple):
    """(m, k) x (k, n), and the B that it moves to and from memory."""

    m: Number
    n: Number
    k: Number
    moved: Number


class BatchedShape(NamedTuple):
    """`groups` products (m, k) x (k, n), and the B of all second operands (the weights), which come from memory."""

    m: Number
    n: Number
    k: Number
    groups: Number
    moved: Number


class PrefillShape(NamedTuple):
    """Causal attention of new tokens over themselves and what is cached.

    Arguments:
        sequences: in the batch. queries: new tokens of each. context: its tokens that are in the cache already.
        heads, kv_heads, head_dim: as the accelerator holds them.
        window: keys that a query attends to at most, itself included; context + queries where there is no window.
        cache_size: B per element of the KV cache.
    """

    sequences: Number
    queries: Number
    context: Number
    heads: Number
    kv_heads: Number
    head_dim: Number
    window: Number
    cache_size: Number

    SPLIT = (
        "sequences",
        "queries",
        "context",
        "heads",
        "kv_heads",
        "head_dim",
        "window",
    )  # both formats of the cache: one fold


class DecodeShape(NamedTuple):
    """Attention of a few new tokens of each running sequence over its cache.

    Arguments:
        sequences: in the batch. queries: new tokens of each (1; more where drafts are verified).
        length: tokens in the cache, the new ones included. heads, kv_heads, head_dim: as the accelerator holds them.
        window: keys that a query attends to at most; length where there is no window. cache_size: B per element of the KV cache.
    """

    sequences: Number
    queries: Number
    length: Number
    heads: Number
    kv_heads: Number
    head_dim: Number
    window: Number
    cache_size: Number

    SPLIT = (
        "sequences",
        "queries",
        "length",
        "heads",
        "kv_heads",
        "head_dim",
        "window",
    )  # both formats of the cache: one fold


class LatentPrefillShape(NamedTuple):
    """Prompts whose keys and values are expanded per head.

    Arguments:
        sequences: prompts at once. queries: new tokens of each. context: tokens of each that were cached before.
        heads: of this device. query_dim, value_dim: of a head: 192 and 128 in DeepSeek's; 576 and 512 where a kernel reads the latent itself.
    """

    sequences: Number
    queries: Number
    context: Number
    heads: Number
    query_dim: Number
    value_dim: Number


class LatentDecodeShape(NamedTuple):
    """New tokens of running sequences, in the absorbed form.

    Arguments:
        sequences: at once. queries: new tokens of each. length: tokens of each in the cache, the new ones included.
        heads: of this device. latent, rope_dim: elements of a token in the cache: 512 and 64 in DeepSeek's. cache_size: B of one.
    """

    sequences: Number
    queries: Number
    length: Number
    heads: Number
    latent: Number
    rope_dim: Number
    cache_size: Number


class ExpertsShape(NamedTuple):
    """The routed experts of a layer, from permuted tokens to combined outputs, on one rank.

    Arguments:
        tokens: that meet at the experts of all groups. used: experts for each. experts: in all. groups: of ranks that share them out.
        hidden, width: of the model, and of one expert's shard. up: outputs of its first product: 2 width where gated.
        excess: rows of the busiest group over the mean. variation: squared coefficient of variation of its experts' popularity, as far as the
            number of them that have any row tells (`variation_of`): 0 where rows are dealt out, 1 where popularity is exponentially distributed.
        weight_size, activation_size: B per element.
    """

    tokens: Number
    used: Number
    experts: Number
    groups: Number
    hidden: Number
    width: Number
    up: Number
    excess: Number
    variation: Number
    weight_size: Number
    activation_size: Number

    SPLIT = (
        "tokens",
        "used",
        "experts",
        "groups",
        "hidden",
        "width",
    )  # all distributions of rows, and all formats: one fold


class Mamba2Shape(NamedTuple):
    """A Mamba-2 scan.

    Arguments:
        sequences: at once. queries: new tokens of each. heads, head_dim: of this device, and of each. state: width of B and C.
        groups: of heads that share B and C, of this device. chunk: tokens of a chunk. state_size: B of an element of the state.
    """

    sequences: Number
    queries: Number
    heads: Number
    head_dim: Number
    state: Number
    groups: Number
    chunk: Number
    state_size: Number = 4.0


class DeltaShape(NamedTuple):
    """A gated delta rule.

    Arguments:
        sequences: at once. queries: new tokens of each. key_heads, key_dim, value_heads, value_dim: of this device, and of each.
        chunk: tokens of a chunk. state_size: B of an element of the state (the mean, where it is read and written in different formats).
    """

    sequences: Number
    queries: Number
    key_heads: Number
    key_dim: Number
    value_heads: Number
    value_dim: Number
    chunk: Number
    state_size: Number = 4.0


class ElementwiseShape(NamedTuple):
    """A kernel bound by memory, and the B that it moves to and from it."""

    moved: Number


class CollectiveShape(NamedTuple):
    """A group of `ranks`, at least 1, and the B of the tensor.

    Arguments:
        volume: B of the whole tensor that each rank starts from (all-reduce, reduce-scatter, all-to-all) or ends with (all-gather).
    """

    ranks: Number
    volume: Number


class ConvShape(NamedTuple):
    """`queries` new tokens of each of `sequences`, `channels` of this device, `width` taps of a filter."""

    sequences: Number
    queries: Number
    channels: Number
    width: Number


class ExchangeShape(NamedTuple):
    """What one rank sends to the experts of its tokens, or gets back from them.

    Arguments:
        ranks: of the group, at least 1. nodes: that they are on.
        tokens: of one rank. own: B of them, each once.
        near, far: B that it sends to other ranks of its node, and to other nodes.
        lanes: experts of the group (low-latency mode), or SMs given to the kernel (normal mode).
    """

    ranks: Number
    nodes: Number
    tokens: Number
    own: Number
    near: Number
    far: Number
    lanes: Number
