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
    """`groups` products (m, k) x (k, n) in one kernel, and the B that all move to and from memory."""

    m: Number
    n: Number
    k: Number
    groups: Number
    moved: Number


class PrefillShape(NamedTuple):
    """Causal attention of `queries` new tokens of each sequence over them and `context` cached ones.

    window: keys that a query sees, at most context + queries. cache_size: B per element of the KV cache.
    """

    sequences: Number
    queries: Number
    context: Number
    heads: Number
    kv_heads: Number
    head_dim: Number
    window: Number
    cache_size: Number


class DecodeShape(NamedTuple):
    """Attention of `queries` new tokens of each sequence (1, or drafts too) over the `length` tokens cached, themselves included.

    window: keys that a query sees, at most `length`. cache_size: B per element of the KV cache.
    """

    sequences: Number
    queries: Number
    length: Number
    heads: Number
    kv_heads: Number
    head_dim: Number
    window: Number
    cache_size: Number


class LatentPrefillShape(NamedTuple):
    """Causal multi-head attention over keys and values expanded from latent vectors, otherwise as `PrefillShape`."""

    sequences: Number
    queries: Number
    context: Number
    heads: Number
    query_dim: Number
    value_dim: Number


class LatentDecodeShape(NamedTuple):
    """Absorbed multi-query attention over latent vectors of latent + rope_dim, otherwise as `DecodeShape`."""

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
        excess: rows of the busiest group over the mean, where known. variation: squared coefficient of variation of the experts' popularity.
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


class Mamba2Shape(NamedTuple):
    """A Mamba-2 scan of `queries` new tokens of each sequence: `heads` states of head_dim x state, B and C shared in `groups`."""

    sequences: Number
    queries: Number
    heads: Number
    head_dim: Number
    state: Number
    groups: Number
    chunk: Number


class DeltaShape(NamedTuple):
    """A gated delta rule over `queries` new tokens of each sequence: a state of key_dim x value_dim for each value head."""

    sequences: Number
    queries: Number
    key_heads: Number
    key_dim: Number
    value_heads: Number
    value_dim: Number
    chunk: Number


class ElementwiseShape(NamedTuple):
    """A kernel bound by memory, and the B that it moves to and from it."""

    moved: Number


class CollectiveShape(NamedTuple):
    """A collective of `ranks` over a tensor of `volume` B (as in `topology`)."""

    ranks: Number
    volume: Number
