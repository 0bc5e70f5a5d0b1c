"""The modules of a whole model: those of its blocks, in each of their layers, and the LM head."""

from typing import NamedTuple

from diffgenz.models.blocks.module import HEAD, Module
from diffgenz.models.model import Model


class Placed(NamedTuple):
    """A module of a model.

    Arguments:
        module: the module, with its names below the layer.
        layer: the layer that it is in, counted from 0; None for the LM head.
        parameters: its weights and biases. A block that several layers share counts once.
    """

    module: Module
    layer: int | None
    parameters: float


def modules_of(model: Model) -> tuple[Placed, ...]:
    """The modules of a model, layer by layer; a tied LM head has no parameters of its own."""
    placed = []
    for repeated in model.blocks:
        count = float(repeated.count)
        own = 1.0 if repeated.stored is None else float(repeated.stored) / count
        layers = repeated.at or range(round(count))
        for module in repeated.block.modules(model.hidden):
            each = own * float(module.parameters)
            placed += [Placed(module, layer, each) for layer in layers]
    placed.sort(key=lambda each: each.layer)
    bias = float(model.vocabulary) if model.head_bias else 0.0
    weights = 0.0 if model.tied else float(model.vocabulary) * float(model.hidden)
    names = ("lm_head", "output", "output_layer", "embed_out", "head", "lm_head.linear")
    head = Module(HEAD, ("lm_head",), weights + bias, names)
    return (*placed, Placed(head, None, weights + bias))


def layers_of(model: Model) -> int:
    """The number of layers of a model, as a checkpoint counts them."""
    ends = [max(each.at, default=-1) + 1 or round(float(each.count)) for each in model.blocks]
    return max(ends)
