"""Decode attention: few queries over a long cache, and one continuous split of the keys.

Every sequence and KV head is a row, which a compute unit walks through in tiles of 128 keys:

    x = sequences kv_heads / (slots units)                       rows per place that works on them
    flop = 512 queries group head_dim slots units / (FLOP/s efficiency)
    tile = stream + flop                                         128 keys of one row; stream grows with head_dim, whatever the bandwidth
    a = ceil(keys / 128) tile + fixed                            one row, through all of its keys
    b = merge + crowd x                                          one more split of the keys
    t = sqrt((a x)**2 + a**2 b / (a + b) + tile**2 + (bytes / bandwidth)**2) + launch + row sequences

The terms under the root: throughput of all rows; latency of one at the best number of splits, which is never below that of one tile; memory.
The form of the middle one is sqrt(a b) for long rows (splits of equal cost to their merging) and a for short ones (no split).
"""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from diffgenz.core.smooth import Leaf
from diffgenz.kernels.form import Chip, Form, Timer, Work, parameter
from diffgenz.kernels.forms.attention_prefill import mean_keys
from diffgenz.kernels.shapes import DecodeShape, Number

TILE = 128
"""Keys in a tile."""

WIDEST_GROUP = 32
"""Query heads per KV head beyond which some libraries (TensorRT-LLM's XQA) fall back on another kernel."""


class Decode(Form):
    """Attention of requests that decode, with or without grouped queries, window, drafts and a narrow cache.

    Times are in launches. `narrow...` are factors where the cache is narrower than 2 B, `wide` one where more than `WIDEST_GROUP` query heads
    share a KV head; `alone` is the share of a row that cannot be split where no heads share one (kernels that split only grouped queries).
    """

    Shape: ClassVar[type] = DecodeShape

    memory: Leaf = parameter(0.8, 0.5, 1.0)
    compute: Leaf = parameter(0.3, 1.0, 1.0)
    launch: Leaf = parameter(3.0, 0.5)
    narrow_launch: Leaf = parameter(1.0, 0.3)
    stream: Leaf = parameter(0.2)
    depth: Leaf = parameter(0.5)
    narrow: Leaf = parameter(1.0, 0.3)
    wide: Leaf = parameter(1.0, 0.7)
    fixed: Leaf = parameter(0.3)
    slots: Leaf = parameter(2.0, 0.7)
    merge: Leaf = parameter(2.0)
    crowd: Leaf = parameter(1.0)
    alone: Leaf = parameter(0.01, 1.5)
    row: Leaf = parameter(0.001, 1.5)
    window: Leaf = parameter(0.1)

    @classmethod
    def work(cls, shape: DecodeShape) -> Work:
        """Every pair of query and key; keys and values read once, queries and outputs of 1 B."""
        b, q, s, h, kv, d, w, cache = shape
        return Work(
            4 * b * q * h * d * mean_keys(q, s - q, w),
            2 * b * d * (kv * jnp.minimum(s, w + q - 1) * cache + q * h),
        )

    def on(self, chip: Chip) -> Timer:
        places = chip.units * self.slots
        stream = self.stream * chip.launch
        return DecodeTimer(
            per_row=1 / places,
            per_byte=2 / (chip.bandwidth * self.memory),
            per_flop=4 * TILE * places / (chip.flops * self.compute),
            stream=stream * self.depth,
            per_channel=stream / 128,
            narrow=self.narrow,
            wide=self.wide,
            fixed=self.fixed * chip.launch,
            merge=self.merge * chip.launch,
            crowd=self.crowd * chip.launch,
            alone=self.alone,
            launch=self.launch * chip.launch,
            narrow_launch=self.narrow_launch * self.launch * chip.launch,
            sequence=self.row * chip.launch,
            window=self.window * chip.launch,
        )


class DecodeTimer(eqx.Module):
    """A `Decode` on one accelerator."""

    per_row: Number
    per_byte: Number
    per_flop: Number
    stream: Number
    per_channel: Number
    narrow: Number
    wide: Number
    fixed: Number
    merge: Number
    crowd: Number
    alone: Number
    launch: Number
    narrow_launch: Number
    sequence: Number
    window: Number

    def __call__(self, shape: DecodeShape) -> Leaf:
        b, q, s, h, kv, d, w, cache = shape
        keys = jnp.minimum(s, w + q - 1)
        queries = q * h
        x = b * kv * self.per_row
        tile = (self.stream + d * self.per_channel) * jnp.where(
            cache < 2, self.narrow, 1.0
        ) + queries / kv * d * self.per_flop
        tile = tile * jnp.where(h > WIDEST_GROUP * kv, self.wide, 1.0)
        a = jnp.ceil(keys * (1 / TILE)) * tile + self.fixed
        merging = self.merge + self.crowd * x
        unsplit = jnp.where(h == kv, self.alone, 0.0)
        moving = b * d * (kv * keys * cache + 2 * queries) * self.per_byte
        launch = (
            jnp.where(cache < 2, self.narrow_launch, self.launch)
            + b * self.sequence
            + jnp.where(w < s, self.window, 0.0)
        )
        rows = a * a * (x * x + unsplit * unsplit + merging / (a + merging))
        return jnp.sqrt(rows + tile * tile + moving * moving) + launch
