"""Compressed attention (DeepSeek-V4): a window of tokens, and entries that each sum up several.

Keys and values are the same vector, one for all heads. Beside a window of them, the cache holds
one entry for every `ratio` tokens, which a compressor makes from its own projections. Queries see
all entries, or those that an indexer over entries of its own picks.

The cache is replicated over the tensor-parallel ranks, and so are all projections but those to
queries and from outputs.
"""

from collections.abc import Iterable
from typing import ClassVar

from diffgenz.core import xp
from diffgenz.core.checks import Condition, at_most
from diffgenz.core.record import Record, number
from diffgenz.core.smooth import Leaf, Scalar, ceil_share
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.latent_attention import Indexer
from diffgenz.models.blocks.module import ATTENTION, IN_ATTENTION, Module, spelled
from diffgenz.operators.attention import attention_keys, attention_over, held_by
from diffgenz.operators.elementwise import elementwise
from diffgenz.operators.linear import linear, per_head_linear, wide_linear
from diffgenz.operators.operator import Operator
from diffgenz.operators.step import Step


class Compressor(Record):
    """What makes one entry of every `ratio` tokens: their mean, weighted by a softmax of gates.

    Arguments:
        ratio: tokens that an entry stands for, at least 1.
        indexer: what picks the entries to attend to, of which it counts `picked`; None to attend
            to all. Where there is one, each entry also covers the tokens of the one before, so
            that values and gates have twice the width.
    """

    ratio: Leaf = number(at_least=1)
    indexer: Indexer | None = None

    def projections(
        self, hidden: Scalar, query_rank: Scalar, width: Scalar, step: Step
    ) -> tuple[Operator, ...]:
        """The kernels that make the entries, and the indexer's entries, queries and weights.

        Arguments:
            hidden: width of the residual stream.
            query_rank: width of the compressed queries.
            width: elements of an entry.
            step: the iteration.
        """
        picks = self.indexer
        made = self._entries("compressor", hidden, width, step)
        if picks is None:
            return made
        precision, tokens, queries = step.precision, step.tokens, picks.heads * picks.head_dim
        name = "indexer_projections"
        return (
            *made,
            *self._entries("indexer_compressor", hidden, picks.head_dim, step),
            linear(name, tokens, queries, query_rank, precision, ATTENTION),
            wide_linear(name, tokens, picks.heads, hidden, precision),
        )

    def _entries(self, name: str, hidden: Scalar, width: Scalar, step: Step):
        """The projection to values and gates, and the weighted mean of each `ratio` tokens."""
        tokens, size = step.tokens, step.precision.dtype_size
        each = width * (1 if self.indexer is None else 2)
        return (
            linear(name, tokens, 2 * each, hidden, step.precision, ATTENTION),
            elementwise(
                f"{name}_mean",
                tokens * 2 * each * size,
                tokens * width / self.ratio * step.precision.cached_size(width),
                parameters=self.ratio * each + width,  # biases of the positions; the norm
                size=size,
            ),
        )

    def modules(self, hidden: Scalar, query_rank: Scalar, width: Scalar) -> list[Module]:
        """Its weights, as in `Block.modules`; arguments as in `projections`."""
        found, picks = _compressing("compressor", "compressor", hidden, width, self), self.indexer
        if picks is not None:
            inner = "indexer.compressor"
            found += _compressing("indexer_compressor", inner, hidden, picks.head_dim, self)
            queries = picks.heads * picks.head_dim * query_rank
            found.append(_module("indexer_projections", "indexer.wq_b indexer.q_b_proj", queries))
        return found

    def seen(self, step: Step) -> Scalar:
        """The mean number of entries that a query attends to."""
        within = None if self.indexer is None else self.indexer.picked * self.ratio
        return attention_keys(step, within) / self.ratio


def _compressing(
    row: str, parent: str, hidden: Scalar, width: Scalar, compressor: Compressor
) -> list[Module]:
    """The projections to values and gates."""
    each = hidden * width * (1 if compressor.indexer is None else 2)
    return [_module(row, f"{parent}.{leaf}", each) for leaf in ("wkv", "wgate")]


