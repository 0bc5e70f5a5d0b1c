"""Normalisations: each is one elementwise operator, with the residual addition fused in."""

import enum

from diffgenz.core.smooth import Scalar
from diffgenz.operators.elementwise import elementwise
from diffgenz.operators.operator import Operator
from diffgenz.operators.step import Step


class Norm(enum.Enum):
    """A normalisation and the parameters it keeps per feature."""

    RMS = 1
    LAYER = 2  # scale and bias
    SCALE_ONLY = 1.0  # layer norm without bias


def norm(kind: Norm, hidden: Scalar, step: Step, *, count: int = 1) -> Operator:
    """Norms of every token of this rank.

    They read x and the residual, and write the result and the residual.

    Arguments:
        kind: which normalisation.
        hidden: features of a token.
        step: the iteration.
        count: how many such norms.
    """
    size = step.precision.dtype_size
    moved = 2 * step.residual_tokens * hidden * size
    return elementwise(
        "norm", moved, moved, parameters=kind.value * hidden, size=size, repeats=float(count)
    )
