"""Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434).

Prompts have keys and values expanded per head; decode works on the latent cache itself.

Prefill. In blocks of 128 queries by 128 keys, x blocks of queries wait for every compute unit, and
the longest row bounds what imbalance leaves:

    keys = context + (queries + 1) / 2                                  seen by a query on average
    x = sequences heads sqrt((queries / 128)**2 + ragged**2) / units    blocks of queries per unit
    a = block keys / 128 + prologue                                     one of them
    l = longest block (context + queries) / 128 + latency               the one with most keys
    m = bytes / (bandwidth efficiency)                                  what is read and written
    t = sqrt((a x)**2 + l**2 + m**2) + exposed m + sequences sequence + launch

Decode. All heads share one key of latent + rope dimensions and one value of latent dimensions: a
multi-query attention whose rows are heads and draft tokens, 64 to a block. One block works through
its tiles of 64 tokens, or several compute units share them, at b seconds a split:

    tiles = ceil(length / 64)
    x = sequences ceil(heads queries / 64) / (units slots)              blocks per compute unit
    a = tiles (tile + step)                                             one block
    b = merge + merging x                                               one more split
    u = sqrt(x**2 + b / (a + b) + 1 / tiles**2)
    m = cached bytes / (bandwidth efficiency)
    t = sqrt((a u + fixed x)**2 + m**2)
        + (rows query and output bytes + convert bytes that bf16 has more) / bandwidth
        + sequences sequence + launch

The terms of u are the bounds by throughput, by the best split and by one tile. Kernels that do not
split leave `merge` large. A cache narrower than bf16 may be converted before, all of it:
FlashAttention-3 under SGLang does, and takes five times as long with an fp8 cache as with bf16.
"""

from typing import ClassVar

from diffgenz.core import xp
from diffgenz.core.smooth import Leaf
from diffgenz.kernels.form import Form, Work, parameter
from diffgenz.kernels.hardware import Chip
from diffgenz.kernels.shapes import LatentDecodeShape, LatentPrefillShape, Number

QUERY_BLOCK = 128
"""Queries in a block, and keys in a block, of prefill."""

TOKEN_BLOCK = 64
"""Tokens of the cache in a tile of decode."""

ROW_BLOCK = 64
"""Rows (heads and draft tokens) in a block of decode."""

ELEMENT = 2.0
"""Bytes of an element of queries, of expanded keys and values, and of outputs."""


class LatentPrefill(Form):
    """Causal attention over prompts."""

    Shape: ClassVar[type] = LatentPrefillShape

    compute: Leaf = parameter(0.6, 0.5, 1.0)
    memory: Leaf = parameter(0.8, 0.5, 1.0)
    exposed: Leaf = parameter(0.5)
    launch: Leaf = parameter(5.0, 0.5)
    ragged: Leaf = parameter(0.3)
    prologue: Leaf = parameter(0.5)
    longest: Leaf = parameter(1.0, 0.7)
    latency: Leaf = parameter(0.5)
    sequence: Leaf = parameter(0.005, 1.5)

    @classmethod
    def work(cls, shape: LatentPrefillShape) -> Work:
        rows = shape.sequences * shape.heads * shape.queries
        keys = shape.context + (shape.queries + 1) / 2
        width = shape.query_dim + shape.value_dim
        return Work(2 * rows * keys * width, ELEMENT * rows * width)

    def seconds(self, shape: LatentPrefillShape, chip: Chip) -> Number:
        sequences, queries, context, heads, query_dim, value_dim = shape
        width, length = query_dim + value_dim, context + queries

        ragged = (self.ragged * QUERY_BLOCK) ** 2
        per_block = 1 / (QUERY_BLOCK * chip.units)
        x = sequences * heads * per_block * xp.sqrt(queries * queries + ragged)

        per_key = width * (2 * QUERY_BLOCK * chip.units / (chip.flops * self.compute))
        a = (context + 0.5 * (queries + 1)) * per_key + self.prologue * chip.launch
        longest = self.longest * length * per_key + self.latency * chip.launch

        per_element = ELEMENT / (chip.bandwidth * self.memory)
        moving = sequences * heads * (queries + length) * width * per_element
        busy = xp.sqrt(a * a * x * x + longest * longest + moving * moving)
        starting = sequences * (self.sequence * chip.launch)
        return busy + self.exposed * moving + starting + self.launch * chip.launch


class LatentDecode(Form):
    """Attention of new tokens over the latent cache.

    A cache that is not bf16 may be converted first, all of it.
    """

    Shape: ClassVar[type] = LatentDecodeShape

    compute: Leaf = parameter(0.6, 0.5, 1.0)
    memory: Leaf = parameter(0.85, 0.5, 1.0)
    launch: Leaf = parameter(5.0, 0.5)
    slots: Leaf = parameter(1.0, 0.5)
    step: Leaf = parameter(0.3)
    fixed: Leaf = parameter(0.5)
    merge: Leaf = parameter(0.5, 3.0)
    merging: Leaf = parameter(5.0, 1.5)
    rows: Leaf = parameter(1.0)
    sequence: Leaf = parameter(0.002, 1.5)
    convert: Leaf = parameter(0.3, 2.0)

    @classmethod
    def work(cls, shape: LatentDecodeShape) -> Work:
        rows = shape.sequences * shape.heads * shape.queries
        width = 2 * shape.latent + shape.rope_dim
        keys = shape.length - (shape.queries - 1) / 2
        cached = shape.cache_size * shape.sequences * shape.length * (shape.latent + shape.rope_dim)
        return Work(2 * rows * keys * width, cached + ELEMENT * rows * width)

    def seconds(self, shape: LatentDecodeShape, chip: Chip) -> Number:
        sequences, queries, length, heads, latent, rope_dim, cache_size = shape
        rows, width = heads * queries, 2 * latent + rope_dim
        tiles = self.rounded_up(length / TOKEN_BLOCK)

        x = sequences * xp.ceil(rows / ROW_BLOCK) * (1 / (chip.units * self.slots))
        tile = width * (2 * ROW_BLOCK * TOKEN_BLOCK * chip.units / (chip.flops * self.compute))
        a = tiles * (tile + self.step * chip.launch)
        b = self.merge * chip.launch + self.merging * chip.launch * x
        u = xp.sqrt(x * x + b / (a + b) + 1 / (tiles * tiles))
        computing = a * u + self.fixed * chip.launch * x

        cached = sequences * length * (latent + rope_dim)
        moving = cached * cache_size * (1 / (chip.bandwidth * self.memory))
        per_row = ELEMENT * self.rows / chip.bandwidth
        starting = sequences * (rows * width * per_row + self.sequence * chip.launch)
        per_converted = self.convert / chip.bandwidth
        converting = cached * xp.maximum(ELEMENT - cache_size, 0) * per_converted
        busy = xp.sqrt(computing * computing + moving * moving)
        return busy + (starting + converting) + self.launch * chip.launch
