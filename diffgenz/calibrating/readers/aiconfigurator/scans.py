"""The tables gdn_perf and mamba2_perf: recurrences and their convolutions.

Each kernel stands by itself, without projections; heads are those of one device. The first rows
collected (those whose decode kernel is not packed) differ in two ways: their convolution spans the
keys alone, and their decode reads a bf16 state and writes an fp32 one.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffgenz.calibrating.readers.aiconfigurator.frames import need, parts, seconds_of
from diffgenz.calibrating.readers.frames import frame_of
from diffgenz.calibrating.samples import Samples
from diffgenz.core.errors import InputError
from diffgenz.kernels.shapes import ConvShape, DeltaShape, Mamba2Shape

if TYPE_CHECKING:
    import pandas

CHUNK = 64.0
"""Tokens of a chunk in the kernels of the gated delta rule."""

FP32, BF16_TO_FP32 = 4.0, 3.0
"""Bytes of an element of the state, the mean of reading and writing."""

BASE = (
    "framework",
    "version",
    "kernel_source",
    "phase",
    "batch_size",
    "seq_len",
    "latency",
    "d_conv",
)
"""Columns that both tables have."""


def delta(path: Path) -> list[Samples]:
    """The samples of a gdn_perf table, by kernel_source and phase.

    Rows have batch_size, seq_len, heads and latency in ms; num_tokens is batch_size times seq_len.
    """
    frame = frame_of(path)
    need(frame, (*BASE, "num_k_heads", "head_k_dim", "num_v_heads", "head_v_dim"), path)
    packed = frame["kernel_source"].str.contains("packed").any()
    found = []
    for source, kernel, (phase,), rows in parts(frame, "phase"):
        key_heads, key_dim, heads, value_dim = _columns(
            rows, "num_k_heads", "head_k_dim", "num_v_heads", "head_v_dim"
        )
        if kernel.startswith("causal_conv"):
            keys = key_heads * key_dim
            channels = 2 * keys + heads * value_dim if packed else keys
            found.append(_convolution(rows, source, kernel, phase, channels))
            continue
        decoding = _decoding(phase, path)
        sequences, queries = _columns(rows, "batch_size", "seq_len")
        size = FP32 if packed or not decoding else BF16_TO_FP32
        shape = DeltaShape(
            sequences, queries, key_heads, key_dim, heads, value_dim, *_constants(rows, CHUNK, size)
        )
        family = "delta_decode" if decoding else "delta_prefill"
        found.append(Samples.of(family, "bf16", source, kernel, shape, seconds_of(rows)))
    return found


def mamba2(path: Path) -> list[Samples]:
    """The samples of a mamba2_perf table, by kernel_source and phase.

    Rows have batch_size, seq_len, heads and latency in ms.
    """
    frame = frame_of(path)
    need(frame, (*BASE, "nheads", "head_dim", "d_state", "n_groups", "chunk_size"), path)
    found = []
    for source, kernel, (phase,), rows in parts(frame, "phase"):
        heads, head_dim, state, groups, chunk = _columns(
            rows, "nheads", "head_dim", "d_state", "n_groups", "chunk_size"
        )
        if kernel.startswith("causal_conv"):
            channels = heads * head_dim + 2 * groups * state
            found.append(_convolution(rows, source, kernel, phase, channels))
            continue
        family = "mamba2_decode" if _decoding(phase, path) else "mamba2_prefill"
        sequences, queries = _columns(rows, "batch_size", "seq_len")
        shape = Mamba2Shape(
            sequences, queries, heads, head_dim, state, groups, chunk, *_constants(rows, FP32)
        )
        found.append(Samples.of(family, "bf16", source, kernel, shape, seconds_of(rows)))
    return found


def _convolution(
    rows: "pandas.DataFrame", source: str, kernel: str, phase: str, channels: np.ndarray
) -> Samples:
    sequences, queries, width = _columns(rows, "batch_size", "seq_len", "d_conv")
    family = "conv_decode" if phase == "generation" else "conv_prefill"
    shape = ConvShape(sequences, queries, channels, width)
    return Samples.of(family, "bf16", source, kernel, shape, seconds_of(rows))


def _decoding(phase: str, path: Path) -> bool:
    if phase not in ("context", "generation"):
        raise InputError(f"{path}: phase: {phase!r} is not known; it is context or generation")
    return phase == "generation"


def _columns(rows: "pandas.DataFrame", *names: str) -> tuple[np.ndarray, ...]:
    return tuple(rows[name].to_numpy(float) for name in names)


def _constants(rows: "pandas.DataFrame", *values: float) -> tuple[np.ndarray, ...]:
    return tuple(np.full(len(rows), value) for value in values)
