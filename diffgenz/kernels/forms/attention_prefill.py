"""Prefill attention: blocks of 128 queries by 128 keys, their softmax, and the longest row.

    block = 4 128**2 head_dim units / (FLOP/s efficiency) + softmax    one block on one compute unit
    z = queries / 128,  own = kv_heads .. heads          queries of a group may share a block
    x = sequences (heads z + pad own (ceil(z) - z)) / units            rows of blocks per unit
    idle = 1 / (1 + x**8)                                where units are left over, keys are split
    a = block (mean keys / 128 + margin) + prologue      a row of mean length, under the causal mask
    l = longest block (most keys / 128 (1 - split idle) + margin) + latency      the longest row
    t = sqrt((a x)**2 + l**2) + bytes / bandwidth + append + merge idle + launch

The longest row is a bound that more compute units do not shorten, unless keys are split. `append`
is what the new tokens cost on their way into the cache: work of the compute units per token and KV
head, less of it where there are many KV heads. It does not follow the bandwidth (measured: H200 is
no faster at it than H100); bytes / bandwidth is the true floor beside it.
"""

import math
from typing import ClassVar

from diffgenz.core import xp
from diffgenz.core.smooth import Leaf, hypotenuse
from diffgenz.kernels.form import Form, Work, parameter
from diffgenz.kernels.forms.terms import choose, smaller
from diffgenz.kernels.hardware import Chip
from diffgenz.kernels.shapes import Number, PrefillShape

BLOCK = 128
"""Queries in a block, and keys in a block."""

MADE_FOR, MADE_WITHIN = 160, 32
"""Middle and half the range of the head dimensions that kernels are made for: 128 to 192."""

BUSY = 30.0
"""Rows per unit from which no unit is idle; beyond, an 8th power would overflow float32."""


def mean_keys(queries: Number, context: Number, window: Number) -> Number:
    """Keys that a query attends to under the causal mask, averaged over `queries`.

    The i-th query attends to min(window, context + i) keys.

    Arguments:
        queries: new tokens of a sequence, at least 1.
        context: tokens of the sequence that are in the cache already.
        window: keys that a query attends to at most, itself included; infinity for no window.
    """
    # what the last query leaves out; each query before it leaves out one less
    reach = context + queries
    beyond = xp.where(window < reach, reach - window, 0.0)
    cut = smaller(beyond, queries)
    return context + 0.5 * (queries + 1) - cut * (2 * beyond - cut + 1) / (2 * queries)


