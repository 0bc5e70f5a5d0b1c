"""The modules of a block: its weight matrices, each with the names that checkpoints give it.

A quantised checkpoint says by name which modules are in which format (`models.checkpoints`). The
names differ from family to family, so that a module has all those that are in use.
"""

from collections.abc import Sequence
from typing import NamedTuple

from diffgenz.core.smooth import Scalar
from diffgenz.operators.layer_format import MODULES

ATTENTION, MLP, EXPERTS, HEAD = KINDS = tuple(MODULES)
"""The kinds of modules, as `layer_format.MODULES` explains them."""


class Module(NamedTuple):
    """The weights of one linear layer of a block, as checkpoints name them.

    Arguments:
        kind: one of `KINDS`.
        rows: the rows of a breakdown whose operators multiply by it.
        parameters: its weights and biases in the whole model. All routed experts are one module.
        names: its names below the layer ("self_attn.q_proj"), that of most families first.
        fused: further names, under which some families store it together with its neighbours
            ("self_attn.qkv_proj").
    """

    kind: str
    rows: tuple[str, ...]
    parameters: Scalar | float
    names: tuple[str, ...]
    fused: tuple[str, ...] = ()


def spelled(parents: str, leaves: str, *others: str) -> tuple[str, ...]:
    """All names of a module: each of the `leaves` under each of the `parents`, and `others`.

    Arguments:
        parents: names of what the module is in, separated by spaces.
        leaves: names of the module itself, separated by spaces.
        others: further names.
    """
    return (*(f"{parent}.{leaf}" for parent in parents.split() for leaf in leaves.split()), *others)


IN_ATTENTION = "self_attn attn attention self_attention"
"""The names of what the projections of attention are in."""

OUT = "o_proj dense out_proj wo c_proj"
"""The names of the projection that attention ends in."""


def feed_forward_modules(
    kind: str,
    hidden: Scalar,
    width: Scalar,
    parents: str,
    *,
    gated: bool,
    bias: bool,
    rows: Sequence[str],
    copies: Scalar | float = 1.0,
    together: Sequence[str] = (),
) -> tuple[Module, ...]:
    """The modules of a feed-forward network, or of all experts of a layer.

    Arguments:
        kind: one of `KINDS`.
        hidden: width of the residual stream.
        width: intermediate features.
        parents: the names of what the modules are in, separated by spaces.
        gated: whether a second projection gates the first.
        bias: whether the projections have biases.
        rows: the rows of the first product and of the second.
        copies: how many such networks there are.
        together: what stands for all of the modules at once ("mlp.experts").
    """
    first, second = copies * width * (hidden + bias), copies * hidden * (width + bias)
    alone = "" if gated else " fc1 dense_h_to_4h c_fc w1 linear_in"
    up = spelled(parents, "up_proj w3" + alone)
    fused = (*spelled(parents, "gate_up_proj w13 input_linear"), *together) if gated else together
    down = spelled(parents, "down_proj w2 fc2 dense_4h_to_h c_proj output_linear")
    modules = [
        Module(kind, (rows[0],), first, up, tuple(fused)),
        Module(kind, (rows[1],), second, down, tuple(together)),
    ]
    if gated:
        gate = spelled(parents, "gate_proj w1")
        modules.insert(0, Module(kind, (rows[0],), first, gate, tuple(fused)))
    return tuple(modules)
