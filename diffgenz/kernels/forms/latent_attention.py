"""Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): prompts with keys and values expanded per head, decode on the latent cache itself.

Prefill. Blocks of 128 queries by 128 keys; x blocks of queries wait for every compute unit, and the longest row bounds what imbalance leaves:

    keys = context + (queries + 1) / 2                                    seen by a query on average
    x = sequences heads sqrt((queries / 128)**2 + ragged**2) / units      blocks of queries per compute unit
    a = block keys / 128 + prologue                                       one of them
    l = longest block (context + queries) / 128 + latency                 the one that sees most keys, alone
    m = bytes / (bandwidth efficiency)                                    queries, keys, values and outputs
    t = sqrt((a x)**2 + l**2 + m**2) + exposed m + sequences sequence + launch

Decode. All heads share one key of latent + rope dimensions and one value of latent: a multi-query attention whose rows are heads and draft tokens,
64 to a block. One block works through its tiles of 64 tokens, or several compute units share them, at b seconds a split:

    tiles = ceil(length / 64)
    x = sequences ceil(heads queries / 64) / (units slots)                blocks per compute unit
    a = tiles (tile + step)                                               one block
    b = merge + merging x                                                 one more split
    u = sqrt(x**2 + b / (a + b) + 1 / tiles**2)                           bound by throughput, by the best split, or by one tile
    m = cached bytes / (bandwidth efficiency)
    t = sqrt((a u + fixed x)**2 + m**2) + (rows query and output bytes + convert cached elements) / bandwidth + sequences sequence + launch

Kernels that do not split leave `merge` large. A cache narrower than bf16 may be converted before, all of it: FlashAttention-3 under SGLang does,
and takes five times as long with an fp8 cache as with bf16.
"""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from diffgenz.core.smooth import Leaf
from diffgenz.kernels.form import Chip, Form, Timer, Work, parameter
from diffgenz.kernels.shapes import LatentDecodeShape, LatentPrefillShape, Number

QUERY_BLOCK = 128
TOKEN_BLOCK = 64
ROW_BLOCK = 64
ELEMENT = 2.0
"""B of an element of queries, of expanded keys and values, and of outputs."""


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
        rows, keys = (
            shape.sequences * shape.heads * shape.queries,
            shape.context + (shape.queries + 1) / 2,
        )
        width = shape.query_dim + shape.value_dim
        return Work(2 * rows * keys * width, ELEMENT * rows * width)

    def on(self, chip: Chip) -> Timer:
        per_unit = chip.flops * self.compute / chip.units
        return LatentPrefillTimer(
            per_units=1 / (QUERY_BLOCK * chip.units),
            ragged=(self.ragged * QUERY_BLOCK) ** 2,
            per_key=2 * QUERY_BLOCK / per_unit,
            prologue=self.prologue * chip.launch,
            longest=self.longest,
            latency=self.latency * chip.launch,
            per_element=ELEMENT / (chip.bandwidth * self.memory),
            exposed=self.exposed,
            sequence=self.sequence * chip.launch,
            launch=self.launch * chip.launch,
        )


class LatentPrefillTimer(eqx.Module):
    """A `LatentPrefill` on one accelerator."""

    per_units: Number
    ragged: Number
    per_key: Number
    prologue: Number
    longest: Number
    latency: Number
    per_element: Number
    exposed: Number
    sequence: Number
    launch: Number

    def __call__(self, shape: LatentPrefillShape) -> Number:
        sequences, queries, context, heads, query_dim, value_dim = shape
        width, length = query_dim + value_dim, context + queries
        per_key = width * self.per_key
        x = sequences * heads * self.per_units * jnp.sqrt(queries * queries + self.ragged)
        a = (context + 0.5 * (queries + 1)) * per_key + self.prologue
        longest = self.longest * length * per_key + self.latency
        moving = sequences * heads * (queries + length) * width * self.per_element
        return (
            jnp.sqrt(a * a * x * x + longest * longest + moving * moving)
            + self.exposed * moving
            + sequences * self.sequence
            + self.launch
        )


class LatentDecode(Form):
    """Attention of new tokens over the latent cache; a cache that is not bf16 may be converted first, all of it."""

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
        rows, width = (
            shape.sequences * shape.heads * shape.queries,
            2 * shape.latent + shape.rope_dim,
        )
        keys = shape.length - (shape.queries - 1) / 2
        cached = shape.cache_size * shape.sequences * shape.length * (shape.latent + shape.rope_dim)
        return Work(2 * rows * keys * width, cached + ELEMENT * rows * width)

    def on(self, chip: Chip) -> Timer:
        return LatentDecodeTimer(
            per_slot=1 / (chip.units * self.slots),
            per_width=2 * ROW_BLOCK * TOKEN_BLOCK * chip.units / (chip.flops * self.compute),
            step=self.step * chip.launch,
            fixed=self.fixed * chip.launch,
            merge=self.merge * chip.launch,
            merging=self.merging * chip.launch,
            per_byte=1 / (chip.bandwidth * self.memory),
            per_row=ELEMENT * self.rows / chip.bandwidth,
            sequence=self.sequence * chip.launch,
            per_converted=self.convert / chip.bandwidth,
            launch=self.launch * chip.launch,
        )


class LatentDecodeTimer(eqx.Module):
    """A `LatentDecode` on one accelerator."""

    per_slot: Number
    per_width: Number
    step: Number
    fixed: Number
    merge: Number
    merging: Number
    per_byte: Number
    per_row: Number
    sequence: Number
    per_converted: Number
    launch: Number

    def __call__(self, shape: LatentDecodeShape) -> Number:
        sequences, queries, length, heads, latent, rope_dim, cache_size = shape
        rows, width = heads * queries, 2 * latent + rope_dim
        tiles = jnp.ceil(length / TOKEN_BLOCK)
        x = sequences * jnp.ceil(rows / ROW_BLOCK) * self.per_slot
        a = tiles * (width * self.per_width + self.step)
        b = self.merge + self.merging * x
        computing = a * jnp.sqrt(x * x + b / (a + b) + 1 / (tiles * tiles)) + self.fixed * x
        cached = sequences * length * (latent + rope_dim)
        moving = cached * cache_size * self.per_byte
        apart = (
            sequences * (rows * width * self.per_row + self.sequence)
            + cached * jnp.maximum(ELEMENT - cache_size, 0) * self.per_converted
        )
        return jnp.sqrt(computing * computing + moving * moving) + apart + self.launch
