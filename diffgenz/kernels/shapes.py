"""What describes one execution of each family of kernels.

Shapes are the contract between operators, which fill them in, measurements, which have them as
columns, and forms, which take them.
"""

from typing import NamedTuple

import jax
import numpy as np

Number = jax.Array | np.ndarray | np.floating | float
"""One number, or an array of them: fits and reports work on whole columns."""


class GemmShape(NamedTuple):
    """A matrix product (m, k) x (k, n).

    Arguments:
        m, n, k: its dimensions, at least 1.
        moved: bytes to and from memory.
    """

    m: Number
    n: Number
    k: Number
    moved: Number


class BatchedShape(NamedTuple):
    """Many matrix products (m, k) x (k, n) in one launch.

    Arguments:
        m, n, k: dimensions of each, at least 1.
        groups: how many there are, at least 1.
        moved: bytes of all second operands (the weights), which come from memory.
    """

    m: Number
    n: Number
    k: Number
    groups: Number
    moved: Number


class PrefillShape(NamedTuple):
    """Causal attention of new tokens over themselves and over what is cached.

    Arguments:
        sequences: sequences in the batch.
        queries: new tokens of each.
        context: tokens of each that are in the cache already.
        heads: query heads that the accelerator holds.
        kv_heads: key and value heads that it holds.
        head_dim: elements of a head.
        window: keys that a query attends to at most, itself included; infinity where there is no
            window. One that is longer than the sequence is still one: it may run another kernel.
        cache_size: bytes per element of the KV cache.
    """

    sequences: Number
    queries: Number
    context: Number
    heads: Number
    kv_heads: Number
    head_dim: Number
    window: Number
    cache_size: Number

    # what decides if a row is held out: both formats of the cache, and kernels with and without
    # a window that does not reach, are one fold
    SPLIT = ("sequences", "queries", "context", "heads", "kv_heads", "head_dim", "within")
    ENDLESS = ("window",)

    @property
    def within(self) -> Number:
        """Keys that a query attends to at most: all where there is no window."""
        return np.minimum(self.window, np.add(self.context, self.queries))


class DecodeShape(NamedTuple):
    """Attention of a few new tokens of each running sequence over its cache.

    Arguments:
        sequences: sequences in the batch.
        queries: new tokens of each: 1, or more where drafts are verified.
        length: tokens of each in the cache, the new ones included.
        heads: query heads that the accelerator holds.
        kv_heads: key and value heads that it holds.
        head_dim: elements of a head.
        window: keys that a query attends to at most; infinity where there is no window. One that
            is longer than the sequence is still one: it may run another kernel.
        cache_size: bytes per element of the KV cache.
    """

    sequences: Number
    queries: Number
    length: Number
    heads: Number
    kv_heads: Number
    head_dim: Number
    window: Number
    cache_size: Number

    # what decides if a row is held out, as in `PrefillShape`
    SPLIT = ("sequences", "queries", "length", "heads", "kv_heads", "head_dim", "within")
    ENDLESS = ("window",)

    @property
    def within(self) -> Number:
        """Keys that a query attends to at most: all where there is no window."""
        return np.minimum(self.window, self.length)


class LatentPrefillShape(NamedTuple):
    """Latent attention over prompts, whose keys and values are expanded per head.

    Arguments:
        sequences: prompts at once.
        queries: new tokens of each.
        context: tokens of each that were cached before.
        heads: heads of this device.
        query_dim: elements of a query: 192 in DeepSeek's models, 576 where a kernel reads the
            latent itself.
        value_dim: elements of a value: 128, or 512 where a kernel reads the latent itself.
    """

    sequences: Number
    queries: Number
    context: Number
    heads: Number
    query_dim: Number
    value_dim: Number


class LatentDecodeShape(NamedTuple):
    """Latent attention of new tokens of running sequences, in the absorbed form.

    Arguments:
        sequences: sequences at once.
        queries: new tokens of each.
        length: tokens of each in the cache, the new ones included.
        heads: heads of this device.
        latent: elements of a token's latent: 512 in DeepSeek's models.
        rope_dim: elements of its rotary part: 64 in DeepSeek's models.
        cache_size: bytes of an element of the cache.
    """

    sequences: Number
    queries: Number
    length: Number
    heads: Number
    latent: Number
    rope_dim: Number
    cache_size: Number


class ExpertsShape(NamedTuple):
    """The routed experts of a layer on one rank, from permuted tokens to combined outputs.

    Arguments:
        tokens: tokens that meet at the experts of all groups.
        used: experts of each token.
        experts: experts of all groups.
        groups: groups of ranks that share the experts out.
        hidden: width of the model.
        width: width of one expert's shard.
        up: outputs of its first product: 2 width where gated.
        excess: rows of the busiest group over the mean of all groups, at least 1.
        variation: squared coefficient of variation of the popularity of the busiest group's
            experts, as far as the number of them with any row tells (`variation_of`): 0 where rows
            are dealt out, 1 where popularity is exponentially distributed.
        weight_size: bytes per element of weights.
        activation_size: bytes per element of activations.
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

    # what decides if a row is held out: all distributions of rows and all formats are one fold
    SPLIT = ("tokens", "used", "experts", "groups", "hidden", "width")


class Mamba2Shape(NamedTuple):
    """A Mamba-2 scan.

    Arguments:
        sequences: sequences at once.
        queries: new tokens of each.
        heads: heads of this device.
        head_dim: elements of a head.
        state: width of B and C.
        groups: groups of heads that share B and C, of this device.
        chunk: tokens of a chunk.
        state_size: bytes of an element of the state.
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
        sequences: sequences at once.
        queries: new tokens of each.
        key_heads: key heads of this device.
        key_dim: elements of a key.
        value_heads: value heads of this device.
        value_dim: elements of a value.
        chunk: tokens of a chunk.
        state_size: bytes of an element of the state; the mean of reading and writing where their
            formats differ.
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
    """A kernel bound by memory.

    Arguments:
        moved: bytes to and from memory.
    """

    moved: Number


class CollectiveShape(NamedTuple):
    """A collective in a group of ranks.

    Arguments:
        ranks: size of the group, at least 1.
        volume: bytes of the whole tensor that each rank starts from (all-reduce, reduce-scatter,
            all-to-all) or ends with (all-gather).
    """

    ranks: Number
    volume: Number


class ConvShape(NamedTuple):
    """A causal convolution along the tokens.

    Arguments:
        sequences: sequences at once.
        queries: new tokens of each.
        channels: channels of this device.
        width: taps of a filter.
    """

    sequences: Number
    queries: Number
    channels: Number
    width: Number


class ExchangeShape(NamedTuple):
    """What one rank sends to the experts of its tokens, or gets back from them.

    Arguments:
        ranks: size of the group, at least 1.
        nodes: nodes that the ranks are on.
        tokens: tokens of one rank.
        own: bytes of these tokens, each counted once.
        near: bytes that the rank sends to other ranks of its node.
        far: bytes that it sends to other nodes.
        lanes: experts of the group (low-latency mode), or SMs of the kernel (normal mode).
    """

    ranks: Number
    nodes: Number
    tokens: Number
    own: Number
    near: Number
    far: Number
    lanes: Number
