"""Normalisations: each is one elementwise operator, into which the residual addition is fused."""

import enum

from diffgenz.core.smooth import Scalar
from diffgenz.operators.elementwise import elementwise
from diffgenz.operators.operator import Operator
from diffgenz.operators.step import Step


class Norm(enum.Enum):
    """A kind of normalisation; its value is the number of parameters that it keeps per feature."""

    RMS = 1
    LAYER = 2  # scale and bias
    SCALE_ONLY = 1.0  # layer norm without bias
    PLAIN = 0  # without parameters


def norm(kind: Norm, hidden: Scalar, step: Step, *, count: int = 1) -> Operator:
    """The norms of every token of this rank.

    Each reads x and the residual, and writes the result and the residual.

    Arguments:
        kind: which normalisation.
        hidden: features of a token.
        step: the iteration.
        count: how many such norms there are.
    """
    size = step.precision.dtype_size
    moved = 2 * step.residual_tokens * hidden * size
    return elementwise(
        "norm", moved, moved, parameters=kind.value * hidden, size=size, repeats=float(count)
    )
