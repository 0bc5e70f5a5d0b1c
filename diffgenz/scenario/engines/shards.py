"""Which widths of a model's layers the ranks of an engine share.

Engines fuse the matrices that read the same input into one layer, of which each rank makes a part
of the outputs (column-parallel). The layer after it reads these parts (row-parallel). A block that
is not listed here is held whole by every rank.
"""

import enum
from functools import singledispatch
from typing import NamedTuple

from diffgenz.core.smooth import Leaf
from diffgenz.models.blocks.adapter import Adapter
from diffgenz.models.blocks.attention import Attention
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.compressed_attention import CompressedAttention
from diffgenz.models.blocks.gated_recurrence import GatedRecurrence
from diffgenz.models.blocks.latent_attention import LatentAttention
from diffgenz.models.blocks.linear_attention import GatedDeltaNet, KimiDeltaAttention
from diffgenz.models.blocks.mamba import Mamba, Mamba2
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.blocks.module import ATTENTION, EXPERTS
from diffgenz.models.blocks.module import MLP as DENSE
from diffgenz.models.blocks.moe import MoE
from diffgenz.models.blocks.short_conv import ShortConv
from diffgenz.models.blocks.side_by_side import SideBySide
from diffgenz.models.model import Model


class Shared(enum.Enum):
    """Which ranks share a width."""

    TENSOR = "the tensor ranks of an attention group"
    DENSE = "those that share dense layers"
    SHARED = "those that share the experts that all tokens go to"
    EXPERTS = "those that share each routed expert"


