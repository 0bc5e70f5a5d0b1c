"""Operators of blocks that keep a state of fixed size per sequence instead of a cache."""

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar
from diffgenz.kernels.shapes import ConvShape, DeltaShape, Mamba2Shape
from diffgenz.operators.operator import Kind, Operator
from diffgenz.operators.step import Step

STATE_SIZE = 4.0
"""B of an element of a recurrent state, which is kept in fp32."""


def causal_conv(step: Step, channels: Scalar, width: Scalar, *, bias: bool) -> Operator:
    """A short depthwise convolution along the tokens, with its activation fused in.

    It keeps the last `width - 1` tokens of each sequence.

    Arguments:
        step: the iteration.
        channels: channels of this device.
        width: taps of each channel's filter.
        bias: whether each channel adds a bias.
    """
    size, parameters = step.precision.dtype_size, channels * (width + bias)
    moved, state = step.tokens * channels * size, step.sequences * channels * (width - 1) * size
    return Operator(
        "conv",
        Kind.ELEMENTWISE,
        weights=parameters * size,
        inputs=moved,
        outputs=moved,
        kv_cache=2 * state,
        parameters=parameters,
        parameter_size=size,
        cached=state,
        kernel="conv_decode" if step.decoding else "conv_prefill",
        shape=ConvShape(step.sequences, step.queries, channels, width),
    )


def scan(
    step: Step,
    heads: Scalar,
    state: Scalar,
    *,
    passes: float,
    pairwise: Scalar | float,
    chunk: Scalar | float,
    read: Scalar,
    written: Scalar,
    parameters: Scalar,
    kernels: str = "",
    shape: Mamba2Shape | DeltaShape | None = None,
) -> Operator:
    """A recurrence along the tokens over a state of fixed size.

    The state is read and written once for each sequence.

        FLOP = 2 tokens heads (passes state + pairwise (min(chunk, queries) + 1) / 2)

    Decode updates the state token by token, without the second term. Prefill takes `chunk` tokens
    at once: causal attention inside a chunk, and the state, which stays on the chip, between
    chunks.

    Arguments:
        step: the iteration.
        heads: heads of this device.
        state: elements of each head's state.
        passes: multiply-adds per token and element of the state: an update and a readout are two.
        pairwise: multiply-adds per head for a pair of tokens of one chunk, which prefill spends
            instead of a longer recurrence.
        chunk: tokens that prefill takes at once.
        read: elements of dtype that are read per token.
        written: elements of dtype that are written per token.
        parameters: elements of parameters that stay in memory.
        kernels: the measured kernels that time it, "mamba2" or "delta"; "" where there are none.
        shape: the operator's shape, as measured kernels know it; None where there are none.
    """
    size = step.precision.dtype_size
    pairs = 0.0 if step.decoding else 0.5 * (xp.minimum(chunk, step.queries) + 1)
    held = step.sequences * heads * state * STATE_SIZE
    return Operator(
        "scan",
        Kind.WIDE,
        m=step.tokens,
        n=heads,
        k=passes * state + pairwise * pairs,
        weights=parameters * size,
        inputs=step.tokens * read * size,
        outputs=step.tokens * written * size,
        kv_cache=2 * held,
        parameters=parameters,
        parameter_size=size,
        cached=held,
        kernel=f"{kernels}_{'decode' if step.decoding else 'prefill'}" if kernels else "",
        shape=shape,
    )
