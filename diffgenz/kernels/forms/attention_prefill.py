"""Prefill attention: blocks of 128 queries by 128 keys, their softmax, and the longest row.

    block = 4 128**2 head_dim units / (FLOP/s efficiency) + softmax    one block on one compute unit
    z = queries / 128,  packed = kv_heads .. heads       queries of a group may share a block
    x = sequences (heads z + pad packed (ceil(z) - z)) / units         rows of blocks per unit
    a = block (mean keys / 128 + edge) + prologue        a row of mean length, under the causal mask
    l = longest block (most keys / 128 + edge) + latency               the longest row
    t = sqrt((a x)**2 + l**2) + bytes / bandwidth + append + launch

The longest row is a bound that more compute units do not shorten. `append` is what the new tokens
cost on their way into the cache: work of the compute units per token and KV head, less of it where
there are many KV heads. It does not follow the bandwidth (measured: H200 is no faster at it than
H100); bytes / bandwidth is the true floor beside it.
"""

from typing import ClassVar

from diffgenz.core import xp
from diffgenz.core.smooth import Leaf, hypotenuse
from diffgenz.kernels.form import Form, Work, parameter
from diffgenz.kernels.hardware import Chip
from diffgenz.kernels.shapes import Number, PrefillShape

BLOCK = 128
"""Queries in a block, and keys in a block."""


def mean_keys(queries: Number, context: Number, window: Number) -> Number:
    """Keys that a query attends to under the causal mask, averaged over `queries`.

    The i-th query attends to min(window, context + i) keys.

    Arguments:
        queries: new tokens of a sequence, at least 1.
        context: tokens of the sequence that are in the cache already.
        window: keys that a query attends to at most, itself included.
    """
    # what the last query leaves out; each query before it leaves out one less
    beyond = context + queries - window
    cut = xp.minimum(beyond, queries)
    return context + 0.5 * (queries + 1) - cut * (2 * beyond - cut + 1) / (2 * queries)


class Prefill(Form):
    """Attention over a prompt, or over a chunk of one.

    It covers grouped queries, sliding windows, cached prefixes and narrow caches. Times are in
    launches, `edge` and `window` in blocks. `narrow...` are factors that apply where the cache is
    narrower than 2 B. `unpacked` is the share of a group's heads that have blocks of their own;
    it is smaller by its share `packed` where each sequence has one query.
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
            2 * b * d * (kv * xp.minimum(s + q, w + q - 1) * cache + q * h),
        )

    def seconds(self, shape: PrefillShape, chip: Chip) -> Number:
        b, q, context, h, kv, d, w, cache = shape
        keys = xp.minimum(context + q, w + q - 1)
        z = q * (1 / BLOCK)
        is_narrow = cache < 2

        softmax = self.softmax * chip.launch
        per_channel = 4 * BLOCK * BLOCK * chip.units / (chip.flops * self.compute)
        block = d * per_channel * xp.where(is_narrow, self.narrow, 1.0)
        block = block + xp.where(is_narrow, softmax * self.narrow_softmax, softmax)

        heads = kv + (h - kv) * self.unpacked * (1 - self.packed / q)
        x = b * (h * z + self.pad * heads * (self.rounded_up(z) - z)) * (1 / chip.units)
        edge = self.edge + xp.where(w < context + q, self.window, 0.0)
        prologue = self.prologue * chip.launch
        a = block * (mean_keys(q, context, w) * (1 / BLOCK) + edge) + prologue
        longest = self.longest * block * (w * (1 / BLOCK) + edge) + self.latency * chip.launch
        computing = a * x

        moving = b * d * (2 * q * h + kv * keys * cache) * (2 / (chip.bandwidth * self.memory))
        per_token = self.append * chip.launch
        per_token = xp.where(is_narrow, per_token * self.narrow_append, per_token)
        crowd = 1 + self.saturation * kv
        append = per_token * b * q * kv * (self.depth + d * (1 / 128)) / (crowd * chip.units)
        launch = self.launch * chip.launch
        return hypotenuse(computing, longest) + moving + append + launch
