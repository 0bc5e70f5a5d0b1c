"""A whole model: embedding, repeated blocks, final norm and LM head."""

import equinox as eqx
import jax.numpy as jnp

from diffgenz.core.checks import check, check_at_most
from diffgenz.core.errors import InputError
from diffgenz.core.record import Record
from diffgenz.core.smooth import Leaf, Scalar, as_leaf, ceil_share
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.norm import Norm, norm
from diffgenz.models.vision import Tower
from diffgenz.operators.operator import Exchange, Operator, elementwise, wide_linear
from diffgenz.operators.precision import Precision
from diffgenz.operators.step import Step


class Repeated(Record):
    """A block that a model executes `count` times.

    Arguments:
        stored: how many of them have weights of their own, or None for all (Zamba2 shares two blocks among its depths).
    """

    block: Block
    count: Leaf = eqx.field(converter=as_leaf)
    stored: Leaf | None = eqx.field(
        converter=lambda stored: None if stored is None else as_leaf(stored), default=None
    )

    def __check_init__(self):
        check("count", self.count)
        if self.stored is not None:
            check("stored", self.stored, minimum=1)
            check_at_most("stored", self.stored, self.count, "the executions")

    def operators(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        """The kernels of all executions."""
        operators = self.block.operators(hidden, step)
        if self.stored is not None:
            own = self.stored / self.count
            operators = tuple(
                eqx.tree_at(lambda op: op.parameters, op, op.parameters * own) for op in operators
            )
        return tuple(op.times(self.count) for op in operators)


class Model(Record):
    """An architecture: its sizes are leaves, its structure (which blocks, tied or not) is static.

    Arguments:
        name: Hugging Face id, or what a file calls it.
        hidden: width of the residual stream.
        vocabulary: tokens of the embedding and the LM head.
        blocks: the repeated blocks. Patterns (Gemma's local and global layers) are several entries; what repeats equally is one.
        tied: whether the LM head shares the embedding's weights.
        positions: learned positions; 0 where positions are rotary.
        norm: the final norm.
        head_bias: whether the LM head has a bias.
        vision: the tower in front of it, or None.
        mtp: whether it comes with a multi-token-prediction module (`models.mtp`), which `parameters` leaves out.
        borrows: whether embedding and LM head are those of another model, which stores them: so of such a module.
    """

    name: str = eqx.field(static=True)
    hidden: Leaf = eqx.field(converter=as_leaf)
    vocabulary: Leaf = eqx.field(converter=as_leaf)
    blocks: tuple[Repeated, ...]
    tied: bool = eqx.field(static=True, default=False)
    positions: int = eqx.field(static=True, default=0)
    norm: Norm = eqx.field(static=True, default=Norm.RMS)
    head_bias: bool = eqx.field(static=True, default=False)
    vision: Tower | None = None
    mtp: bool = eqx.field(static=True, default=False)
    borrows: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        check("hidden", self.hidden, exclusive=True)
        check("vocabulary", self.vocabulary, exclusive=True)
        if not any(repeated.block.mixes_tokens for repeated in self.blocks):
            raise InputError(
                "blocks: a model needs at least one block that mixes tokens, such as Attention"
            )

    @property
    def layers(self) -> Scalar:
        """Layers: blocks that mix tokens. What pipeline parallelism distributes."""
        return sum(
            (repeated.count for repeated in self.blocks if repeated.block.mixes_tokens),
            start=jnp.zeros(()),
        )

    @property
    def reductions(self) -> Scalar:
        """All-reduces of the hidden states in all layers."""
        return sum(
            (repeated.count for repeated in self.blocks if repeated.block.reduces),
            start=jnp.zeros(()),
        )

    def exchanges(self, step: Step) -> tuple[Exchange, ...]:
        """What goes to experts and back in all layers, where groups of ranks have tokens of their own."""
        pairs = (
            (repeated.count, repeated.block.exchange(self.hidden, step)) for repeated in self.blocks
        )
        return tuple(
            exchange._replace(repeats=count) for count, exchange in pairs if exchange is not None
        )

    @property
    def keeps_state(self) -> bool:
        """Whether any block keeps a state instead of a cache, so that context-parallel ranks cannot share sequences."""
        return any(repeated.block.keeps_state for repeated in self.blocks)

    @property
    def most_shards(self) -> Scalar:
        """Tensor-parallel ranks that can share it: the fewest heads of any block."""
        return jnp.stack([repeated.block.most_shards for repeated in self.blocks]).min(axis=0)

    def layer_operators(self, step: Step) -> tuple[Operator, ...]:
        """The kernels of all layers."""
        return tuple(op for repeated in self.blocks for op in repeated.operators(self.hidden, step))

    def embedding_operators(self, step: Step) -> tuple[Operator, ...]:
        """A gather of one row per token from the device's share of the vocabulary."""
        size = step.precision.dtype_size
        row = step.tokens * self.hidden * size
        parameters = (
            0.0
            if self.borrows
            else (ceil_share(self.vocabulary, step.shard) + self.positions) * self.hidden
        )
        return (
            elementwise(
                "embedding",
                row * (2 if self.positions else 1),
                row,
                parameters=parameters,
                size=size,
            ),
        )

    def head_operators(self, step: Step) -> tuple[Operator, ...]:
        """Final norm, LM head and sampling for one token per sequence: the last one of a prompt."""
        last = step.replace(queries=1.0)
        vocabulary = ceil_share(self.vocabulary, step.shard)
        stored_elsewhere = self.tied or self.borrows
        head = wide_linear(
            "lm_head",
            step.sequences,
            vocabulary,
            self.hidden,
            step.precision,
            bias=self.head_bias,
            tied=stored_elsewhere,
        )
        sampling = elementwise(
            "sampling",
            step.sequences * self.vocabulary * step.precision.dtype_size,
            step.sequences * 4.0,
        )
        return norm(self.norm, self.hidden, last), head, sampling

    @property
    def parameters(self) -> Scalar:
        """Parameters: what the operators of a single device keep in memory, a vision tower's included."""
        return _parameters(self)

    @property
    def active_parameters(self) -> Scalar:
        """Parameters that take part in one token: all but the vision tower and the routed experts it does not go to.

        Embedding and LM head are counted.
        """
        return _active_parameters(self)

    @property
    def experts(self) -> tuple[Scalar, ...]:
        """Routed experts of each block that has any: what expert-parallel ranks must divide."""
        return tuple(
            repeated.block.experts for repeated in self.blocks if repeated.block.experts is not None
        )


@eqx.filter_jit
def _parameters(model: Model) -> Scalar:
    tower = () if model.vision is None else model.vision.operators(1.0, Precision(), 1.0)
    return sum(
        (jnp.asarray(op.parameters * op.repeats) for op in (*_all_operators(model), *tower)),
        start=jnp.zeros(()),
    )


@eqx.filter_jit
def _active_parameters(model: Model) -> Scalar:
    return sum(
        (jnp.asarray(op.parameters * op.active * op.repeats) for op in _all_operators(model)),
        start=jnp.zeros(()),
    )


def _all_operators(model: Model) -> tuple[Operator, ...]:
    step = Step(sequences=1.0, queries=1.0, context=0.0, shard=1.0, precision=Precision())
    return (
        *model.embedding_operators(step),
        *model.layer_operators(step),
        *model.head_operators(step),
    )
