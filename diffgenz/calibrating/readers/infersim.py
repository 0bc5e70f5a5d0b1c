"""InferSim (alibaba/InferSim, Apache-2.0): DeepGEMM's products in fp8 with scales per block, in us. Attention is in infersim_attention."""

from pathlib import Path

import numpy as np

from diffgenz.calibrating.readers.frames import frame_of, numbers
from diffgenz.calibrating.readers.products import gemm_samples, sizes
from diffgenz.calibrating.readers.reader import Layout, has
from diffgenz.calibrating.samples import Samples
from diffgenz.kernels.forms.experts import Experts
from diffgenz.kernels.shapes import ExpertsShape

FORMAT = "fp8_block"
"""Of the products: no column states it, but the project has DeepGEMM's only, and mfu is of the fp8 peak."""

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
BATCH = ("batch_size_per_gpu", "seq_len_per_gpu")


def gemm(path: Path) -> list[Samples]:
    """The samples of gemm/.../data.csv."""
    m, n, k, us = numbers(frame_of(path), ("m", "n", "k", "latency_us"), path)
    return [gemm_samples([(m, n, k, us * 1e-6)], FORMAT, "infersim", "deepgemm")]


def grouped(path: Path) -> list[Samples]:
    """The samples of grouped_gemm/.../data.csv: both products of one rank's experts (nothing is permuted or combined), one rank per group.

    Decodes draw each expert's rows between 0.7 and 1.3 times the mean, rounded down: with one row per expert half of the experts get none.
    """
    frame = frame_of(path)
    batch = next(name for name in BATCH if name in frame)
    experts, ranks, used, hidden, width, rows, up_us, down_us, tokens = numbers(
        frame, (*GROUPED, batch), path
    )
    one = np.ones_like(experts)
    weights, activations = sizes(FORMAT)
    spread = 0.6**2 / 12 if batch == BATCH[0] else 0.0
    shape = ExpertsShape(
        tokens * ranks,
        used,
        experts,
        ranks,
        hidden,
        width,
        2 * width,
        one,
        spread * one,
        weights * one,
        activations * one,
    )
    kernel = "deepgemm masked" if batch == BATCH[0] else "deepgemm contiguous"
    samples = Samples(
        Experts, "experts", FORMAT, "infersim", kernel, shape, (up_us + down_us) * 1e-6
    )
    return [samples.only(rows > 1, "one row per expert, or none") if batch == BATCH[0] else samples]


LAYOUTS = (
    *(Layout("InferSim (grouped_gemm)", has(*GROUPED, batch), grouped) for batch in BATCH),
    Layout("InferSim (gemm)", has("m", "k", "n", "latency_us", "mfu"), gemm),
)
