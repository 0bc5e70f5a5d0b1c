"""Attention as Frontier profiled it (NetX-lab/Frontier, MIT).

The files are attention.csv and attention_combined.csv; of them, prompts and decodes of equal
lengths are read. time_stats are in ms.
"""

from pathlib import Path

import numpy as np

from diffgenz.calibrating.readers.dimensions import head_dim
from diffgenz.calibrating.readers.frames import flags, numbers, rows_where, words
from diffgenz.calibrating.readers.frontier import COMMON, usable
from diffgenz.calibrating.readers.reader import Layout, has
from diffgenz.calibrating.readers.vidur import median
from diffgenz.calibrating.samples import Samples
from diffgenz.core.formats import FORMATS as SIZES
from diffgenz.kernels.shapes import DecodeShape, PrefillShape

HEADS = ("n_embd", "n_q_head", "n_kv_head", "num_tensor_parallel_workers")
"""Columns of numbers that describe heads."""

BATCH = ("batch_size", "prefill_chunk_size", "kv_cache_size")
"""Columns of numbers that describe a batch."""


def attention(path: Path) -> list[Samples]:
    """The samples of equal lengths (mode "even"); other batches are left out and counted.

    kv_cache_size counts the tokens before the new ones.
    """
    frame, format, dropped = usable(path)
    even, prompt = words(frame, "mode") == "even", flags(frame, "is_prefill", path)
    if not even.all():
        dropped = dropped | {"batches of several lengths": int((~even).sum())}
    found = []
    for prompts in (True, False):
        rows = rows_where(frame, even & (prompt == prompts))
        if not len(rows):
            continue
        hidden, heads, kv_heads, devices = numbers(rows, HEADS, path)
        sequences, chunk, cached = numbers(rows, BATCH, path)
        (ms,) = numbers(rows, (median("attn_prefill" if prompts else "attn_decode"),), path)
        one, dim = np.ones_like(ms), head_dim(hidden[0], heads[0], kv_heads[0], path)
        new = chunk if prompts else one
        parts = (
            heads / devices,
            np.maximum(kv_heads / devices, 1),
            dim * one,
            np.inf * one,
            SIZES[format].size * one,
        )
        kernel = " and ".join(np.unique(words(rows, "attention_backend"))).lower()
        if prompts:
            shape = PrefillShape(sequences, new, cached, *parts)
            samples = Samples.of("prefill", format, "frontier", kernel, shape, ms * 1e-3)
            samples.dropped.update(dropped)
        else:
            shape = DecodeShape(sequences, new, cached + 1, *parts)
            samples = Samples.of("decode", format, "frontier", kernel, shape, ms * 1e-3)
        found.append(samples)
    return found


LAYOUTS = (
    Layout(
        "Frontier (attention)",
        has(
            *HEADS,
            *BATCH,
            *COMMON,
            "is_prefill",
            "mode",
            median("attn_prefill"),
            median("attn_decode"),
        ),
        attention,
    ),
)
