"""moe_perf: the experts of a mixture, on the busiest of the expert-parallel groups; num_tokens counts the tokens of all of them."""

import re
from pathlib import Path

import numpy as np

from diffgenz.calibrating.aiconfigurator.frames import format_of, need, parts, seconds_of
from diffgenz.calibrating.frames import frame_of
from diffgenz.calibrating.samples import Samples
from diffgenz.errors import InputError
from diffgenz.formats import FORMATS as SIZES
from diffgenz.kernels.experts import Experts, FusedExperts
from diffgenz.kernels.shapes import ExpertsShape

NUMBERS = ("num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size")


def experts(path: Path) -> list[Samples]:
    """The samples of a moe_perf table, by moe_dtype; kernel_source says which experts are not gated. Latency is in ms."""
    frame = frame_of(path)
    need(frame, ("framework", "version", "kernel_source", "moe_dtype", *NUMBERS, "distribution", "latency"), path)
    found = []
    for source, kernel, (dtype,), rows in parts(frame, "moe_dtype"):
        format = format_of(dtype, "moe_dtype", path)
        weights, _, activations = format.partition("/")
        tokens, hidden, inter, used, count, tensor, groups = (rows[name].to_numpy(float) for name in NUMBERS)
        width = inter / tensor
        shape = ExpertsShape(
            tokens,
            used,
            count,
            groups,
            hidden,
            width,
            width if "nongated" in kernel else 2 * width,
            np.ones_like(tokens),
            variation(rows["distribution"].to_numpy(str), tokens, used, count, path),
            np.full_like(tokens, SIZES[weights].size),
            np.full_like(tokens, SIZES[activations or weights].size),
        )
        form = FusedExperts if "triton" in kernel else Experts
        found.append(Samples(form, "experts", format, source, kernel, shape, seconds_of(rows)))
    return found


def variation(distribution: np.ndarray, tokens: np.ndarray, used: np.ndarray, experts: np.ndarray, path: Path) -> np.ndarray:
    """Squared coefficient of variation of the experts' shares of rows, for each row of a table.

    A collector draws every expert's rows from a power law x**-a between 1 and 0.8 tokens (between 0.01 and 2 where there are fewer rows than
    experts); no expert gets more than one row of each token.
    """
    found = np.zeros_like(tokens)
    for name in np.unique(distribution):
        at = distribution == name
        law = re.fullmatch(r"power_law_([0-9.]+)", name)
        if law is None and name != "balanced":
            raise InputError(f"{path}: column 'distribution' has {name!r}, which is not known; use balanced or power_law_ and its exponent")
        if law is not None:
            exponent, many = float(law[1]), tokens[at] * used[at] > experts[at]
            low, high = np.where(many, 1.0, 0.01), np.where(many, 0.8 * tokens[at], 2.0)
            moments = [(high ** (power - exponent) - low ** (power - exponent)) / (power - exponent) for power in (1, 2, 3)]
            found[at] = np.minimum(moments[0] * moments[2] / moments[1] ** 2 - 1, experts[at] / used[at] - 1)
    return found
