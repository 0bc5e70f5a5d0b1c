"""Decode attention: few queries over a long cache, and one continuous split of the keys.

Every pair of a sequence and a KV head is a row. A compute unit walks through it in tiles of 128
keys:

    x = sequences kv_heads / (slots units)          rows per place that works on them
    flop = 512 queries group head_dim slots units / (FLOP/s efficiency)
    tile = stream + flop                            128 keys of one row
    a = ceil(keys / 128) tile + fixed               one row, through all of its keys
    b = merge + crowd x                             one more split of the keys
    t = sqrt((a x)**2 + a**2 b / (a + b) + tile**2 + (bytes / bandwidth)**2)
        + launch + row sequences

`stream` grows with head_dim and does not depend on the bandwidth. The terms under the root are the
throughput of all rows; the latency of one row at the best number of splits; that of one tile, which
no split goes below; and memory. The second is sqrt(a b) for long rows (splits cost as much as their
merging) and a for short ones (no split).
"""

from typing import ClassVar

from diffgenz.core import xp
from diffgenz.core.smooth import Leaf
from diffgenz.kernels.form import Form, Work, parameter
from diffgenz.kernels.forms.attention_prefill import mean_keys
from diffgenz.kernels.hardware import Chip
from diffgenz.kernels.shapes import DecodeShape, Number

TILE = 128
"""Keys in a tile."""

WIDEST_GROUP = 32
"""Query heads per KV head that all kernels take.

Beyond, some libraries (TensorRT-LLM's XQA) fall back on another kernel.
"""


class Decode(Form):
    """Attention of requests that decode.

    It covers grouped queries, sliding windows, drafts and narrow caches. Times are in launches.
    `narrow...` are factors that apply where the cache is narrower than 2 B, and `wide` is one where
    more than `WIDEST_GROUP` query heads share a KV head. `alone` is the share of a row that cannot
    be split where no heads share one: some kernels split only grouped queries.
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
            2 * b * d * (kv * xp.minimum(s, w + q - 1) * cache + q * h),
        )

    def seconds(self, shape: DecodeShape, chip: Chip) -> Number:
        b, q, s, h, kv, d, w, cache = shape
        keys, queries = xp.minimum(s, w + q - 1), q * h
        is_narrow = cache < 2

        places = chip.units * self.slots
        x = b * kv * (1 / places)

        stream = self.stream * chip.launch
        flop = queries / kv * d * (4 * TILE * places / (chip.flops * self.compute))
        tile = (stream * self.depth + d * (stream / 128)) * xp.where(is_narrow, self.narrow, 1.0)
        tile = (tile + flop) * xp.where(h > WIDEST_GROUP * kv, self.wide, 1.0)

        a = self.rounded_up(keys * (1 / TILE)) * tile + self.fixed * chip.launch
        merging = self.merge * chip.launch + self.crowd * chip.launch * x
        unsplit = xp.where(h == kv, self.alone, 0.0)
        rows = a * a * (x * x + unsplit * unsplit + merging / (a + merging))

        moving = b * d * (kv * keys * cache + 2 * queries) * (2 / (chip.bandwidth * self.memory))
        wide_launch = self.launch * chip.launch
        narrow_launch = self.narrow_launch * self.launch * chip.launch
        launch = (
            xp.where(is_narrow, narrow_launch, wide_launch)
            + b * (self.row * chip.launch)
            + xp.where(w < s, self.window * chip.launch, 0.0)
        )
        return xp.sqrt(rows + tile * tile + moving * moving) + launch
