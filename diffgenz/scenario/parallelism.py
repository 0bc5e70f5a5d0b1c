"""How a model is laid out on accelerators."""

from collections.abc import Iterable
from typing import Any, Self

import equinox as eqx

from diffgenz.core import xp
from diffgenz.core.checks import Condition, divides
from diffgenz.core.record import Record, number
from diffgenz.core.smooth import Leaf, Scalar


def _ranks(*, default: float | None = 1.0) -> Any:
    """A field for a number of ranks: whole, at least 1, and structure."""
    if default is None:
        return number(at_least=1, whole="ranks", structure=True, default=None, off=1)
    return number(at_least=1, whole="ranks", structure=True, default=default)


class Parallelism(Record):
    """The layout of a model on tensor x context x attention_data x pipeline x data ranks.

    Tensor-parallel neighbours are innermost. The tensor x context x attention_data ranks of a stage
    are laid out twice. For attention and dense layers, they form `attention_data` groups of tensor
    x context ranks, each with requests of its own. For experts, they form `expert` groups that hold
    different experts, and the ranks of a group share each expert's features. Where every rank sees
    all tokens, experts end in an all-reduce like any other block. Where groups of ranks have tokens
    of their own, the tokens travel to their experts and back.

    `context` ranks share each sequence and repeat the weights. In prefill, each of them computes
    its part of every prompt, balanced (zig-zag), and gathers the keys and values of the others
    (Llama 3, arXiv 2407.21783; arXiv 2411.01783). In decode, each holds its part of every KV cache
    and attends to it. Partial outputs are merged (Helix, arXiv 2507.07120), and in all other layers
    all ranks compute all tokens.

    Ranks are structure, since estimates have kinks wherever a level of the network fills up. Ranks
    can be vmapped over, but the derivatives of estimates with respect to them are zero by
    definition. `overlap` is an ordinary number.

    Arguments:
        tensor: ranks that share each layer's heads and features, at least 1.
        pipeline: stages that share the layers, at least 1.
        data: replicas that share the batch, at least 1.
        overlap: the share of communication in the layers that hides behind computing, in [0, 1].
        expert: expert-parallel groups, at least 1; they must divide tensor x context x
            attention_data and the model's experts.
        attention_data: groups of a replica that share its requests, while experts see all of them
            (DP attention); at least 1.
        context: ranks of an attention group that share each sequence, at least 1; None or 1: no
            context parallelism.
        sequence: 1 where tensor-parallel ranks also share norms, residual additions and the
            residual stream (sequence parallelism, arXiv 2205.05198); None or 0: each rank does all
            of that.

    Raises:
        InputError: fewer than one rank, ranks that do not divide, an overlap outside [0, 1], or a
            sequence that is neither 0 nor 1.
    """

    tensor: Leaf = _ranks()
    pipeline: Leaf = _ranks()
    data: Leaf = _ranks()
    overlap: Leaf = number(at_most=1, default=0.0)
    expert: Leaf = _ranks()
    attention_data: Leaf = _ranks()
    context: Leaf | None = _ranks(default=None)
    sequence: Leaf | None = number(
        at_most=1, whole="switches: it is 0 or 1", structure=True, default=None, off=0
    )

    def conditions(self) -> Iterable[Condition]:
        what = "tensor x context x attention_data ranks"
        yield divides("expert", self.expert, self.stage, what)

    def as_structure(self) -> Self:
        """The same plan, with ranks that are constant under differentiation."""
        constant = xp.stop_gradient(self)
        return eqx.tree_at(lambda plan: plan.overlap, constant, self.overlap)

    @property
    def replica_group(self) -> Leaf:
        """Ranks that hold one group's part of each layer: tensor x context."""
        return self.tensor if self.context is None else self.tensor * self.context

    @property
    def groups(self) -> Leaf:
        """Groups of `tensor` ranks in a stage of one replica: attention_data x context."""
        if self.context is None:
            return self.attention_data
        return self.attention_data * self.context

    @property
    def stage(self) -> Leaf:
        """Accelerators of one pipeline stage of one replica."""
        return self.tensor * self.groups

    def share(self, queries: Scalar) -> Scalar:
        """The part of `queries` new prompt tokens that each context rank computes, not rounded."""
        return queries if self.context is None else queries / self.context

    @property
    def ranks(self) -> Leaf:
        """Accelerators in use: tensor x context x attention_data x pipeline x data."""
        return self.stage * self.pipeline * self.data
