"""Decode attention: few queries over a long cache, and one continuous split of the keys.

Queries of heads that share a KV head are one row, unless the kernel reads the cache for each head
`apart`. A compute unit walks through a row in tiles of 128 keys (D = head_dim / 128):

    rows = kv_heads + (heads - kv_heads) apart      of one sequence
    x = sequences rows / places                     places = slots units work on rows
    tile = stream (depth + D) + 512 places queries (heads / rows) head_dim / (FLOP/s efficiency)
    a = ceil(keys / 128) tile + fixed               one row, through all of its keys
    t = sqrt(a**2 (x**2 + alone**2 + merge / (a + merge)) + tile**2 + (bytes / bandwidth)**2)
        + launch + join (tiles - 1) / (tiles (1 + x)) + what a window costs

The terms under the root are the throughput of all rows; the share of a row that no split shortens;
the latency of one row at the best number of splits (sqrt(a merge) for long rows, a for short ones);
that of one tile, which no split goes below; and memory. `join` is the kernel that merges splits,
which one tile does not need. A row of one head runs the *solo* kernel, which has its own latencies.
Which kernel that is, and which heads are read apart, follows from the libraries' published rules:

- TensorRT-LLM reads them apart in groups of more than 32, and where four times the pairs of
  sequence and KV head, times tiles, are fewer than the units (`few`, smooth in the units), unless
  the cache is narrow (decoderXQARunner).
- FlashAttention 2 does with a window, whether or not it reaches (`window_apart`).
- FlashInfer takes the solo kernel for groups below 4 (`pair`).
"""

import math
from typing import ClassVar

from diffgenz.core import xp
from diffgenz.core.smooth import Leaf
from diffgenz.kernels.form import Form, Work, parameter
from diffgenz.kernels.forms.attention_prefill import mean_keys
from diffgenz.kernels.forms.terms import blend, choose, smaller
from diffgenz.kernels.hardware import Chip
from diffgenz.kernels.shapes import DecodeShape, Number

TILE = 128
"""Keys in a tile."""

WIDEST_GROUP = 32
"""Query heads per KV head that all kernels take.

Beyond, some libraries (TensorRT-LLM's XQA) fall back on another kernel.
"""

PAIR = 4
"""Query heads per KV head from which FlashInfer multiplies on tensor cores."""

EMPTY_TILES = 512.0
"""Keys per unit at which half of the splits that find no key in the window are there."""

CROWDED = 5.5
"""Pairs of sequence and KV head per unit at which a full window is no longer split."""


