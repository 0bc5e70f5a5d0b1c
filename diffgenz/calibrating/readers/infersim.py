"""DeepGEMM's products as InferSim measured them (alibaba/InferSim, Apache-2.0).

They are in fp8 with scales per block; times are in us. Attention is in `infersim_attention`.
"""

from pathlib import Path

import numpy as np

from diffgenz.calibrating.readers.frames import frame_of, numbers
from diffgenz.calibrating.readers.products import gemm_samples
from diffgenz.calibrating.readers.reader import Layout, has
from diffgenz.calibrating.samples import Samples
from diffgenz.kernels.kernel_format import KernelFormat
from diffgenz.kernels.shapes import ExpertsShape

FORMAT = "fp8_block"
"""Format of the products.

No column states it, but the project has only DeepGEMM's, and mfu is of the fp8 peak.
"""

GROUPED = (
    "num_experts",
    "num_gpus",
    "topk",
    "hidden_size",
    "intermediate_size",
    "tokens_per_expert",
    "up_proj_us",
    "down_proj_us",
)
"""Columns of numbers that describe experts, and their times."""

BATCH = ("batch_size_per_gpu", "seq_len_per_gpu")
"""Columns of a rank's tokens, in decodes and in prompts."""


def gemm(path: Path) -> list[Samples]:
    """The samples of gemm/.../data.csv."""
    m, n, k, us = numbers(frame_of(path), ("m", "n", "k", "latency_us"), path)
    return [gemm_samples([(m, n, k, us * 1e-6)], FORMAT, "infersim", "deepgemm")]


def grouped(path: Path) -> list[Samples]:
    """The samples of grouped_gemm/.../data.csv: both products of one rank's experts.

    Nothing is permuted or combined, and every rank is a group. Decodes draw each expert's rows
    between 0.7 and 1.3 times the mean, rounded down: with one row per expert half of the experts
    get none.
    """
    frame = frame_of(path)
    batch = next(name for name in BATCH if name in frame)
    experts, ranks, used, hidden, width, rows, up_us, down_us, tokens = numbers(
        frame, (*GROUPED, batch), path
    )
    one = np.ones_like(experts)
    weights, activations = KernelFormat.of(FORMAT).sizes
    decoding = batch == BATCH[0]
    shape = ExpertsShape(
        tokens=tokens * ranks,
        used=used,
        experts=experts,
        groups=ranks,
        hidden=hidden,
        width=width,
        up=2 * width,
        excess=one,
        variation=0.6**2 / 12 * one if decoding else 0 * one,
        weight_size=weights * one,
        activation_size=activations * one,
    )
    kernel = "deepgemm masked" if decoding else "deepgemm contiguous"
    seconds = (up_us + down_us) * 1e-6
    samples = Samples.of("experts", FORMAT, "infersim", kernel, shape, seconds)
    return [samples.only(rows > 1, "one row per expert, or none") if decoding else samples]


LAYOUTS = (
    *(Layout("InferSim (grouped_gemm)", has(*GROUPED, batch), grouped) for batch in BATCH),
    Layout("InferSim (gemm)", has("m", "k", "n", "latency_us", "mfu"), gemm),
)
