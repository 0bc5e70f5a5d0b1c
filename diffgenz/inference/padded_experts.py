"""Experts in mxfp4 as an engine's kernels keep them: padded to whole tiles.

vLLM pads what experts read and write, and the features that each rank has of an expert, when it
loads them (`fused_moe/oracle/mxfp4.py`, 2026), by the kernels that it chooses for the architecture:
FlashInfer's TensorRT-LLM on sm_10x (B200 to Rubin) and those of ROCm ask for multiples of 256 and
256; Marlin's, which run on other NVIDIA GPUs, for 256 and 128. These include sm_11x and sm_12x (RTX
5090, GB10), although they multiply mxfp4. What is not known is taken as Marlin's. Experts in other
formats are kept as they are.
"""

from collections.abc import Mapping
from typing import NamedTuple

from diffgenz.core import xp
from diffgenz.core.smooth import Leaf, Scalar, as_leaf, ceil_share
from diffgenz.hardware.accelerator import Accelerator
from diffgenz.operators.operator import Kind, Operator
from diffgenz.operators.precision import Precision

MXFP4 = "mxfp4"
"""The format whose experts are padded."""

_WIDE_TILES = ("sm_10", "gfx")
"""How the names of architectures begin whose kernels ask for multiples of 256 on each rank."""


class Tile(NamedTuple):
    """What the features of an expert are padded to: multiples of these.

    Arguments:
        hidden: for those that it reads and writes.
        width: for those between its products, on each rank that shares the expert.
    """

    hidden: Leaf
    width: Leaf


def expert_tiles(accelerator: Accelerator, precision: Precision) -> dict[str, Tile]:
    """The tiles of experts, by the part of the model whose formats they are in; none if unpadded.

    Arguments:
        accelerator: what holds them.
        precision: the formats.
    """
    wide = accelerator.architecture.startswith(_WIDE_TILES)
    tile = Tile(as_leaf(256.0), as_leaf(256.0 if wide else 128.0))
    return {part: tile for part, formats in precision.parts.items() if formats.weights == MXFP4}


def padded_by(op: Operator, tiles: Mapping[str, Tile]) -> Scalar | float:
    """How many times the parameters of an operator its padded ones are, at least 1.

    Arguments:
        op: the operator.
        tiles: as `expert_tiles` returns them.
    """
    if op.kernel != "experts" or op.part not in tiles or op.kind is not Kind.LINEAR:
        return 1.0
    hidden, width = tiles[op.part]
    if op.name == "expert_down":
        return _rounded(op.n, hidden) * _rounded(op.k, width)
    both = 2 if op.name == "expert_gate_up" else 1  # each of two matrices is padded
    return _rounded(op.n, both * width) * _rounded(op.k, hidden)


def _rounded(features: Scalar | float, multiple: Leaf) -> Scalar:
    """The features rounded up to a multiple, over the features."""
    return ceil_share(xp.asarray(features), 1 / multiple) * multiple / features
