"""Attention as InferSim measured it (alibaba/InferSim, Apache-2.0).

The path of a file says whether it is mha or mla, and how many heads it has:
heads-kv_heads-head_dim.csv of mha, heads-latent-rope.csv (decode) and heads-nope-rope.csv (prefill)
of mla. Times are in us. Sparse attention (dsa) is left out: no family here chooses its keys.
"""

import re
from pathlib import Path

import numpy as np

from diffgenz.calibrating.readers.frames import frame_of, named, numbers
from diffgenz.calibrating.readers.reader import Layout, has
from diffgenz.calibrating.samples import Samples
from diffgenz.core.errors import InputError
from diffgenz.core.formats import FORMATS as SIZES
from diffgenz.kernels.shapes import DecodeShape, LatentDecodeShape, LatentPrefillShape, PrefillShape

FORMATS = {"bf16": "bf16", "fp16": "fp16", "fp8": "fp8"}
"""Our formats by its dtype and kv_dtype."""


def decode(path: Path) -> list[Samples]:
    """The samples of mha/decode or mla/decode, by dtype and kv_dtype.

    There is one new token, and kv_len tokens with it.
    """
    kind, parts = _name(path)
    if kind == "dsa":
        return []
    frame = frame_of(path)
    formats, caches = named(frame, "dtype", FORMATS, path), named(frame, "kv_dtype", FORMATS, path)
    sequences, length, us = numbers(frame, ("batch_size", "kv_len", "latency_us"), path)
    found = []
    for format, cache in sorted(set(zip(formats, caches, strict=True))):
        at = (formats == format) & (caches == cache)
        one = np.ones(at.sum())
        heads, second, third = (part * one for part in parts)
        size, s, n = SIZES[cache].size * one, sequences[at], length[at]
        if kind == "mha":
            known = ("decode", format, "infersim", "flashinfer")
            shape = DecodeShape(s, one, n, heads, second, third, np.inf * one, size)
        else:
            known = ("latent_decode", cache, "infersim", "flashmla")
            shape = LatentDecodeShape(s, one, n, heads, second, third, size)
        found.append(Samples.of(*known, shape, us[at] * 1e-6))
    return found


def prefill(path: Path) -> list[Samples]:
    """The samples of mha/prefill or mla/prefill, by dtype: one prompt of seq_len tokens.

    Values of mla have as many dimensions as keys without rope.
    """
    kind, parts = _name(path)
    if kind == "dsa":
        return []
    frame = frame_of(path)
    formats = named(frame, "dtype", FORMATS, path)
    length, us = numbers(frame, ("seq_len", "latency_us"), path)
    found = []
    for format in sorted(set(formats)):
        at = formats == format
        one = np.ones(at.sum())
        heads, second, third = (part * one for part in parts)
        n = length[at]
        if kind == "mha":
            family = "prefill"
            rest = second, third, np.inf * one, SIZES[format].size * one
            shape = PrefillShape(one, n, 0 * n, heads, *rest)
        else:
            family = "latent_prefill"
            shape = LatentPrefillShape(one, n, 0 * n, heads, second + third, second)
        found.append(Samples.of(family, format, "infersim", "fa3", shape, us[at] * 1e-6))
    return found


def _name(path: Path) -> tuple[str, tuple[float, ...]]:
    """mha, mla or dsa, and the three numbers at the end of the name."""
    kind = re.findall(r"(?<![a-z])(mha|mla|dsa)(?![a-z])", path.resolve().as_posix())
    parts = re.search(r"(\d+)-(\d+)-(\d+)$", path.stem)
    if not kind or parts is None:
        raise InputError(
            f"{path}: its columns state no heads; its path must, "
            "as mha/decode/h800/32-8-128.csv or mla_decode_128-512-64.csv does"
        )
    return kind[-1], tuple(float(part) for part in parts.groups())


LAYOUTS = (
    Layout(
        "InferSim (decode)",
        has("dtype", "kv_dtype", "batch_size", "kv_len", "latency_us", "mfu"),
        decode,
    ),
    Layout("InferSim (prefill)", has("dtype", "seq_len", "latency_us", "mfu"), prefill),
)
