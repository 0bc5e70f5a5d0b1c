"""Dense layers and experts as Frontier profiled them (NetX-lab/Frontier, MIT).

time_stats are in ms. Rows of architectures that are not "generic" or that are quantised are left
out and counted; norms and embeddings, which some rows lack, are left out too. Attention is in
`frontier_attention`.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffgenz.calibrating.readers.dense_layer import Layer, elementwise_samples
from diffgenz.calibrating.readers.dimensions import head_dim
from diffgenz.calibrating.readers.frames import flags, frame_of, named, numbers, rows_where, words
from diffgenz.calibrating.readers.products import gemm_samples
from diffgenz.calibrating.readers.reader import Layout, has
from diffgenz.calibrating.readers.vidur import PRODUCTS, SIZES, median
from diffgenz.calibrating.samples import Samples
from diffgenz.core.errors import InputError
from diffgenz.kernels.kernel_format import KernelFormat
from diffgenz.kernels.shapes import ExpertsShape

if TYPE_CHECKING:
    import pandas

FORMATS = {"BF16": "bf16", "FP16": "fp16", "FP32": "fp32"}
"""Our formats by its profiling_precision."""

COMMON = ("profiling_precision", "quant_signature", "model_arch", "measurement_type")
"""Columns that all its tables have."""

PASSES = {"mlp_act": "activation", "attn_rope": "rotary"}
"""Passes over memory (`Layer.elements`) by the name of its operator."""

EXPERTS = (
    "num_tokens",
    "router_topk",
    "num_experts",
    "expert_parallel_size",
    "hidden_dim",
    "expert_hidden_dim",
    "num_tensor_parallel_workers",
)
"""Columns of numbers that describe experts."""


def usable(path: Path) -> "tuple[pandas.DataFrame, str, dict[str, int]]":
    """The rows of unquantised generic layers, their format, and how many others there are.

    The others are counted by reason.

    Raises:
        InputError: no row can be used, or those that can are of several formats.
    """
    frame = frame_of(path)
    plain = (words(frame, "quant_signature") == "none") & (words(frame, "model_arch") == "generic")
    kept = rows_where(frame, plain)
    if not len(kept):
        raise InputError(
            f"{path}: all rows are quantised (quant_signature) or of a special architecture "
            "(model_arch): none can be used"
        )
    formats = np.unique(named(kept, "profiling_precision", FORMATS, path))
    if len(formats) != 1:
        raise InputError(
            f"{path}: it has rows of {len(formats)} values of profiling_precision that can be "
            "used; give each a file of its own"
        )
    others = int((~plain).sum())
    dropped = {"quantised, or of a special architecture": others} if others else {}
    return kept, str(formats[0]), dropped


def linear(path: Path) -> list[Samples]:
    """The samples of a linear_op.csv.

    They are the projections as one kernel, activation and rotary embedding.
    """
    frame, format, dropped = usable(path)
    tokens, hidden, width, heads, kv_heads, devices = numbers(frame, SIZES, path)
    dim = head_dim(hidden[0], heads[0], kv_heads[0], path)
    gates = np.where(flags(frame, "attn_output_gate", path), 2.0, 1.0)
    up = np.where(flags(frame, "use_gated_mlp", path), 2.0, 1.0)
    layer = Layer(
        tokens, hidden, width, heads * dim, np.maximum(kv_heads, devices) * dim, up, devices
    )
    gated = layer._replace(query=gates * layer.query)
    products = layer.products() | {"qkv": gated.products()["qkv"]}
    times = {name: numbers(frame, (median(name),), path)[0] * 1e-3 for name in (*PRODUCTS, *PASSES)}
    timed = [(*products[part], times[name]) for name, part in PRODUCTS.items()]
    projections = gemm_samples(timed, format, "frontier", _kernel(frame, "linear"))
    projections.dropped.update(dropped)
    elements = layer.elements()
    return [projections] + [
        elementwise_samples(elements[part], times[name], format, "frontier", _kernel(frame, name))
        for name, part in PASSES.items()
    ]


def experts(path: Path) -> list[Samples]:
    """The samples of a moe.csv: the grouped products of one of the expert-parallel groups.

    The rows of the group are total_routed_tokens. load_imbalance_cv is the coefficient of variation
    of the rows that its experts got, chance included, so that it covers experts without any.
    """
    frame, format, dropped = usable(path)
    tokens, used, count, groups, hidden, width, devices = numbers(frame, EXPERTS, path)
    routed, spread, ms = numbers(
        frame, ("total_routed_tokens", "load_imbalance_cv", median("moe_grouped_gemm")), path
    )
    variation = np.minimum(spread**2, count / used - 1)
    columns = width / devices
    weights, activations = KernelFormat.of(format).sizes
    one = np.ones_like(tokens)
    up = np.where(flags(frame, "use_gated", path), 2.0, 1.0) * columns
    excess = routed / (tokens * used / groups)
    shape = ExpertsShape(
        tokens=tokens,
        used=used,
        experts=count,
        groups=groups,
        hidden=hidden,
        width=columns,
        up=up,
        excess=excess,
        variation=variation,
        weight_size=weights * one,
        activation_size=activations * one,
    )
    found = []
    backends = words(frame, "moe_grouped_gemm_backend")
    for backend in np.unique(backends):
        kernel = _kernel(frame, backend)
        samples = Samples.of("experts", format, "frontier", kernel, shape, ms * 1e-3)
        samples.dropped.update(dropped)
        found.append(samples.only(backends == backend))
    return found


def _kernel(frame: "pandas.DataFrame", name: str) -> str:
    """The name of a kernel, with how it was timed."""
    return f"{name} ({' and '.join(np.unique(words(frame, 'measurement_type')))})"


LAYOUTS = (
    Layout(
        "Frontier (linear_op)", has(*SIZES, *COMMON, *(median(name) for name in PRODUCTS)), linear
    ),
    Layout(
        "Frontier (moe)",
        has(
            *EXPERTS,
            *COMMON,
            "total_routed_tokens",
            "load_imbalance_cv",
            median("moe_grouped_gemm"),
        ),
        experts,
    ),
)
