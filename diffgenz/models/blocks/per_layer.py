"""What Gemma 3n adds around its layers: per-layer embeddings, low-rank residuals, more streams.

Engines keep all of these projections in dtype and whole on every rank, except for the embedding
tables, of which each rank holds a part of the vocabulary.
"""

from typing import ClassVar

import equinox as eqx

from diffgenz.core.record import number
from diffgenz.core.smooth import Leaf, Scalar, ceil_share
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.norm import Norm
from diffgenz.operators.elementwise import elementwise
from diffgenz.operators.linear import wide_linear
from diffgenz.operators.message import AllReduce, Axis
from diffgenz.operators.operator import Operator
from diffgenz.operators.step import Step


class PerLayerEmbedding(Block):
    """The embedding of every layer: a vector for each token and layer, made once for all layers.

    gather -> all-reduce; a projection of the token's embedding -> norm -> sum of both

    Arguments:
        vocabulary: tokens of the tables, above 0.
        layers: layers that have such a vector, above 0.
        width: elements of each vector, above 0.
        norm, norms, reduces: as in `Block`; without them by default.
    """

    mixes_tokens: ClassVar[bool] = False

    vocabulary: Leaf = number(above=0)
    layers: Leaf = number(above=0)
    width: Leaf = number(above=0)
    norm: Norm | None = eqx.field(static=True, default=None, kw_only=True)
    reduces: bool = eqx.field(static=True, default=False, kw_only=True)

    def work(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        precision, tokens, size = step.precision, step.tokens, step.precision.dtype_size
        every = self.layers * self.width
        row = tokens * every * size
        table = ceil_share(self.vocabulary, step.shard) * every
        volume = tokens * every * precision.message_size
        reduction = AllReduce("all_reduce", Axis.TENSOR, volume, step.reduction_launches)
        gather = elementwise("per_layer_embedding", row, row, parameters=table, size=size)
        return (
            gather.sending(reduction),
            wide_linear("per_layer_projection", tokens, every, hidden, precision),
            elementwise("per_layer_norm", 2 * row, row, parameters=self.width, size=size),
        )


class PerLayerInput(Block):
    """The use that a layer makes of its own embedding.

    gate -> gate * embedding -> projection to the model's width -> norm

    Arguments:
        width: elements of the embedding, above 0.
        norm, norms, reduces: as in `Block`; the norm follows the block, without an all-reduce.
    """

    mixes_tokens: ClassVar[bool] = False

    width: Leaf = number(above=0)
    reduces: bool = eqx.field(static=True, default=False, kw_only=True)

    def work(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        precision, tokens = step.precision, step.tokens
        moved = tokens * self.width * precision.dtype_size
        return (
            wide_linear("per_layer_gate", tokens, self.width, hidden, precision),
            elementwise("per_layer_product", 2 * moved, moved),
            wide_linear("per_layer_out", tokens, hidden, self.width, precision),
        )


class LowRankResidual(Block):
    """A learned residual of low rank beside attention (LAuReL, arXiv 2411.07501).

    down -> up -> norm

    Arguments:
        rank: width between its two projections, above 0.
        norm, norms, reduces: as in `Block`; the norm follows the block, without an all-reduce.
    """

    mixes_tokens: ClassVar[bool] = False

    rank: Leaf = number(above=0)
    reduces: bool = eqx.field(static=True, default=False, kw_only=True)

    def work(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        precision, tokens = step.precision, step.tokens
        return (
            wide_linear("laurel_down", tokens, self.rank, hidden, precision),
            wide_linear("laurel_up", tokens, hidden, self.rank, precision),
        )


class AlternatingUpdates(Block):
    """Several streams of hidden states, of which the layer computes one (AltUp, arXiv 2301.13310).

    router -> prediction of all streams; after the layer: router -> correction of all streams

    Arguments:
        streams: streams of the model's width, at least 1.
        norm, norms, reduces: as in `Block`; the norm is the router's, without an all-reduce.
    """

    mixes_tokens: ClassVar[bool] = False

    streams: Leaf = number(at_least=1)
    reduces: bool = eqx.field(static=True, default=False, kw_only=True)

    def work(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        precision, tokens, size = step.precision, step.tokens, step.precision.dtype_size
        count, name = self.streams, "altup_router"
        moved = count * tokens * hidden * size
        return (
            wide_linear(name, tokens, count, hidden, precision),
            elementwise("altup_predict", moved, moved, parameters=count**3, size=size),
            wide_linear(name, tokens, count, hidden, precision, tied=True),
            elementwise(
                "altup_correct",
                moved + tokens * hidden * size,
                moved,
                parameters=count**2 + hidden,  # coefficients; the output's scale
                size=size,
            ),
        )


class StreamProjections(Block):
    """The projections that make further streams of the embedding, and one of all after the layers.

    Arguments:
        streams: streams of the model's width, at least 1; all but one have projections.
        norm, norms, reduces: as in `Block`; without them by default.
    """

    mixes_tokens: ClassVar[bool] = False

    streams: Leaf = number(at_least=1)
    norm: Norm | None = eqx.field(static=True, default=None, kw_only=True)
    reduces: bool = eqx.field(static=True, default=False, kw_only=True)

    def work(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        precision, tokens, others = step.precision, step.tokens, self.streams - 1
        return (
            wide_linear("altup_projections", tokens, others * hidden, hidden, precision),
            wide_linear("altup_unembedding", tokens, hidden, others * hidden, precision),
        )
