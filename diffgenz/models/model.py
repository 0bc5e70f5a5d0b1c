"""A whole model: embedding, repeated blocks, final norm and LM head."""

import dataclasses
import itertools
from collections.abc import Iterable
from typing import ClassVar

import equinox as eqx

from diffgenz.core import xp
from diffgenz.core.checks import Condition, at_most
from diffgenz.core.errors import InputError
from diffgenz.core.record import Record, label, number, unnamed
from diffgenz.core.smooth import Leaf, Scalar, ceil_share
from diffgenz.core.verb import verb
from diffgenz.models.blocks.block import Block, reduction_of
from diffgenz.models.blocks.norm import Norm, norm
from diffgenz.models.vision import Tower
from diffgenz.operators.elementwise import elementwise
from diffgenz.operators.linear import linear
from diffgenz.operators.message import AllGather, AllReduce, Axis, Handover
from diffgenz.operators.operator import Operator
from diffgenz.operators.precision import Precision
from diffgenz.operators.step import Step


class Repeated(Record):
    """A block that a model executes several times.

    Arguments:
        block: the block.
        count: how many times it is executed.
        stored: how many of the executions have weights of their own, or None for all (Zamba2
            shares two blocks among its depths).
        at: the layers that it is in, counted from 0, as a checkpoint names them; empty where
            nobody asks.

    Raises:
        InputError: more stored blocks than executions.
    """

    block: Block
    count: Leaf = number()
    stored: Leaf | None = number(at_least=1, default=None)
    at: tuple[int, ...] = label(default=(), repr=False)

    def conditions(self) -> Iterable[Condition]:
        if self.stored is not None:
            yield at_most("stored", self.stored, self.count, "the executions")

    def operators(self, hidden: Scalar, step: Step, reduction: AllReduce) -> tuple[Operator, ...]:
        """The kernels of all executions.

        Arguments:
            hidden: width of the residual stream.
            step: the iteration.
            reduction: the all-reduce that each execution ends in, if it ends in one.
        """
        operators = self.block.operators(hidden, step, reduction)
        if self.stored is not None:
            own = self.stored / self.count
            operators = tuple(
                dataclasses.replace(op, parameters=op.parameters * own) for op in operators
            )
        return tuple(op.times(self.count) for op in operators)


