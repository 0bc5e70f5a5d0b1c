"""Block-sparse attention (MiniMax-M3): a cheap index picks the blocks of keys to attend to."""

import dataclasses

from diffgenz.core import xp
from diffgenz.core.record import Record, number
from diffgenz.core.smooth import Leaf, Scalar, ceil_share
from diffgenz.models.blocks.attention import Attention
from diffgenz.models.blocks.module import ATTENTION, IN_ATTENTION, Module, spelled
from diffgenz.operators.attention import attention, attention_keys, attention_over
from diffgenz.operators.elementwise import elementwise
from diffgenz.operators.linear import linear
from diffgenz.operators.message import AllGather, Axis
from diffgenz.operators.operator import Operator
from diffgenz.operators.step import Shared, Step


class BlockIndex(Record):
    """What picks blocks of keys: the best score of any key in a block is that of the block.

    Its heads are shared like KV heads, each of which gets picks of its own. All of them share one
    key per token, which every tensor-parallel rank caches in dtype.

    Arguments:
        heads: heads of the index, at least 1.
        head_dim: elements of each of its heads, at least 1.
        block: tokens of a block, at least 1.
        picked: blocks that each query then attends to, at least 1; its own block, which counts as
            full, is one of them.
    """

    heads: Leaf = number(at_least=1)
    head_dim: Leaf = number(at_least=1)
    block: Leaf = number(at_least=1)
    picked: Leaf = number(at_least=1)

    @property
    def tokens(self) -> Scalar:
        """Tokens that a query attends to."""
        return self.block * self.picked

    def projections(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        """The projection that makes the index's queries and key, and their norms.

        Arguments:
            hidden: width of the residual stream.
            step: the iteration.
        """
        width = (ceil_share(self.heads, step.shard) + 1) * self.head_dim
        size = step.precision.dtype_size
        moved = step.tokens * width * size
        return (
            linear("index_projections", step.tokens, width, hidden, step.precision, ATTENTION),
            elementwise("index_norm", moved, moved, parameters=2 * self.head_dim, size=size),
        )

    def scores(self, step: Step) -> Operator:
        """The attention kernel that scores each key of the context for each query."""
        heads = ceil_share(self.heads, step.shard)
        length = step.context + step.all_queries
        held = step.sequences * length * self.head_dim * step.precision.dtype_size
        keys = attention_keys(step, None)
        none = xp.zeros(())
        scores = attention_over(
            step, keys, heads, self.head_dim, none, read=held, held=held, name="index"
        )
        if not (isinstance(step.shared, Shared) and step.decoding):
            return scores
        # to find the best of all blocks, context-parallel ranks gather an fp32 score of each
        volume = step.tokens * heads * (keys / self.block) * 4.0
        gathered = AllGather("context_all_gather", Axis.CONTEXT, volume)
        return dataclasses.replace(scores, messages=(gathered,))


class SparseAttention(Attention):
    """Self-attention of each query to the blocks of keys that an index picks.

    All keys and values stay cached. In decode the picked ones are read. In prefill all are, since
    the queries pick different ones.

    Arguments:
        index: what picks the blocks.
        others: as in `Attention`; `window` is None.
    """

    index: BlockIndex = dataclasses.field(kw_only=True)

    def work(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        projection, *others = super().work(hidden, step)
        return (projection, *self.index.projections(hidden, step), *others)

    def modules(self, hidden: Scalar) -> tuple[Module, ...]:
        index = self.index
        widths = {"index_q_proj": index.heads * index.head_dim, "index_k_proj": index.head_dim}
        return (
            *super().modules(hidden),
            *(
                Module(
                    ATTENTION,
                    ("index_projections",),
                    width * hidden,
                    spelled(IN_ATTENTION, leaf, f"self_attn.indexer.{leaf}"),
                )
                for leaf, width in widths.items()
            ),
        )

    def core(self, step: Step) -> tuple[Operator, ...]:
        (whole,) = super().core(step)
        heads, kv_heads = self._shards(step)
        picked = attention(step, heads, kv_heads, self.head_dim, self.index.tokens, self.value_dim)
        moved = picked if step.decoding else whole
        sparse = dataclasses.replace(
            picked, cached=whole.cached, kv_cache=moved.kv_cache, messages=moved.messages
        )
        return self.index.scores(step), sparse
