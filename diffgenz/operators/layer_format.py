"""The formats of one kind of layer: its weights, and the inputs that they are multiplied with."""

from typing import NamedTuple, Self

import equinox as eqx

from diffgenz.core.formats import format_named
from diffgenz.core.smooth import Leaf, as_leaf
from diffgenz.core.tree import Tree
from diffgenz.kernels.kernel_format import KernelFormat

MODULES = {
    "attention": "projections of attention, and of what takes its place (Mamba, delta nets)",
    "mlp": "dense MLPs and shared experts",
    "experts": "routed experts",
    "head": "the LM head",
}
"""Kinds of layers that a checkpoint may store in formats of their own."""

LINEAR = "linear"
"""The part of a model that is in `Precision.weights` and `activations`."""

DTYPE = ""
"""The part of a model that is in `Precision.dtype`."""


class LayerFormat(Tree):
    """The formats of some linear layers.

    Arguments:
        weights: the format in which their weights are stored.
        activations: the format of their inputs; default: that of the weights.
        weight_size: B per weight, scales included; default: that of the format. A checkpoint that
            stores some of the layers wider has a larger mean.

    Raises:
        InputError: an unknown format.
    """

    weights: str = eqx.field(static=True)
    activations: str = eqx.field(static=True)
    weight_size: Leaf
    activation_size: Leaf

    def __init__(
        self, weights: str, activations: str | None = None, weight_size: float | None = None
    ):
        self.weights, self.activations = weights, activations or weights
        size = format_named(self.weights, "weights").size
        self.weight_size = as_leaf(size if weight_size is None else weight_size)
        self.activation_size = as_leaf(format_named(self.activations, "activations").size)

    @classmethod
    def of(cls, text: str) -> Self:
        """The formats that `text` names: "format", or "weights/activations".

        Raises:
            InputError: an unknown format.
        """
        return cls(*KernelFormat.of(text))

    @property
    def names(self) -> KernelFormat:
        """The names of its formats, by which kernels and peaks are known."""
        return KernelFormat(self.weights, self.activations)


class Layer(NamedTuple):
    """A linear layer as operators see it.

    Arguments:
        part: the part of the model that has its formats: `LINEAR`, `DTYPE`, or a key of
            `Precision.modules`.
        weight_size: B per weight.
        activation_size: B per input.
    """

    part: str
    weight_size: Leaf
    activation_size: Leaf
