"""Layers without attention, and collectives, as vidur profiled them (microsoft/vidur, MIT).

All are in fp16, and time_stats are in ms. Embeddings are left out, because with tensor parallelism
they are several kernels, and so is send_recv: no family here is a transfer between two ranks.
"""

from pathlib import Path

import numpy as np

from diffgenz.calibrating.readers.dense_layer import Layer, elementwise_samples
from diffgenz.calibrating.readers.frames import flags, frame_of, numbers
from diffgenz.calibrating.readers.products import gemm_samples
from diffgenz.calibrating.readers.reader import Layout, has
from diffgenz.calibrating.samples import Samples
from diffgenz.kernels.shapes import CollectiveShape

SIZES = (
    "num_tokens",
    "n_embd",
    "n_expanded_embd",
    "n_head",
    "n_kv_head",
    "num_tensor_parallel_workers",
)
"""Columns of numbers that describe a layer."""

PRODUCTS = {
    "attn_pre_proj": "qkv",
    "attn_post_proj": "o",
    "mlp_up_proj": "up",
    "mlp_down_proj": "down",
}
"""Products (`Layer.products`) by the name of its operator."""

PASSES = {
    "input_layernorm": "norm",
    "post_attention_layernorm": "norm",
    "mlp_act": "activation",
    "attn_rope": "rotary",
    "add": "residual",
}
"""Passes over memory (`Layer.elements`) by the name of its operator."""


def median(name: str) -> str:
    """The column of an operator's median."""
    return f"time_stats.{name}.median"


def layers(path: Path) -> list[Samples]:
    """The samples of an mlp.csv: projections as one kernel, and passes over memory.

    head_dim is n_embd / n_head, as in the profiler.
    """
    frame = frame_of(path)
    tokens, hidden, width, heads, kv_heads, devices = numbers(frame, SIZES, path)
    up = np.where(flags(frame, "use_gated_mlp", path), 2.0, 1.0)
    layer = Layer(tokens, hidden, width, hidden, hidden / heads * kv_heads, up, devices)
    products, elements = layer.products(), layer.elements()
    times = {
        name: numbers(frame, (median(name),), path)[0] * 1e-3
        for name in (*PRODUCTS, *PASSES)
        if median(name) in frame
    }
    timed = [(*products[part], times[name]) for name, part in PRODUCTS.items() if name in times]
    return [gemm_samples(timed, "fp16", "vidur", "linear")] + [
        elementwise_samples(elements[PASSES[name]], times[name], "fp16", "vidur", name)
        for name in PASSES
        if name in times
    ]


def all_reduce(path: Path) -> list[Samples]:
    """The samples of an all_reduce.csv: size in bytes, num_workers in one node."""
    frame = frame_of(path)
    ranks, volume, near, ms = numbers(
        frame, ("num_workers", "size", "devices_per_node", median("all_reduce")), path
    )
    shape = CollectiveShape(ranks, volume)
    samples = Samples.of("all_reduce", "fp16", "vidur", "nccl", shape, ms * 1e-3)
    return [samples.only(ranks <= near, "between nodes")]


def nothing(path: Path) -> list[Samples]:
    """No samples: no family describes what the file holds."""
    return []


LAYOUTS = (
    Layout(
        "vidur (mlp)", has(*SIZES, "use_gated_mlp", *(median(name) for name in PRODUCTS)), layers
    ),
    Layout(
        "vidur (all_reduce)",
        has("num_workers", "size", "devices_per_node", median("all_reduce")),
        all_reduce,
    ),
    Layout(
        "vidur (send_recv)",
        has("num_workers", "size", "devices_per_node", median("send_recv")),
        nothing,
    ),
)
