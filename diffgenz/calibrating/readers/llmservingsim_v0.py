"""Layers of Hugging Face as LLMServingSim first profiled them (casys-kaist/LLMServingSim, MIT).

They are in fp16, and times are in ns. Files stand under .../MODEL/tpN/. Left out are norms,
activations, rotary and token embeddings, each of them several kernels in PyTorch, and the router
with its softmax and top-k.
"""

from pathlib import Path

import numpy as np

from diffgenz.calibrating.readers.dimensions import dimensions
from diffgenz.calibrating.readers.frames import frame_of, groups, numbers
from diffgenz.calibrating.readers.products import gemm_samples
from diffgenz.calibrating.readers.reader import Layout, has
from diffgenz.calibrating.samples import Samples
from diffgenz.kernels.shapes import PrefillShape

NUMBERS = ("input", "kv_cache", "tp_size", "latency(ns)")
"""Columns of numbers."""


def layers(path: Path) -> list[Samples]:
    """The samples of a layers.csv.

    They are the projections of `input` tokens as one kernel, and attention of one prompt over
    itself and kv_cache tokens. expert.w1, w2 and w3 are one expert's products with all tokens, not
    split by tensor parallelism.
    """
    model, _ = dimensions(path)
    query, kv = model.heads * model.head_dim, model.kv_heads * model.head_dim
    inner = {
        "q_proj": query,
        "k_proj": kv,
        "v_proj": kv,
        "gate_proj": model.width,
        "up_proj": model.width,
        "lm_head": model.vocabulary,
    }
    products, found = [], []
    for name, rows in groups(frame_of(path), "layer_name"):
        tokens, cached, devices, ns = numbers(rows, NUMBERS, path)
        seconds, one = ns * 1e-9, np.ones_like(tokens)
        if name in inner:
            products.append((tokens, inner[name] / devices, model.hidden, seconds))
        elif name in ("o_proj", "down_proj"):
            inputs = (query if name == "o_proj" else model.width) / devices
            products.append((tokens, model.hidden, inputs, seconds))
        elif name in ("expert.w1", "expert.w3"):
            products.append((tokens, model.width, model.hidden, seconds))
        elif name == "expert.w2":
            products.append((tokens, model.hidden, model.width, seconds))
        elif name == "attn":
            shape = PrefillShape(
                one,
                tokens,
                cached,
                model.heads / devices,
                np.maximum(model.kv_heads / devices, 1),
                one * model.head_dim,
                np.inf * one,
                2 * one,
            )
            samples = Samples.of("prefill", "fp16", "llmservingsim_v0", "sdpa", shape, seconds)
            found.append(samples)
    if products:
        return [gemm_samples(products, "fp16", "llmservingsim_v0", "linear"), *found]
    return found


LAYOUTS = (Layout("LLMServingSim v0 (layers)", has("layer_name", *NUMBERS), layers),)
