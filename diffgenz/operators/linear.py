"""Matrix products with weights: linear layers in any format, in dtype, of experts, and per head."""

from diffgenz.core.smooth import Scalar
from diffgenz.kernels.shapes import BatchedShape, ExpertsShape, GemmShape
from diffgenz.operators.layer_format import DTYPE
from diffgenz.operators.operator import Kind, Operator
from diffgenz.operators.precision import Precision


def linear(
    name: str,
    rows: Scalar,
    outputs: Scalar,
    inputs: Scalar,
    precision: Precision,
    module: str,
    *,
    bias: bool = False,
    tied: bool = False,
) -> Operator:
    """A linear layer: a product of shapes (rows, inputs) x (inputs, outputs).

    Arguments:
        name: the operator's row in a breakdown.
        rows: tokens.
        outputs: output features of this device's shard.
        inputs: input features of this device's shard.
        precision: the formats.
        module: what kind of layer it is, a key of `layer_format.MODULES`: its formats are those
            that `precision` has for it.
        bias: whether the layer adds a bias.
        tied: whether the weights are those of the embedding, which counts them.
    """
    part, weight_size, activation_size = precision.layer(name, module)
    kind = Kind.WIDE if part == DTYPE else Kind.LINEAR
    sizes = weight_size, activation_size, precision.dtype_size
    return _product(name, kind, (rows, outputs, inputs), sizes, part, bias, tied)


def wide_linear(
    name: str,
    rows: Scalar,
    outputs: Scalar,
    inputs: Scalar,
    precision: Precision,
    *,
    bias: bool = False,
    tied: bool = False,
) -> Operator:
    """A linear layer kept in dtype, such as a router.

    Arguments:
        name: the operator's row in a breakdown.
        rows: tokens.
        outputs: output features of this device's shard.
        inputs: input features of this device's shard.
        precision: the formats.
        bias: whether the layer adds a bias.
        tied: whether the weights are those of the embedding, which counts them.
    """
    size = precision.dtype_size
    return _product(name, Kind.WIDE, (rows, outputs, inputs), (size, size, size), DTYPE, bias, tied)


def _product(
    name: str,
    kind: Kind,
    dimensions: tuple[Scalar, Scalar, Scalar],
    sizes: tuple[Scalar, Scalar, Scalar],
    part: str,
    bias: bool,
    tied: bool,
) -> Operator:
    """A product with weights.

    Arguments:
        name: the operator's row in a breakdown.
        kind: what it is.
        dimensions: tokens, output and input features of this device's shard.
        sizes: bytes per element of weights, of inputs and of outputs.
        part: the part of the model in whose formats it runs.
        bias: whether the layer adds a bias.
        tied: whether the weights are those of the embedding, which counts them.
    """
    rows, outputs, inputs = dimensions
    parameters = outputs * (inputs + bias)
    weights, read, written = (
        count * size
        for count, size in zip((parameters, rows * inputs, rows * outputs), sizes, strict=True)
    )
    return Operator(
        name,
        kind,
        m=rows,
        n=outputs,
        k=inputs,
        weights=weights,
        inputs=read,
        outputs=written,
        parameters=outputs * bias if tied else parameters,
        parameter_size=sizes[0],
        part=part,
        kernel="gemm",
        shape=GemmShape(rows, outputs, inputs, weights + read + written),
    )


def expert_linear(
    name: str,
    rows: Scalar,
    outputs: Scalar,
    inputs: Scalar,
    precision: Precision,
    *,
    held: Scalar,
    reached: Scalar,
    used: Scalar,
    padding: Scalar,
    bias: bool,
    shape: ExpertsShape | None = None,
) -> Operator:
    """A linear layer of routed experts, as one grouped GEMM: a row meets its own expert's weights.

    Arguments:
        name: the operator's row in a breakdown.
        rows: (token, expert) pairs on this device.
        outputs: output features of one expert's shard.
        inputs: input features of one expert's shard.
        precision: the formats.
        held: experts of this device.
        reached: the expected number of them that receive any row; only their weights are read.
        used: the share of all experts that one token goes to, in (0, 1].
        padding: rows that the kernel's tiles add for each reached expert.
        bias: whether each expert adds a bias.
        shape: the work of all experts in the layer, which measured kernels do at once; None for a
            part that another operator's shape includes.
    """
    each = outputs * (inputs + bias)
    part, weight_size, activation_size = precision.layer(name, "experts")
    return Operator(
        name,
        Kind.LINEAR if part else Kind.WIDE,
        m=rows + padding * reached,
        n=outputs,
        k=inputs,
        weights=reached * each * weight_size,
        inputs=rows * inputs * activation_size,
        outputs=rows * outputs * precision.dtype_size,
        parameters=held * each,
        parameter_size=weight_size,
        part=part,
        active=used,
        kernel="experts",
        shape=shape,
    )


def per_head_linear(
    name: str,
    rows: Scalar,
    heads: Scalar,
    outputs: Scalar,
    inputs: Scalar,
    precision: Precision,
    module: str,
) -> Operator:
    """A product with one weight matrix per head: the absorbed projections of latent attention.

    Arguments:
        name: the operator's row in a breakdown.
        rows: tokens.
        heads: heads of this device.
        outputs: output features of one head.
        inputs: input features of one head.
        precision: the formats.
        module: as in `linear`.
    """
    part, weight_size, activation_size = precision.layer(name, module)
    parameters = heads * outputs * inputs
    weights = parameters * weight_size
    read = rows * heads * inputs * activation_size
    written = rows * heads * outputs * precision.dtype_size
    return Operator(
        name,
        Kind.LINEAR if part else Kind.WIDE,
        m=rows,
        n=outputs,
        k=inputs,
        groups=heads,
        weights=weights,
        inputs=read,
        outputs=written,
        parameters=parameters,
        parameter_size=weight_size,
        part=part,
        kernel="batched",
        shape=BatchedShape(rows, outputs, inputs, heads, weights),
    )
