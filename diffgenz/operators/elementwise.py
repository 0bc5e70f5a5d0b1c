"""Kernels bound by memory: norms, rotary embedding, activations, residuals, gathers."""

from diffgenz.core.smooth import Scalar
from diffgenz.kernels.shapes import ElementwiseShape
from diffgenz.operators.operator import Kind, Operator


def elementwise(
    name: str,
    read: Scalar,
    written: Scalar,
    *,
    parameters: Scalar | float = 0.0,
    size: Scalar | float = 0.0,
    repeats: Scalar | float = 1.0,
) -> Operator:
    """A kernel whose arithmetic hides behind its bytes.

    Arguments:
        name: the operator's row in a breakdown.
        read: B read in one execution.
        written: B written in one execution.
        parameters: elements of parameters that stay in memory.
        size: B of each of these elements.
        repeats: executions.
    """
    return Operator(
        name,
        Kind.ELEMENTWISE,
        inputs=read,
        outputs=written,
        parameters=parameters,
        parameter_size=size,
        repeats=repeats,
        kernel="elementwise",
        shape=ElementwiseShape(read + written),
    )
