"""The tables context_mla_perf, generation_mla_perf and mla_bmm_perf.

They hold multi-head latent attention, and the products that absorb its expansions, in DeepSeek-V3's
dimensions, with the heads of one device. Latencies are of attention alone, without projections.
"""

from pathlib import Path

import numpy as np

from diffgenz.calibrating.readers.aiconfigurator.frames import format_of, need, parts, seconds_of
from diffgenz.calibrating.readers.frames import frame_of
from diffgenz.calibrating.readers.products import batched_moved
from diffgenz.calibrating.samples import Samples
from diffgenz.core.errors import InputError
from diffgenz.core.formats import FORMATS as SIZES
from diffgenz.kernels.shapes import BatchedShape, LatentDecodeShape, LatentPrefillShape

LATENT, ROPE, QUERY, VALUE = 512.0, 64.0, 192.0, 128.0
"""Dimensions of DeepSeek-V3: of latent and rotary part, of a head's expanded queries and values."""

ABSORBED = {"flash_attention"}
"""Kernels whose prompts were measured in the absorbed form, of 576 and 512 dimensions.

Their latencies show the 3.4 times as many FLOP.
"""

ABSORBED_COLUMNS = (
    "framework",
    "version",
    "kernel_source",
    "bmm_dtype",
    "op_name",
    "num_tokens",
    "num_heads",
    "latency",
)
"""Columns that every table of absorbed products has."""

COLUMNS = (
    "framework",
    "version",
    "kernel_source",
    "mla_dtype",
    "kv_cache_dtype",
    "num_heads",
    "batch_size",
    "isl",
    "step",
    "latency",
)
"""Columns that every table of latent attention has."""


def latent_prefill(path: Path) -> list[Samples]:
    """The samples of a context_mla_perf table, by kv_cache_dtype.

    Rows have batch_size, isl, step (cached tokens), num_heads and latency in ms. The format of a
    part is that of its cache: kernels quantise queries, keys and values to it, and multiply it
    where they can.
    """
    frame = frame_of(path)
    need(frame, COLUMNS, path)
    found = []
    for source, kernel, (cache,), rows in parts(frame, "kv_cache_dtype"):
        heads, sequences, queries, context = (
            rows[name].to_numpy(float) for name in ("num_heads", "batch_size", "isl", "step")
        )
        query_dim, value_dim = (LATENT + ROPE, LATENT) if kernel in ABSORBED else (QUERY, VALUE)
        shape = LatentPrefillShape(
            sequences,
            queries,
            context,
            heads,
            query_dim=np.full(len(rows), query_dim),
            value_dim=np.full(len(rows), value_dim),
        )
        format, seconds = format_of(cache, "kv_cache_dtype", path), seconds_of(rows)
        found.append(Samples.of("latent_prefill", format, source, kernel, shape, seconds))
    return found


def latent_decode(path: Path) -> list[Samples]:
    """The samples of a generation_mla_perf table, by kv_cache_dtype.

    Rows have batch_size, isl new tokens after step cached ones, num_heads and latency in ms.
    """
    frame = frame_of(path)
    need(frame, COLUMNS, path)
    found = []
    for source, kernel, (cache,), rows in parts(frame, "kv_cache_dtype"):
        format = format_of(cache, "kv_cache_dtype", path)
        heads, sequences, queries, step = (
            rows[name].to_numpy(float) for name in ("num_heads", "batch_size", "isl", "step")
        )
        latent, rope, size = (np.full(len(rows), x) for x in (LATENT, ROPE, SIZES[format].size))
        shape = LatentDecodeShape(sequences, queries, step + queries, heads, latent, rope, size)
        found.append(Samples.of("latent_decode", format, source, kernel, shape, seconds_of(rows)))
    return found


def absorbed(path: Path) -> list[Samples]:
    """The samples of an mla_bmm_perf table, by bmm_dtype.

    Rows have num_tokens, num_heads and latency in ms; op_name says if they are before or after
    attention. mla_gen_pre takes queries of 128 dimensions per head to the latent's 512, and
    mla_gen_post takes values back. One set of operands was read again and again, which a last-level
    cache may hold: some rows are up to a fifth faster than memory could deliver weights and
    activations.
    """
    frame = frame_of(path)
    need(frame, ABSORBED_COLUMNS, path)
    unknown = sorted(set(frame["op_name"]) - {"mla_gen_pre", "mla_gen_post"})
    if unknown:
        raise InputError(
            f"{path}: op_name: {unknown[0]!r} is not known; "
            "rows of an mla_bmm_perf table are mla_gen_pre or mla_gen_post"
        )
    found = []
    for source, kernel, (dtype,), rows in parts(frame, "bmm_dtype"):
        format = format_of(dtype, "bmm_dtype", path)
        before = (rows["op_name"] == "mla_gen_pre").to_numpy()
        m, groups = (rows[name].to_numpy(float) for name in ("num_tokens", "num_heads"))
        n, k = np.where(before, LATENT, VALUE), np.where(before, VALUE, LATENT)
        shape = BatchedShape(m, n, k, groups, batched_moved(n, k, groups, format))
        found.append(Samples.of("batched", format, source, kernel, shape, seconds_of(rows)))
    return found