class Decode(Form):
    """Attention of requests that decode.

    It covers grouped queries, sliding windows, drafts and narrow caches. Times are in launches.
    `narrow...` are factors that apply where the cache is narrower than 2 B, `solo...` where a row
    is one head, and `both...` on top where both is so. `alone` is the share of such a row that
    cannot be split, and `narrow_alone` that of a shared one over a narrow cache. `lonely` is how
    much slower solo rows are where a unit has only one. `window` is what a window that cuts costs,
    and `wasted` the splits that find no key in it.
    """

    Shape: ClassVar[type] = DecodeShape

    memory: Leaf = parameter(0.8, 0.5, 1.0)
    compute: Leaf = parameter(0.3, 1.0, 1.0)
    launch: Leaf = parameter(3.0, 0.5)
    narrow_launch: Leaf = parameter(1.0, 0.3, neutral=1.0)
    solo_launch: Leaf = parameter(1.0, 0.3, neutral=1.0)
    both_launch: Leaf = parameter(1.0, 0.3, neutral=1.0)
    stream: Leaf = parameter(0.3)
    depth: Leaf = parameter(0.2)
    solo_depth: Leaf = parameter(2.5, 1.4, neutral=1.0)
    narrow: Leaf = parameter(1.0, 0.7, neutral=1.0)
    solo: Leaf = parameter(0.5, 0.7, neutral=1.0)
    both: Leaf = parameter(1.5, 0.7, neutral=1.0)
    fixed: Leaf = parameter(0.7)
    narrow_fixed: Leaf = parameter(1.0, 0.7, neutral=1.0)
    solo_fixed: Leaf = parameter(0.5, neutral=1.0)
    slots: Leaf = parameter(1.0, 0.7)
    lonely: Leaf = parameter(0.3, neutral=0.0)
    merge: Leaf = parameter(0.2, neutral=0.0)
    join: Leaf = parameter(1.0, neutral=0.0)
    alone: Leaf = parameter(0.03, 1.5, neutral=0.0)
    narrow_alone: Leaf = parameter(0.03, 1.5, neutral=0.0)
    window: Leaf = parameter(0.5, neutral=0.0)
    wasted: Leaf = parameter(0.1, 1.5, neutral=0.0)
    window_apart: Leaf = parameter(0.1, 1.5, 1.0, neutral=0.0)
    wide_apart: Leaf = parameter(0.1, 1.5, 1.0, neutral=0.0)
    pair: Leaf = parameter(0.1, 1.5, 1.0, neutral=0.0)
    few: Leaf = parameter(0.1, 1.5, 1.0, neutral=0.0)

    @classmethod
    def work(cls, shape: DecodeShape) -> Work:
        """Every pair of query and key; keys and values read once, queries and outputs of 1 B."""
        b, q, s, h, kv, d, w, cache = shape
        return Work(
            4 * b * q * h * d * mean_keys(q, s - q, w),
            2 * b * d * (kv * smaller(s, w + q - 1) * cache + q * h),
        )

    def seconds(self, shape: DecodeShape, chip: Chip) -> Number:
        b, q, s, h, kv, d, w, cache = shape
        narrow, width = cache < 2, d * (1 / 128)
        keys = smaller(s, w + q - 1)
        tiles = self.rounded_up(keys * (1 / TILE))
        apart = self._apart(shape, chip)
        solo = self._solo(shape, apart)
        rows = kv if apart is None else kv + (h - kv) * apart

        places = chip.units * self.slots
        x = b * rows * (1 / places)
        if self.has("lonely"):
            x = x * (1 + self.lonely * solo / (1 + x))

        solo_tile = self.solo * choose(narrow, self.both, 1.0)
        steps = blend(self.depth + width, solo_tile * (self.depth * self.solo_depth + width), solo)
        if not any(map(self.has, ("solo", "both", "solo_depth"))):
            steps = self.depth + width
        tile = self.stream * chip.launch * choose(narrow, self.narrow, 1.0) * steps
        tile = tile + q * h / rows * d * (4 * TILE * places / (chip.flops * self.compute))

        fixed = choose(narrow, self.narrow_fixed, 1.0) * blend(1.0, self.solo_fixed, solo)
        a = tiles * tile + self.fixed * chip.launch * fixed
        spread = x * x
        if self.has("alone") or self.has("narrow_alone"):
            alone = blend(choose(narrow, self.narrow_alone, 0.0), self.alone, solo)
            spread = spread + alone * alone
        if self.has("merge"):
            merge = self.merge * chip.launch
            spread = spread + merge / (a + merge)
        moving = b * d * (kv * keys * cache + 2 * q * h) * (2 / (chip.bandwidth * self.memory))

        solo_launch = blend(1.0, self.solo_launch * choose(narrow, self.both_launch, 1.0), solo)
        launches = self.launch * choose(narrow, self.narrow_launch, 1.0) * solo_launch
        if self.has("join"):
            launches = launches + self.join * (tiles - 1) / (tiles * (1 + x))
        cut = self._cut(shape, chip)
        launches = launches if cut is None else launches + cut
        return xp.sqrt(a * a * spread + tile * tile + moving * moving) + launches * chip.launch

    def _apart(self, shape: DecodeShape, chip: Chip) -> Number | None:
        """The share of heads that read the cache apart; None where they never do."""
        b, q, s, h, kv, _, w, cache = shape
        found: Number | None = None
        if self.has("few"):
            steps = xp.floor((s - q) * (1 / TILE))
            r = 0.25 * chip.units / (b * kv * xp.where(steps > 1, steps, 1.0))
            squared = r * r
            eighth = (squared * squared) * (squared * squared)
            found = self.few * eighth / (1 + eighth)
        if self.has("window_apart"):
            windowed = xp.where(w < math.inf, self.window_apart, 0.0)
            found = windowed if found is None else xp.where(windowed > found, windowed, found)
        if found is not None:
            found = xp.where(cache < 2, 0.0, found)
        if self.has("wide_apart"):
            wide = xp.where(h > WIDEST_GROUP * kv, self.wide_apart, 0.0)
            found = wide if found is None else xp.where(wide > found, wide, found)
        return found

    def _solo(self, shape: DecodeShape, apart: Number | None) -> Number:
        """The share of rows that run the kernel of one query head per KV head."""
        _, _, _, h, kv, _, _, cache = shape
        share: Number = 0.0 if apart is None else apart
        if self.has("pair"):
            few = (h < PAIR * kv) & (cache >= 2)
            share = xp.where(few & (self.pair > share), self.pair, share)
        return xp.where(h == kv, 1.0, share)

    def _cut(self, shape: DecodeShape, chip: Chip) -> Number | None:
        """Launches that a window shorter than the sequence costs; None where it costs nothing."""
        b, _, s, _, kv, _, w, cache = shape
        if not (self.has("window") or self.has("wasted")):
            return None
        cost: Number = self.window
        if self.has("wasted"):
            pairs = b * kv
            crowd = pairs / (CROWDED * chip.units)
            crowd = crowd * crowd
            share = pairs * s / ((pairs * s + EMPTY_TILES * chip.units) * (1 + crowd * crowd))
            cost = cost + xp.where(cache < 2, 0.0, self.wasted * share)
        return xp.where(w < s, cost, 0.0)
