"""The table moe_perf: the experts of a mixture, on the busiest of the expert-parallel groups.

num_tokens counts the tokens of all groups; latency is in ms.
"""

import re
from pathlib import Path

import numpy as np

from diffgenz.calibrating.readers.aiconfigurator.collector_draws import Routed, balanced, power_law
from diffgenz.calibrating.readers.aiconfigurator.frames import format_of, need, parts, seconds_of
from diffgenz.calibrating.readers.frames import frame_of
from diffgenz.calibrating.samples import Samples
from diffgenz.core.errors import InputError
from diffgenz.kernels.forms.experts import variation_of
from diffgenz.kernels.kernel_format import KernelFormat
from diffgenz.kernels.shapes import ExpertsShape

WORDS = ("framework", "version", "kernel_source", "moe_dtype", "distribution")
"""Columns of words that every such table has."""

NUMBERS = (
    "num_tokens",
    "hidden_size",
    "inter_size",
    "topk",
    "num_experts",
    "moe_tp_size",
    "moe_ep_size",
)
"""Columns of numbers that every such table has, beside the latency."""

NOT_GATED = ((22, 512), (6, 128))
"""Experts of each token, and of all, in models of Nemotron 3, whose experts are not gated."""

ALWAYS_GATED = re.compile(r"vllm_fused_moe$|sglang_(?!flashinfer_trtllm)|moe_torch_flow$")
"""Kernels that collectors run with gates for all models."""

LOCAL_SGLANG = (0, 5, 14)
"""First version of SGLang whose kernels multiply only the rows of the group's experts.

Earlier ones multiply all rows of the tokens that touch the group, those of other groups' experts
among them.
"""


def experts(path: Path) -> list[Samples]:
    """The samples of a moe_perf table, by moe_dtype.

    kernel_source or the numbers of experts say which are not gated.
    """
    frame = frame_of(path)
    need(frame, (*WORDS, *NUMBERS, "latency"), path)
    found = []
    for source, kernel, (dtype,), rows in parts(frame, "moe_dtype"):
        format = format_of(dtype, "moe_dtype", path)
        weights, activations = KernelFormat.of(format).sizes
        tokens, hidden, inter, used, count, tensor, groups = (
            rows[name].to_numpy(float) for name in NUMBERS
        )
        width, local = inter / tensor, count / groups
        busiest = routed(rows["distribution"].to_numpy(str), tokens, used, count, groups, path)
        multiplied = busiest.touching * used if _multiplies_all(source) else busiest.rows
        shape = ExpertsShape(
            tokens=tokens,
            used=used,
            experts=count,
            groups=groups,
            hidden=hidden,
            width=width,
            up=np.where(_gated(kernel, used, count), 2 * width, width),
            excess=multiplied * groups / (tokens * used),
            variation=variation_of(busiest.active / local, multiplied / local),
            weight_size=np.full_like(tokens, weights),
            activation_size=np.full_like(tokens, activations),
        )
        found.append(Samples.of("experts", format, source, kernel, shape, seconds_of(rows)))
    return found


def routed(
    distribution: np.ndarray,
    tokens: np.ndarray,
    used: np.ndarray,
    experts: np.ndarray,
    groups: np.ndarray,
    path: Path,
) -> Routed:
    """The expected numbers of the measured group, for each row of a table.

    Arguments:
        distribution: names of the rules by which tokens are sent, (rows,).
        tokens: of all groups, (rows,).
        used: experts of each token, (rows,).
        experts: of all groups, (rows,).
        groups: expert-parallel groups, (rows,).
        path: the file, for messages.

    Raises:
        InputError: a distribution that is not known.
    """
    laws: dict[str, float | None] = {}
    for name in np.unique(distribution).tolist():
        law = re.fullmatch(r"power_law_([0-9.]+)", name)
        if law is None and name != "balanced":
            raise InputError(
                f"{path}: column 'distribution' has {name!r}, which is not known; "
                "use balanced or power_law_ and its exponent"
            )
        laws[name] = float(law[1]) if law else None
    found = []
    columns = (column.astype(int).tolist() for column in (tokens, used, experts, groups))
    for name, *counts in zip(distribution, *columns, strict=True):
        law = laws[name]
        found.append(balanced(*counts) if law is None else power_law(law, *counts))
    return Routed(*np.array(found, float).reshape(-1, 3).T)


def _gated(kernel: str, used: np.ndarray, experts: np.ndarray) -> np.ndarray:
    """Which rows are of gated experts."""
    if "nongated" in kernel:
        return np.zeros(len(used), bool)
    if ALWAYS_GATED.match(kernel):
        return np.ones(len(used), bool)
    return ~np.logical_or.reduce([(used == few) & (experts == all_) for few, all_ in NOT_GATED])


def _multiplies_all(source: str) -> bool:
    """Whether kernels multiply rows of other groups' experts (`LOCAL_SGLANG`)."""
    software, _, text = source.partition("-")
    version = tuple(int(part) for part in re.findall(r"\d+", text)[:3])
    return software == "sglang" and version < LOCAL_SGLANG
