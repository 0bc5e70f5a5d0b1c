"""wideep_deepep_ll_perf and wideep_deepep_normal_perf: dispatch and combine of MoE tokens. Times are in us, tokens per rank.

Expert choices are taken as uniform: with R ranks, a token's `used` experts are on R (1 - (1 - 1 / R)**used) of them. Low-latency kernels send a token
once for each expert, normal ones once for each rank, and to each other node once.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffgenz.calibrating.readers.aiconfigurator.frames import need, parts
from diffgenz.calibrating.readers.frames import frame_of
from diffgenz.calibrating.samples import Samples
from diffgenz.core.errors import InputError
from diffgenz.kernels.families import form_of
from diffgenz.kernels.shapes import ExchangeShape

if TYPE_CHECKING:
    import pandas as pd

SIZES = {"fp8": 1 + 4 / 128, "nvfp4": 0.5 + 1 / 16, "bf16": 2.0}
"""B per element on the wire: quantised messages carry a scale for each 128 (fp8) or 16 (nvfp4) elements."""

NODES = 4.0
"""That a token's experts are on at most in DeepEP's test of normal kernels (tests/test_internode.py: num_topk_groups), as DeepSeek-V3 routes."""

PHASES = {"dispatch": "fp8", "combine": "bf16"}
"""The format of messages: DeepEP's own tests, from which the tables come, send fp8 and get bf16 back."""

_COMMON = (
    "framework",
    "version",
    "kernel_source",
    "device",
    "node_num",
    "hidden_size",
    "num_token",
    "num_topk",
    "num_experts",
)


def low_latency(path: Path) -> list[Samples]:
    """The samples of a wideep_deepep_ll_perf table: dispatch and combine, by kernel_source."""
    frame = frame_of(path)
    need(frame, (*_COMMON, "dispatch_avg_t_us", "combine_avg_t_us"), path)
    return [
        Samples(
            form_of(f"{phase}_low_latency", format),
            f"{phase}_low_latency",
            format,
            source,
            kernel,
            _per_expert(rows, format, path),
            rows[f"{phase}_avg_t_us"].to_numpy(float) * 1e-6,
        )
        for source, kernel, _, rows in parts(frame)
        for phase, format in PHASES.items()
    ]


def normal(path: Path) -> list[Samples]:
    """The samples of a wideep_deepep_normal_perf table. A phase is its notification and its transfer: which of them waits varies, not their sum."""
    frame = frame_of(path)
    need(
        frame,
        (
            *_COMMON,
            *(
                f"{phase}_{what}"
                for phase in PHASES
                for what in ("sms", "transmit_us", "notify_us")
            ),
        ),
        path,
    )
    found = []
    for source, kernel, _, rows in parts(frame):
        for phase, format in PHASES.items():
            seconds = 1e-6 * (rows[f"{phase}_transmit_us"] + rows[f"{phase}_notify_us"]).to_numpy(
                float
            )
            shape = _per_rank(rows, format, rows[f"{phase}_sms"].to_numpy(float), path)
            form = form_of(f"{phase}_normal", format)
            found.append(Samples(form, f"{phase}_normal", format, source, kernel, shape, seconds))
    return found


def _per_expert(rows: "pd.DataFrame", format: str, path: Path) -> ExchangeShape:
    nodes, ranks, tokens, used, own = _group(rows, format, path)
    near, far = own * used * (ranks / nodes - 1) / ranks, own * used * (1 - 1 / nodes)
    return ExchangeShape(ranks, nodes, tokens, own, near, far, rows["num_experts"].to_numpy(float))


def _per_rank(rows: "pd.DataFrame", format: str, units: np.ndarray, path: Path) -> ExchangeShape:
    nodes, ranks, tokens, used, own = _group(rows, format, path)
    inside = ranks / nodes
    reached = np.minimum(nodes, NODES)
    near = (
        own * _distinct(reached * inside, used) * (inside - 1) / inside
    )  # what comes from other nodes is passed on inside
    far = own * _distinct(reached, used) * (1 - 1 / nodes)
    return ExchangeShape(ranks, nodes, tokens, own, near, far, units)


def _distinct(groups: np.ndarray, used: np.ndarray) -> np.ndarray:
    return groups * (1 - (1 - 1 / groups) ** used)


def _group(rows: "pd.DataFrame", format: str, path: Path) -> tuple[np.ndarray, ...]:
    nodes, tokens, used, hidden = (
        rows[name].to_numpy(float) for name in ("node_num", "num_token", "num_topk", "hidden_size")
    )
    if (nodes < 1).any():
        raise InputError(
            f"{path}: column 'node_num' has {nodes.min():g}, and a group is on 1 node at least; leave those rows out"
        )
    inside = np.where(
        rows["device"].astype(str).str.contains("GB200"), 4.0, 8.0
    )  # accelerators of a node; no column has them
    return nodes, nodes * inside, tokens, used, tokens * hidden * SIZES[format]
