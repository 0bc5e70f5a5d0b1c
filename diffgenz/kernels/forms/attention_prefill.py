"""Prefill attention: blocks of 128 queries by 128 keys, their softmax, and the longest row of blocks.

    block = 4 128**2 head_dim units / (FLOP/s efficiency) + softmax      one block on one compute unit
    z = queries / 128,  packed = kv_heads .. heads                       few queries of a group may share a block
    x = sequences (heads z + pad packed (ceil(z) - z)) / units           rows of blocks per compute unit
    a = block (mean keys / 128 + edge) + prologue                        one row, of mean length under the causal mask
    l = longest block (most keys / 128 + edge) + latency                 the longest row, which none shortens
    t = sqrt((a x)**2 + l**2) + bytes / bandwidth + append + launch

`append` is what the new tokens cost on their way into the cache: work of the compute units, per token and KV head, less of it where there are
many KV heads. It does not follow the bandwidth (measured: H200 is no faster at it than H100); bytes / bandwidth is the true floor beside it.
"""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from diffgenz.core.smooth import Leaf
from diffgenz.kernels.form import Chip, Form, Timer, Work, parameter
from diffgenz.kernels.shapes import Number, PrefillShape

BLOCK = 128
"""Queries, and keys, in a block."""


def mean_keys(queries: Number, context: Number, window: Number) -> Number:
    """Keys that a query attends to under the causal mask, on average: the i-th to min(window, context + i)."""
    beyond = (
        context + queries - window
    )  # keys that the last query leaves out; each one before it, one less
    cut = jnp.minimum(beyond, queries)
    return context + 0.5 * (queries + 1) - cut * (2 * beyond - cut + 1) / (2 * queries)


class Prefill(Form):
    """Attention over a prompt, or a chunk of one, with or without grouped queries, window, cached prefix and a narrow cache.

    Times are in launches, `edge` and `window` in blocks. `narrow...` are factors where the cache is narrower than 2 B. `unpacked` is the share
    of a group's heads that have blocks of their own, less the share `packed` of it where each sequence has one query.
    """

    Shape: ClassVar[type] = PrefillShape

    compute: Leaf = parameter(0.7, 0.5, 1.0)
    memory: Leaf = parameter(0.7, 0.5, 1.0)
    launch: Leaf = parameter(4.0, 0.5)
    softmax: Leaf = parameter(0.2)
    narrow: Leaf = parameter(1.0, 0.3)
    narrow_softmax: Leaf = parameter(1.0, 0.3)
    prologue: Leaf = parameter(0.3)
    edge: Leaf = parameter(0.5)
    window: Leaf = parameter(0.5)
    pad: Leaf = parameter(0.5)
    unpacked: Leaf = parameter(0.3)
    packed: Leaf = parameter(0.7, 1.5, 1.0)
    longest: Leaf = parameter(1.0)
    latency: Leaf = parameter(0.5)
    append: Leaf = parameter(0.05)
    depth: Leaf = parameter(0.5)
    saturation: Leaf = parameter(0.05)
    narrow_append: Leaf = parameter(1.0, 0.3)

    @classmethod
    def work(cls, shape: PrefillShape) -> Work:
        """Every pair of query and key; keys and values read once, queries and outputs of 1 B."""
        b, q, s, h, kv, d, w, cache = shape
        return Work(
            4 * b * q * h * d * mean_keys(q, s, w),
            2 * b * d * (kv * jnp.minimum(s + q, w + q - 1) * cache + q * h),
        )

    def on(self, chip: Chip) -> Timer:
        softmax, append = self.softmax * chip.launch, self.append * chip.launch / chip.units
        return PrefillTimer(
            per_unit=1 / chip.units,
            per_byte=2 / (chip.bandwidth * self.memory),
            per_channel=4 * BLOCK * BLOCK * chip.units / (chip.flops * self.compute),
            softmax=softmax,
            narrow=self.narrow,
            narrow_softmax=softmax * self.narrow_softmax,
            prologue=self.prologue * chip.launch,
            edge=self.edge,
            window=self.window,
            pad=self.pad,
            unpacked=self.unpacked,
            packed=self.packed,
            longest=self.longest,
            latency=self.latency * chip.launch,
            append=append,
            narrow_append=append * self.narrow_append,
            depth=self.depth,
            saturation=self.saturation,
            launch=self.launch * chip.launch,
        )


class PrefillTimer(eqx.Module):
    """A `Prefill` on one accelerator."""

    per_unit: Number
    per_byte: Number
    per_channel: Number
    softmax: Number
    narrow: Number
    narrow_softmax: Number
    prologue: Number
    edge: Number
    window: Number
    pad: Number
    unpacked: Number
    packed: Number
    longest: Number
    latency: Number
    append: Number
    narrow_append: Number
    depth: Number
    saturation: Number
    launch: Number

    def __call__(self, shape: PrefillShape) -> Leaf:
        b, q, context, h, kv, d, w, cache = shape
        narrow = cache < 2
        keys = jnp.minimum(context + q, w + q - 1)
        z = q * (1 / BLOCK)
        block = d * self.per_channel * jnp.where(narrow, self.narrow, 1.0) + jnp.where(
            narrow, self.narrow_softmax, self.softmax
        )
        edge = self.edge + jnp.where(w < context + q, self.window, 0.0)
        heads = kv + (h - kv) * self.unpacked * (1 - self.packed / q)
        x = b * (h * z + self.pad * heads * (jnp.ceil(z) - z)) * self.per_unit
        a = block * (mean_keys(q, context, w) * (1 / BLOCK) + edge) + self.prologue
        longest = self.longest * block * (w * (1 / BLOCK) + edge) + self.latency
        computing = a * x
        moving = b * d * (2 * q * h + kv * keys * cache) * self.per_byte
        append = (
            jnp.where(narrow, self.narrow_append, self.append)
            * b
            * q
            * kv
            * (self.depth + d * (1 / 128))
            / (1 + self.saturation * kv)
        )
        return jnp.sqrt(computing * computing + longest * longest) + moving + append + self.launch