class Width(NamedTuple):
    """Units that ranks share, such as heads.

    Arguments:
        what: the units, for people.
        units: how many there are.
        size: features of each.
        repeats: whether ranks hold copies where there are more ranks than units.
    """

    what: str
    units: int
    size: int = 1
    repeats: bool = False

    def divides(self, ranks: int) -> bool:
        """Whether each rank gets as many of the units, or each unit as many ranks."""
        return self.units % ranks == 0 or (self.repeats and ranks % self.units == 0)

    def features(self, ranks: int) -> int:
        """Features of one rank, where it divides."""
        return max(self.units // ranks, 1) * self.size


class Layer(NamedTuple):
    """A linear layer of an engine.

    Arguments:
        row: the row of a breakdown, which says in which format it is.
        kind: its kind, a key of `layer_format.MODULES`.
        outputs: what ranks share of its outputs, for each of its matrices; none if they are whole.
        inputs: what ranks share of its inputs; None if they are whole.
        shared: which ranks.
    """

    row: str
    kind: str
    outputs: tuple[Width, ...] = ()
    inputs: Width | None = None
    shared: Shared = Shared.TENSOR

    @property
    def widths(self) -> tuple[Width, ...]:
        """All that ranks share."""
        return self.outputs if self.inputs is None else (*self.outputs, self.inputs)


def shards_of(model: Model) -> tuple[Layer, ...]:
    """The layers of a model that ranks share, each once."""
    hidden = int(model.hidden)
    every = (layer for each in model.blocks for layer in _layers(each.block, hidden))
    return tuple(dict.fromkeys(every))


def _width(what: str, units: Leaf, size: Leaf | float = 1, repeats: bool = False) -> Width:
    return Width(what, int(units), int(size), repeats)


@singledispatch
def _layers(block: Block, hidden: int) -> tuple[Layer, ...]:
    return ()


@_layers.register
def _(block: Attention, hidden: int) -> tuple[Layer, ...]:
    values = block.head_dim if block.value_dim is None else block.value_dim
    heads = _width("attention heads", block.heads, block.head_dim)
    outputs = [heads]
    if not block.borrows_cache:
        outputs.append(_width("KV heads", block.kv_heads, block.head_dim, repeats=True))
        if not block.tied_values:
            outputs.append(_width("KV heads", block.kv_heads, values, repeats=True))
    return (
        Layer("qkv", ATTENTION, tuple(outputs)),
        Layer("attention_out", ATTENTION, inputs=heads._replace(size=int(values))),
    )


@_layers.register
def _(block: LatentAttention, hidden: int) -> tuple[Layer, ...]:
    def heads(size: Leaf) -> Width:
        return _width("attention heads", block.heads, size)

    return (
        Layer("queries", ATTENTION, (heads(block.nope_dim + block.rope_dim),)),
        Layer("expand", ATTENTION, (heads(block.nope_dim + block.value_dim),)),
        Layer("attention_out", ATTENTION, inputs=heads(block.value_dim)),
    )


@_layers.register
def _(block: CompressedAttention, hidden: int) -> tuple[Layer, ...]:
    groups = _width("groups of attention's outputs", block.out_groups, block.out_rank)
    return (
        Layer("queries", ATTENTION, (_width("attention heads", block.heads, block.head_dim),)),
        Layer("attention_out", ATTENTION, inputs=groups),
    )


@_layers.register
def _(block: MLP, hidden: int, shared: Shared = Shared.DENSE) -> tuple[Layer, ...]:
    width = _width("intermediate features", block.intermediate)
    first, count = ("gate_up", 2) if block.gated else ("up", 1)
    return (
        Layer(first, DENSE, (width,) * count, shared=shared),
        Layer("down", DENSE, inputs=width, shared=shared),
    )


@_layers.register
def _(block: MoE, hidden: int) -> tuple[Layer, ...]:
    width = _width("features of an expert", block.intermediate)
    first, count = ("expert_gate_up", 2) if block.gated else ("expert_up", 1)
    own = (
        Layer(first, EXPERTS, (width,) * count, shared=Shared.EXPERTS),
        Layer("expert_down", EXPERTS, inputs=width, shared=Shared.EXPERTS),
    )
    if block.shared is None:
        return own
    common = (each._replace(shared=Shared.SHARED) for each in _layers(block.shared, hidden))
    return (*own, *common)


@_layers.register
def _(block: Mamba, hidden: int) -> tuple[Layer, ...]:
    return _in_and_out(_width("state-space channels", block.inner), copies=2)


@_layers.register
def _(block: Mamba2, hidden: int) -> tuple[Layer, ...]:
    heads = _width("state-space heads", block.heads, block.head_dim)
    alone = int(block.groups) == 1  # one group is copied to all ranks, several are not
    groups = _width("state-space groups", block.groups, block.state, repeats=alone)
    first, last = _in_and_out(heads, copies=2)
    return first._replace(outputs=(*first.outputs, groups, groups)), last


@_layers.register
def _(block: GatedDeltaNet, hidden: int) -> tuple[Layer, ...]:
    keys = _width("key heads", block.key_heads, block.key_dim)
    values = _width("value heads", block.value_heads, block.value_dim)
    first, last = _in_and_out(values, copies=2)
    return first._replace(outputs=(keys, keys, *first.outputs)), last


@_layers.register
def _(block: KimiDeltaAttention, hidden: int) -> tuple[Layer, ...]:
    return _in_and_out(_width("heads of linear attention", block.heads, block.head_dim), copies=3)


@_layers.register
def _(block: GatedRecurrence, hidden: int) -> tuple[Layer, ...]:
    size = block.inner / block.heads
    return _in_and_out(_width("heads of the recurrence", block.heads, size), copies=2)


@_layers.register
def _(block: ShortConv, hidden: int) -> tuple[Layer, ...]:
    return _in_and_out(Width("hidden features", hidden), copies=3)


@_layers.register
def _(block: SideBySide, hidden: int) -> tuple[Layer, ...]:
    return (*_layers(block.attention, hidden), *_layers(block.mixer, hidden))


@_layers.register
def _(block: Adapter, hidden: int) -> tuple[Layer, ...]:
    width = _width("intermediate features", block.intermediate)
    return (Layer("adapter_up", DENSE, (width, width)),)


def _in_and_out(width: Width, copies: int) -> tuple[Layer, Layer]:
    """The projections into and out of a mixer of this width."""
    return (
        Layer("in_projection", ATTENTION, (width,) * copies),
        Layer("out_projection", ATTENTION, inputs=width),
    )