def _module(row: str, leaves: str, parameters: Scalar) -> Module:
    return Module(ATTENTION, (row,), parameters, spelled(IN_ATTENTION, leaves))


class CompressedAttention(Block):
    """Attention to a window of tokens and to compressed entries of all tokens.

    norm -> compress -> expand queries -> attention -> grouped output projections -> all-reduce

    Arguments:
        heads: query heads of the whole model.
        head_dim: elements of each head's queries, and of the one vector that is key and value.
        query_rank: width of the compressed queries.
        out_groups: groups of heads that have an output projection each, at most `heads`.
        out_rank: outputs of each group's projection, which a second one mixes.
        window: tokens that a query sees uncompressed.
        compressor: what makes the entries, or None where there is the window alone.
        norm, norms, reduces: as in `Block`.
    """

    mixes_tokens: ClassVar[bool] = True

    heads: Leaf = number(at_least=1)
    head_dim: Leaf = number(at_least=1)
    query_rank: Leaf = number(at_least=1)
    out_groups: Leaf = number(at_least=1)
    out_rank: Leaf = number(at_least=1)
    window: Leaf = number(at_least=1)
    compressor: Compressor | None = None

    def conditions(self) -> Iterable[Condition]:
        yield at_most("out_groups", self.out_groups, self.heads, "the heads")

    @property
    def most_shards(self) -> Scalar:
        """Tensor-parallel ranks that can share it: one head each."""
        return self.heads

    def work(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        precision, tokens, size = step.precision, step.tokens, step.precision.dtype_size
        heads, groups = ceil_share(self.heads, step.shard), ceil_share(self.out_groups, step.shard)
        width, rank = heads * self.head_dim, self.query_rank
        read = tokens * (rank + width + self.head_dim) * size
        stored = tokens * self.head_dim * precision.cached_size(self.head_dim)
        kept = rank + self.head_dim + heads  # two norms; a sink for each head
        entries = ()
        if self.compressor is not None:
            entries = self.compressor.projections(hidden, rank, self.head_dim, step)
        return (
            linear("compress", tokens, rank + self.head_dim, hidden, precision, ATTENTION),
            linear("queries", tokens, width, rank, precision, ATTENTION),
            elementwise("rotary_and_cache", read, read + stored, parameters=kept, size=size),
            *entries,
            *self.core(step),
            per_head_linear(
                "group_out", tokens, groups, self.out_rank, width / groups, precision, ATTENTION
            ),
            linear("attention_out", tokens, hidden, groups * self.out_rank, precision, ATTENTION),
        )

    def modules(self, hidden: Scalar) -> tuple[Module, ...]:
        width, rank = self.heads * self.head_dim, self.query_rank
        found = [
            _module("compress", "wq_a q_a_proj", hidden * rank),
            _module("compress", "wkv kv_proj", hidden * self.head_dim),
            _module("queries", "wq_b q_b_proj", rank * width),
            _module("group_out", "wo_a o_a_proj", self.out_rank * width),
            _module("attention_out", "wo_b o_b_proj", hidden * self.out_groups * self.out_rank),
        ]
        if self.compressor is not None:
            found += self.compressor.modules(hidden, rank, self.head_dim)
        return tuple(found)

    def core(self, step: Step) -> tuple[Operator, ...]:
        heads, each = ceil_share(self.heads, step.shard), self.head_dim
        length = step.context + step.all_queries
        keys, held = attention_keys(step, self.window), held_by(step, self.window)
        read = xp.minimum(length, self.window + step.all_queries - 1)
        scores: tuple[Operator, ...] = ()
        if self.compressor is not None:
            entries, seen = length / self.compressor.ratio, self.compressor.seen(step)
            keys, held = keys + seen, held + entries
            read = read + (xp.minimum(entries, seen) if step.decoding else entries)
            picks = self.compressor.indexer
            scores = () if picks is None else (picks.scores(step, self.compressor.ratio),)
        size = step.sequences * each * step.precision.cached_size(each)
        core = attention_over(step, keys, heads, each, each, read=read * size, held=held * size)
        return (*scores, core)