class Model(Record):
    """An architecture: its sizes are leaves, its structure (which blocks, tied or not) is static.

    Arguments:
        name: Hugging Face id, or what a file calls it.
        hidden: width of the residual stream, above 0.
        vocabulary: tokens of the embedding and the LM head, above 0.
        blocks: the repeated blocks. Equal blocks are one entry, wherever they stand; a pattern
            (Gemma's local and global layers) has one entry for each kind.
        tied: whether the LM head uses the embedding's weights.
        positions: learned positions; 0 where there are none.
        norm: the final norm.
        head_bias: whether the LM head has a bias.
        vision: the tower in front of it, or None.
        mtp: whether it comes with a multi-token-prediction module (`models.mtp`), which
            `parameters` leaves out.
        borrows: whether embedding and LM head are those of another model, which stores them, as
            in a multi-token-prediction module.
        notes: what a reader of its numbers should know: parts that are not modelled, fields that
            were assumed.
        context: tokens of the longest sequence that its positions reach, as engines read its
            config.json; None where that says nothing.
        source: where its checkpoint is described: the id or path that it was loaded from; "" for a
            model built by hand.

    Raises:
        InputError: no block that mixes tokens.
    """

    written: ClassVar[str] = 'load_model("ORG/NAME")'
    """How people write one, for errors."""

    name: str = label()
    hidden: Leaf = number(above=0)
    vocabulary: Leaf = number(above=0)
    blocks: tuple[Repeated, ...]
    tied: bool = eqx.field(static=True, default=False)
    positions: int = eqx.field(static=True, default=0)
    norm: Norm = eqx.field(static=True, default=Norm.RMS)
    head_bias: bool = eqx.field(static=True, default=False)
    vision: Tower | None = None
    mtp: bool = eqx.field(static=True, default=False)
    borrows: bool = eqx.field(static=True, default=False)
    notes: tuple[str, ...] = label(default=())
    context: int | None = label(default=None, repr=False)
    source: str = label(default="", repr=False)

    def conditions(self) -> Iterable[Condition]:
        if not any(repeated.block.mixes_tokens for repeated in self.blocks):
            raise InputError(
                "blocks: a model needs at least one block that mixes tokens, such as Attention"
            )
        return ()

    @property
    def layers(self) -> Scalar:
        """Layers, which pipeline parallelism distributes: the blocks that mix tokens."""
        return sum(
            (repeated.count for repeated in self.blocks if repeated.block.mixes_tokens),
            start=xp.zeros(()),
        )

    @property
    def keeps_state(self) -> bool:
        """Whether any block keeps a state, which context-parallel ranks cannot share."""
        return any(repeated.block.keeps_state for repeated in self.blocks)

    @property
    def most_shards(self) -> Scalar:
        """Tensor-parallel ranks that can share it: the smallest number of heads in any block."""
        return xp.stack([repeated.block.most_shards for repeated in self.blocks]).min(axis=0)

    @property
    def experts(self) -> tuple[Scalar, ...]:
        """Routed experts of each block that has any; expert-parallel groups must divide them."""
        return tuple(
            repeated.block.experts for repeated in self.blocks if repeated.block.experts is not None
        )

    def reduction(self, step: Step) -> AllReduce:
        """The all-reduce of the hidden states in which the embedding and each layer end."""
        return reduction_of(self.hidden, step)

    def layer_operators(
        self, step: Step, reduction: AllReduce | None = None
    ) -> tuple[Operator, ...]:
        """The kernels of all layers.

        Arguments:
            step: the iteration.
            reduction: the result of `reduction(step)`, where the caller has it already.
        """
        reduction = reduction or self.reduction(step)
        return tuple(
            op
            for each, own in zip(self.blocks, self._steps(step), strict=True)
            for op in each.operators(self.hidden, own, reduction)
        )

    def _steps(self, step: Step) -> list[Step]:
        """The step of each entry of `blocks`: each kind of experts has a routing of its own."""
        if step.routing.kinds_told is None:
            return [step] * len(self.blocks)
        kinds = itertools.count()
        return [
            step
            if each.block.experts is None
            else step.replace(routing=step.routing.of_kind(next(kinds)))
            for each in self.blocks
        ]

    def cores(self, step: Step) -> tuple[Operator, ...]:
        """Those kernels of all layers that depend on the context, in the same order."""
        return tuple(
            op.times(repeated.count) for repeated in self.blocks for op in repeated.block.core(step)
        )

    def embedding_operators(
        self, step: Step, reduction: AllReduce | None = None
    ) -> tuple[Operator, ...]:
        """The embedding: a gather of one row per token, which is summed over ranks.

        Pipeline stages then hand the hidden states on.

        Arguments:
            step: the iteration.
            reduction: the result of `reduction(step)`, where the caller has it already.
        """
        size = step.precision.dtype_size
        row = step.tokens * self.hidden * size
        rows = ceil_share(self.vocabulary, step.shard) + self.positions
        parameters = 0.0 if self.borrows else rows * self.hidden
        gather = elementwise(
            "embedding", row * (2 if self.positions else 1), row, parameters=parameters, size=size
        )
        reduction = reduction or self.reduction(step)
        handover = Handover("send", Axis.PIPELINE, reduction.volume)
        return (gather.sending(reduction, handover),)

    def head_operators(self, step: Step) -> tuple[Operator, ...]:
        """Final norm, LM head and sampling for one token of each of `step.sequences`."""
        last = step.replace(queries=1.0)
        precision = step.precision
        head = linear(
            "lm_head",
            step.sequences,
            ceil_share(self.vocabulary, step.shard),
            self.hidden,
            precision,
            "head",
            bias=self.head_bias,
            tied=self.tied or self.borrows,
        )
        logits = step.sequences * self.vocabulary * precision.dtype_size
        gathered = AllGather("all_gather", Axis.TENSOR, logits)
        sampling = elementwise("sampling", logits, step.sequences * 4.0)
        return norm(self.norm, self.hidden, last), head.sending(gathered), sampling

    @property
    def parameters(self) -> Scalar:
        """Parameters of the model, a vision tower's included: what its operators keep."""
        return _parameters(unnamed(self))

    @property
    def active_parameters(self) -> Scalar:
        """Parameters that take part in one token; embedding and LM head are counted.

        These are all parameters except those of the vision tower and those of the routed experts
        that the token does not go to.
        """
        return _active_parameters(unnamed(self))


@verb
def _parameters(model: Model) -> Scalar:
    tower = () if model.vision is None else model.vision.operators(1.0, Precision(), 1.0)
    operators = (*_all_operators(model), *tower)
    return sum((xp.asarray(op.parameters * op.repeats) for op in operators), start=xp.zeros(()))


@verb
def _active_parameters(model: Model) -> Scalar:
    return sum(
        (xp.asarray(op.parameters * op.active * op.repeats) for op in _all_operators(model)),
        start=xp.zeros(()),
    )


def _all_operators(model: Model) -> tuple[Operator, ...]:
    step = Step(sequences=1.0, queries=1.0, context=0.0, shard=1.0, precision=Precision())
    operators = (model.embedding_operators(step), model.layer_operators(step))
    return (*operators[0], *operators[1], *model.head_operators(step))
