"""The tables wideep_deepep_ll_perf and wideep_deepep_normal_perf.

They hold dispatch and combine of MoE tokens; times are in us, tokens per rank. Expert choices are
taken as uniform: with R ranks, a token's `used` experts are on R (1 - (1 - 1 / R)**used) of them.
Low-latency kernels send a token once for each expert, normal ones once for each rank, and to each
other node once.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffgenz.calibrating.readers.aiconfigurator.frames import need, parts
from diffgenz.calibrating.readers.frames import frame_of
from diffgenz.calibrating.samples import Samples
from diffgenz.core.errors import InputError
from diffgenz.kernels.shapes import ExchangeShape

if TYPE_CHECKING:
    import pandas

SIZES = {"fp8": 1 + 4 / 128, "nvfp4": 0.5 + 1 / 16, "bf16": 2.0}
"""Bytes per element on the wire.

Quantised messages carry a scale for each 128 (fp8) or 16 (nvfp4) elements.
"""

NODES = 4.0
"""Nodes that a token's experts are on at most in DeepEP's test of normal kernels.

It routes as DeepSeek-V3 does (tests/test_internode.py: num_topk_groups).
"""

PHASES = {"dispatch": "fp8", "combine": "bf16"}
"""Formats of messages.

DeepEP's own tests, from which the tables come, send fp8 and get bf16 back.
"""

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
    found = []
    for source, kernel, _, rows in parts(frame):
        for phase, format in PHASES.items():
            seconds = rows[f"{phase}_avg_t_us"].to_numpy(float) * 1e-6
            shape = _per_expert(rows, format, path)
            family = f"{phase}_low_latency"
            found.append(Samples.of(family, format, source, kernel, shape, seconds))
    return found


def normal(path: Path) -> list[Samples]:
    """The samples of a wideep_deepep_normal_perf table.

    A phase is its notification and its transfer: which of them waits varies, but not their sum.
    """
    frame = frame_of(path)
    measured = ("sms", "transmit_us", "notify_us")
    columns = (f"{phase}_{what}" for phase in PHASES for what in measured)
    need(frame, (*_COMMON, *columns), path)
    found = []
    for source, kernel, _, rows in parts(frame):
        for phase, format in PHASES.items():
            us = rows[f"{phase}_transmit_us"] + rows[f"{phase}_notify_us"]
            shape = _per_rank(rows, format, rows[f"{phase}_sms"].to_numpy(float), path)
            seconds, family = 1e-6 * us.to_numpy(float), f"{phase}_normal"
            found.append(Samples.of(family, format, source, kernel, shape, seconds))
    return found


def _per_expert(rows: "pandas.DataFrame", format: str, path: Path) -> ExchangeShape:
    nodes, ranks, tokens, used, own = _group(rows, format, path)
    near, far = own * used * (ranks / nodes - 1) / ranks, own * used * (1 - 1 / nodes)
    return ExchangeShape(ranks, nodes, tokens, own, near, far, rows["num_experts"].to_numpy(float))


def _per_rank(
    rows: "pandas.DataFrame", format: str, units: np.ndarray, path: Path
) -> ExchangeShape:
    nodes, ranks, tokens, used, own = _group(rows, format, path)
    inside = ranks / nodes
    reached = np.minimum(nodes, NODES)
    # what comes from other nodes is passed on inside
    near = own * _distinct(reached * inside, used) * (inside - 1) / inside
    far = own * _distinct(reached, used) * (1 - 1 / nodes)
    return ExchangeShape(ranks, nodes, tokens, own, near, far, units)


def _distinct(groups: np.ndarray, used: np.ndarray) -> np.ndarray:
    """The expected number of groups that the experts of a token are in."""
    return groups * (1 - (1 - 1 / groups) ** used)


def _group(rows: "pandas.DataFrame", format: str, path: Path) -> tuple[np.ndarray, ...]:
    """Nodes, ranks, tokens of a rank, experts of a token, and bytes of the tokens of a rank."""
    nodes, tokens, used, hidden = (
        rows[name].to_numpy(float) for name in ("node_num", "num_token", "num_topk", "hidden_size")
    )
    if (nodes < 1).any():
        raise InputError(
            f"{path}: column 'node_num' has {nodes.min():g}, and a group is on 1 node at least; "
            "leave those rows out"
        )
    # accelerators of a node; no column has them
    inside = np.where(rows["device"].astype(str).str.contains("GB200"), 4.0, 8.0)
    return nodes, nodes * inside, tokens, used, tokens * hidden * SIZES[format]