class Prefill(Form):
    """Attention over a prompt, or over a chunk of one.

    It covers grouped queries, sliding windows, cached prefixes and narrow caches. Times are in
    launches, `margin` and `window` in blocks. `narrow...` are factors that apply where the cache is
    narrower than 2 B, and `other` is one for head dimensions that kernels are not made for.
    `unpacked` is the share of a group's heads that have blocks of their own; it is smaller by its
    share `packed` where each sequence has one query, of which a window leaves `packed_window`.
    `blind` is the share of keys beyond a window that are walked through all the same, `split` that
    of the longest row that splitting its keys saves, and `merge` what that costs per token and
    head. `passes` is how often queries and outputs move, and `fills` how often new keys and values
    do beside their reading.
    """

    Shape: ClassVar[type] = PrefillShape

    compute: Leaf = parameter(0.7, 0.5, 1.0)
    memory: Leaf = parameter(0.7, 1.0, 1.0)
    launch: Leaf = parameter(3.0, 0.5)
    narrow_launch: Leaf = parameter(1.0, 0.3, neutral=1.0)
    softmax: Leaf = parameter(0.2)
    narrow: Leaf = parameter(1.0, 0.3, neutral=1.0)
    narrow_softmax: Leaf = parameter(1.0, 0.3, neutral=1.0)
    other: Leaf = parameter(1.0, 0.5, neutral=1.0)
    prologue: Leaf = parameter(0.5, neutral=0.0)
    margin: Leaf = parameter(0.3)
    window: Leaf = parameter(0.5, neutral=0.0)
    blind: Leaf = parameter(0.03, 1.5, 1.0, neutral=0.0)
    pad: Leaf = parameter(0.7)
    unpacked: Leaf = parameter(0.3)
    packed: Leaf = parameter(0.7, 1.5, 1.0)
    packed_window: Leaf = parameter(0.9, 2.0, 1.0, neutral=1.0)
    longest: Leaf = parameter(1.0)
    latency: Leaf = parameter(0.5)
    split: Leaf = parameter(0.2, 1.5, 1.0, neutral=0.0)
    merge: Leaf = parameter(0.01, 1.5, neutral=0.0)
    append: Leaf = parameter(0.03, neutral=0.0)
    depth: Leaf = parameter(0.3, neutral=0.0)
    saturation: Leaf = parameter(0.05, neutral=0.0)
    narrow_append: Leaf = parameter(1.0, 0.3, neutral=1.0)
    passes: Leaf = parameter(0.6, 0.7, neutral=1.0)
    fills: Leaf = parameter(1.0, neutral=1.0)

    @classmethod
    def work(cls, shape: PrefillShape) -> Work:
        """Every pair of query and key; keys and values read once, queries and outputs of 1 B."""
        b, q, s, h, kv, d, w, cache = shape
        return Work(
            4 * b * q * h * d * mean_keys(q, s, w),
            2 * b * d * (kv * smaller(s + q, w + q - 1) * cache + q * h),
        )

    def seconds(self, shape: PrefillShape, chip: Chip) -> Number:
        b, q, context, h, kv, d, w, cache = shape
        narrow, total = cache < 2, context + q
        mean, most, keys = mean_keys(q, context, w), smaller(total, w), smaller(total, w + q - 1)
        if self.has("blind"):
            mean = mean + self.blind * (context + 0.5 * (q + 1) - mean)
            most = most + self.blind * (total - most)
        strange: Number = 1.0
        if self.has("other"):
            from_middle = d - MADE_FOR
            made = from_middle * from_middle <= MADE_WITHIN * MADE_WITHIN
            strange = xp.where(made, 1.0, self.other)

        per_channel = 4 * BLOCK * BLOCK * chip.units / (chip.flops * self.compute)
        softmax = self.softmax * chip.launch * choose(narrow, self.narrow_softmax, 1.0)
        block = (d * per_channel * choose(narrow, self.narrow, 1.0) + softmax) * strange
        margin = self.margin
        if self.has("window"):
            margin = margin + xp.where(w < total, self.window, 0.0)

        z = q * (1 / BLOCK)
        packed = self.packed * choose(w < math.inf, self.packed_window, 1.0)
        heads = kv + (h - kv) * self.unpacked * (1 - packed / q)
        x = b * (h * z + self.pad * heads * (self.rounded_up(z) - z)) * (1 / chip.units)
        a = block * (mean * (1 / BLOCK) + margin)
        if self.has("prologue"):
            a = a + self.prologue * chip.launch * strange

        idle = self._idle(x)
        blocks = most * (1 / BLOCK)
        blocks = blocks * (1 - self.split * idle) if self.has("split") else blocks
        longest = self.longest * block * (blocks + margin) + self.latency * chip.launch

        queries, ours = self.passes * (2 * q * h), kv * cache * (keys + self.fills * q)
        moving = b * d * (queries + ours) * (2 / (chip.bandwidth * self.memory))
        launches = self.launch * choose(narrow, self.narrow_launch, 1.0)
        if self.has("append") or self.has("merge"):
            launches = launches + b * q * self._per_token(shape, idle) * (1 / chip.units)
        return hypotenuse(a * x, longest) + moving + launches * chip.launch

    def _idle(self, x: Number) -> Number:
        """Whether `x` rows per unit leave units over, from 1 to 0; 0 where no term needs it."""
        if not (self.has("split") or self.has("merge")):
            return 0.0
        squared = xp.where(x < BUSY, x * x, BUSY * BUSY)
        fourth = squared * squared
        return 1 / (1 + fourth * fourth)

    def _per_token(self, shape: PrefillShape, idle: Number) -> Number:
        """Launches of one unit that a new token costs: its way into the cache, merged splits."""
        _, q, _, h, kv, d, _, cache = shape
        cost: Number = 0.0
        if self.has("append"):
            per_head = self.append * choose(cache < 2, self.narrow_append, 1.0)
            crowd = 1 + self.saturation * kv if self.has("saturation") else 1.0
            width = d * (1 / 128) + self.depth if self.has("depth") else d * (1 / 128)
            cost = kv * per_head * width / crowd
        if self.has("merge"):
            cost = cost + xp.where(q > BLOCK, self.merge * h * idle, 0.0)
        return cost
