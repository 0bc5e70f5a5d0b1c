"""moe_perf: the experts of a mixture, on the busiest of the expert-parallel groups; num_tokens counts the tokens of all of them."""

import re
from pathlib import Path

import numpy as np

from diffgenz.calibrating.readers.aiconfigurator.collector_draws import Routed, balanced, power_law
from diffgenz.calibrating.readers.aiconfigurator.frames import format_of, need, parts, seconds_of
from diffgenz.calibrating.readers.frames import frame_of
from diffgenz.calibrating.samples import Samples
from diffgenz.core.errors import InputError
from diffgenz.core.formats import FORMATS as SIZES
from diffgenz.kernels.forms.experts import Experts, variation_of
from diffgenz.kernels.shapes import ExpertsShape

NUMBERS = (
    "num_tokens",
    "hidden_size",
    "inter_size",
    "topk",
    "num_experts",
    "moe_tp_size",
    "moe_ep_size",
)

NOT_GATED = ((22, 512), (6, 128))
"""Experts used and in all of Nemotron 3's, which are not gated."""

ALWAYS_GATED = re.compile(r"vllm_fused_moe$|sglang_(?!flashinfer_trtllm)|moe_torch_flow$")
"""Kernels that collectors run with gates, whatever the model."""

LOCAL_SGLANG = (0, 5, 14)
"""Before it, SGLang's kernels multiply all rows of the tokens that touch the group, those of other groups' experts too."""


def experts(path: Path) -> list[Samples]:
    """The samples of a moe_perf table, by moe_dtype; kernel_source, or the numbers of experts, say which are not gated. Latency is in ms."""
    frame = frame_of(path)
    need(
        frame,
        ("framework", "version", "kernel_source", "moe_dtype", *NUMBERS, "distribution", "latency"),
        path,
    )
    found = []
    for source, kernel, (dtype,), rows in parts(frame, "moe_dtype"):
        format = format_of(dtype, "moe_dtype", path)
        weights, _, activations = format.partition("/")
        tokens, hidden, inter, used, count, tensor, groups = (
            rows[name].to_numpy(float) for name in NUMBERS
        )
        width, local = inter / tensor, count / groups
        busiest = routed(rows["distribution"].to_numpy(str), tokens, used, count, groups, path)
        multiplied = busiest.touching * used if _multiplies_all(source) else busiest.rows
        shape = ExpertsShape(
            tokens,
            used,
            count,
            groups,
            hidden,
            width,
            np.where(_gated(kernel, used, count), 2 * width, width),
            multiplied * groups / (tokens * used),
            variation_of(busiest.active / local, multiplied / local),
            np.full_like(tokens, SIZES[weights].size),
            np.full_like(tokens, SIZES[activations or weights].size),
        )
        found.append(Samples(Experts, "experts", format, source, kernel, shape, seconds_of(rows)))
    return found


def routed(
    distribution: np.ndarray,
    tokens: np.ndarray,
    used: np.ndarray,
    experts: np.ndarray,
    groups: np.ndarray,
    path: Path,
) -> Routed:
    """What the measured group has, for each row of a table.

    Raises:
        InputError: a distribution that is not known.
    """
    laws: dict[str, float | None] = {}
    for name in np.unique(distribution).tolist():
        law = re.fullmatch(r"power_law_([0-9.]+)", name)
        if law is None and name != "balanced":
            raise InputError(
                f"{path}: column 'distribution' has {name!r}, which is not known; use balanced or power_law_ and its exponent"
            )
        laws[name] = float(law[1]) if law else None
    found = []
    for name, *counts in zip(
        distribution,
        *(column.astype(int).tolist() for column in (tokens, used, experts, groups)),
        strict=True,
    ):
        law = laws[name]
        found.append(balanced(*counts) if law is None else power_law(law, *counts))
    return Routed(*np.array(found, float).reshape(-1, 3).T)


def _gated(kernel: str, used: np.ndarray, experts: np.ndarray) -> np.ndarray:
    if "nongated" in kernel:
        return np.zeros(len(used), bool)
    if ALWAYS_GATED.match(kernel):
        return np.ones(len(used), bool)
    return ~np.logical_or.reduce([(used == few) & (experts == all_) for few, all_ in NOT_GATED])


def _multiplies_all(source: str) -> bool:
    software, _, version = source.partition("-")
    return (
        software == "sglang"
        and tuple(int(part) for part in re.findall(r"\d+", version)[:3]) < LOCAL_SGLANG
    )
