"""The tables context_attention_perf and generation_attention_perf.

They hold attention over a prompt, and over the cache of requests that decode.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffgenz.calibrating.readers.aiconfigurator.frames import format_of, need, parts, seconds_of
from diffgenz.calibrating.readers.frames import frame_of
from diffgenz.calibrating.samples import Samples
from diffgenz.core.errors import InputError
from diffgenz.core.formats import FORMATS as SIZES
from diffgenz.kernels.shapes import DecodeShape, PrefillShape

if TYPE_CHECKING:
    import pandas

COLUMNS = (
    "framework",
    "version",
    "kernel_source",
    "batch_size",
    "isl",
    "step",
    "num_heads",
    "num_key_value_heads",
    "head_dim",
    "attn_dtype",
    "kv_cache_dtype",
    "latency",
)
"""Columns that every such table has."""


def prefill(path: Path) -> list[Samples]:
    """The samples of a context_attention_perf table, by attn_dtype and kernel_source.

    Rows have isl new tokens after step cached ones, and latency in ms.
    """
    found = []
    for source, kernel, format, rows in _parts(path):
        queries, context = rows["isl"].to_numpy(float), rows["step"].to_numpy(float)
        sequences, heads = rows["batch_size"].to_numpy(float), _heads(rows, path)
        shape = PrefillShape(sequences, queries, context, *heads)
        found.append(Samples.of("prefill", format, source, kernel, shape, seconds_of(rows)))
    return found


def decode(path: Path) -> list[Samples]:
    """The samples of a generation_attention_perf table, by attn_dtype and kernel_source.

    Rows have one new token after step cached ones, and latency in ms.
    """
    found = []
    for source, kernel, format, rows in _parts(path):
        length = rows["step"].to_numpy(float) + 1
        sequences, heads = rows["batch_size"].to_numpy(float), _heads(rows, path)
        shape = DecodeShape(sequences, np.ones_like(length), length, *heads)
        found.append(Samples.of("decode", format, source, kernel, shape, seconds_of(rows)))
    return found


def _parts(path: Path) -> "list[tuple[str, str, str, pandas.DataFrame]]":
    frame = frame_of(path)
    need(frame, COLUMNS, path)
    return [
        (source, kernel, format_of(dtype, "attn_dtype", path), rows)
        for source, kernel, (dtype,), rows in parts(frame, "attn_dtype")
    ]


def _heads(rows: "pandas.DataFrame", path: Path) -> tuple[np.ndarray, ...]:
    """heads, kv_heads, head_dim, window and cache_size of each row.

    Tables without a window_size, and rows where it is 0, attend to everything. A window that is
    longer than the sequence is kept: another kernel was measured with it.
    """
    heads, kv_heads = (rows[name].to_numpy(float) for name in ("num_heads", "num_key_value_heads"))
    few = np.flatnonzero(~((kv_heads >= 1) & (kv_heads <= heads)))
    if len(few):
        raise InputError(
            f"{path}: num_key_value_heads: {kv_heads[few[0]]:g} with {heads[few[0]]:g} num_heads; "
            "it must be 1 to num_heads (equal to it without GQA)"
        )
    window = rows["window_size"].to_numpy(float) if "window_size" in rows else np.zeros(len(rows))
    window = np.where(window > 0, window, np.inf)
    caches = (format_of(name, "kv_cache_dtype", path) for name in rows["kv_cache_dtype"])
    cache_size = np.asarray([SIZES[cache].size for cache in caches], float)
    return heads, kv_heads, rows["head_dim"].to_numpy(float), window, cache_size
