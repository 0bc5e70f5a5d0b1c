"""Layers of vLLM as LLMServingSim profiled them (casys-kaist/LLMServingSim, MIT).

Times are in us. Files stand under .../MODEL/FORMAT/tpN/, which states what the columns do not. Left
out are the sampler, which no family describes, embeddings, whose reads do not follow from the
tokens, and batches that mix prompts and decodes.
"""

import re
from pathlib import Path

import numpy as np

from diffgenz.calibrating.readers.dense_layer import Layer, elementwise_samples
from diffgenz.calibrating.readers.dimensions import Dimensions, dimensions
from diffgenz.calibrating.readers.frames import frame_of, groups, numbers, rows_where, words
from diffgenz.calibrating.readers.products import gemm_samples
from diffgenz.calibrating.readers.reader import Layout, has
from diffgenz.calibrating.samples import Samples
from diffgenz.core.errors import InputError
from diffgenz.core.formats import FORMATS as SIZES
from diffgenz.kernels.shapes import DecodeShape, PrefillShape

FORMATS = ("bf16", "fp16", "fp32")
"""Formats that stand in paths."""

PRODUCTS = {"qkv_proj": "qkv", "o_proj": "o", "gate_up_proj": "up", "down_proj": "down"}
"""Products (`Layer.products`) by the name of its layer."""

PASSES = {"layernorm": "add_norm", "act_fn": "activation", "rotary_emb": "rotary"}
"""Passes over memory (`Layer.elements`) by the name of its layer."""


def dense(path: Path) -> list[Samples]:
    """The samples of a dense.csv: projections as one kernel, and passes over memory."""
    model, format, devices = _setting(path)
    products, passes = [], []
    for name, rows in groups(frame_of(path), "layer"):
        tokens, us = numbers(rows, ("tokens", "time_us"), path)
        layer = Layer(
            tokens,
            model.hidden,
            model.width,
            model.heads * model.head_dim,
            model.kv_heads * model.head_dim,
            2.0,
            devices,
        )
        if name in PRODUCTS:
            products.append((*layer.products()[PRODUCTS[name]], us * 1e-6))
        elif name in PASSES:
            elements = layer.elements()[PASSES[name]]
            samples = elementwise_samples(elements, us * 1e-6, format, "llmservingsim", name)
            passes.append(samples)
    if products:
        return [gemm_samples(products, format, "llmservingsim", "linear"), *passes]
    return passes


def per_sequence(path: Path) -> list[Samples]:
    """The samples of a per_sequence.csv: the product with the vocabulary."""
    model, format, devices = _setting(path)
    frame = frame_of(path)
    rows = rows_where(frame, words(frame, "layer") == "lm_head")
    sequences, us = numbers(rows, ("sequences", "time_us"), path)
    products = [(sequences, model.vocabulary / devices, model.hidden, us * 1e-6)]
    return [gemm_samples(products, format, "llmservingsim", "lm_head")]


def attention(path: Path) -> list[Samples]:
    """The samples of an attention.csv.

    A row is one prompt's chunk after cached tokens, or decodes of requests with the same number of
    cached tokens.
    """
    model, format, devices = _setting(path)
    chunk, before, sequences, cached, us = numbers(
        frame_of(path), ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_us"), path
    )
    one = np.ones_like(chunk)
    heads, kv_heads = one * (model.heads / devices), one * max(model.kv_heads / devices, 1.0)
    dim, size = one * model.head_dim, one * SIZES[format].size
    seconds, mixed = us * 1e-6, (chunk > 0) & (sequences > 0)
    rest = heads, kv_heads, dim, np.inf * one, size
    prompt = PrefillShape(one, chunk, before, *rest)
    step = DecodeShape(sequences, one, cached + 1, *rest)
    prefill = Samples.of("prefill", format, "llmservingsim", "vllm", prompt, seconds)
    prefill.dropped["batches of prompts and decodes"] = int(mixed.sum())
    decode = Samples.of("decode", format, "llmservingsim", "vllm", step, seconds)
    return [
        samples.only(rows)
        for samples, rows in ((prefill, (chunk > 0) & ~mixed), (decode, (sequences > 0) & ~mixed))
        if rows.any()
    ]


def _setting(path: Path) -> tuple[Dimensions, str, float]:
    """Model, format and devices, as the path states them (its slashes may be underscores)."""
    model, rest = dimensions(path)
    setting = r"[/_]([^/_]+)[/_]tp(\d+)[/_]"
    match = re.search(setting, rest) or re.search(setting, path.resolve().as_posix())
    if match is None or match[1] not in FORMATS:
        raise InputError(
            f"{path}: its path must say format and tensor parallelism, "
            f"as .../{FORMATS[0]}/tp1/...; known are {', '.join(FORMATS)}"
        )
    return model, match[1], float(match[2])


LAYOUTS = (
    Layout("LLMServingSim (dense)", has("layer", "tokens", "time_us"), dense),
    Layout("LLMServingSim (per_sequence)", has("layer", "sequences", "time_us"), per_sequence),
    Layout(
        "LLMServingSim (attention)",
        has("prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_us"),
        attention,
    ),
)
