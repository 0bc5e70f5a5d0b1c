"""What is asked of a platform, and how a model is laid out on it."""

from typing import Self

import equinox as eqx
import jax

from diffgenz.core.checks import check, check_divides, check_whole
from diffgenz.core.record import Record
from diffgenz.core.smooth import Leaf, Scalar, as_leaf


class Workload(Record):
    """Requests that arrive together and are served together.

    Arguments:
        batch: requests in flight, over all replicas.
        input_tokens: prompt tokens of each.
        output_tokens: tokens generated for each; the first comes out of the prefill.
        images: images in the prompt of each, on top of `input_tokens`; for models with a vision tower.

    Raises:
        InputError: a number below 1 (images: below 0), infinite or NaN.
    """

    batch: Leaf = eqx.field(converter=as_leaf, default=1.0)
    input_tokens: Leaf = eqx.field(converter=as_leaf, default=1024.0)
    output_tokens: Leaf = eqx.field(converter=as_leaf, default=128.0)
    images: Leaf = eqx.field(converter=as_leaf, default=0.0)

    def __check_init__(self):
        for field in ("batch", "input_tokens", "output_tokens"):
            check(field, getattr(self, field), minimum=1)
        check("images", self.images)


def _unless_off(x) -> Leaf | None:
    """A leaf, or None, and with it no trace in the program, where an option is off: None, or a plain 1 (of ranks)."""
    return None if x is None or (isinstance(x, int | float) and x == 1) else as_leaf(x)


class Parallelism(Record):
    """How a model is laid out: tensor x context x attention_data x pipeline x data ranks, tensor-parallel neighbours innermost.

    The tensor x context x attention_data ranks of a stage are laid out twice. Attention and dense layers: `attention_data` groups of tensor x
    context ranks, each with requests of its own. Experts: `expert` groups that hold different ones, whose ranks share each expert's features.
    Where every rank sees all tokens, experts end in an all-reduce like any other block; where groups of ranks have tokens of their own,
    those travel to their experts and back.

    `context` ranks share each sequence and repeat the weights. In prefill each computes its part of every prompt, balanced (zig-zag), and
    gathers the keys and values of the others (Llama 3, arXiv 2407.21783; arXiv 2411.01783). In decode each holds its part of every KV cache
    and attends to it, all compute all tokens otherwise, and partial outputs are merged (Helix, arXiv 2507.07120).

    Arguments:
        tensor: ranks that share each layer's heads and features.
        pipeline: stages that share the layers.
        data: replicas that share the batch.
        expert: expert-parallel groups; must divide tensor x context x attention_data and the model's experts.
        attention_data: groups of a replica that share its requests, but for the experts (DP attention).
        overlap: the share of communication in the layers that hides behind computing, in [0, 1].
        context: ranks of an attention group that share each sequence. None, or a plain 1: no context parallelism, nothing of it compiled.
        sequence: 1 where tensor-parallel ranks also share norms, residual additions and the residual stream (sequence parallelism,
            arXiv 2205.05198), 0 where each does all of them. None: 0, nothing of it compiled.

    Ranks are structure, with kinks wherever a level of the network fills up: they can be vmapped over, but estimates' derivatives
    with respect to them are zero by definition. `overlap` is an ordinary number.

    Raises:
        InputError: fewer than one rank, ranks that do not divide, an overlap outside [0, 1], or a sequence that is neither 0 nor 1.
    """

    tensor: Leaf = eqx.field(converter=as_leaf, default=1.0)
    pipeline: Leaf = eqx.field(converter=as_leaf, default=1.0)
    data: Leaf = eqx.field(converter=as_leaf, default=1.0)
    overlap: Leaf = eqx.field(converter=as_leaf, default=0.0)
    expert: Leaf = eqx.field(converter=as_leaf, default=1.0)
    attention_data: Leaf = eqx.field(converter=as_leaf, default=1.0)
    context: Leaf | None = eqx.field(converter=_unless_off, default=None)
    sequence: Leaf | None = eqx.field(
        converter=lambda sequence: None if sequence is None else as_leaf(sequence), default=None
    )

    def __check_init__(self):
        for field in ("tensor", "pipeline", "data", "expert", "attention_data", "context"):
            if getattr(self, field) is not None:
                check(field, getattr(self, field), minimum=1)
                check_whole(field, getattr(self, field), "ranks")
        check_divides("expert", self.expert, self.stage, "tensor x context x attention_data ranks")
        check("overlap", self.overlap, maximum=1.0)
        if self.sequence is not None:
            check("sequence", self.sequence, maximum=1.0)
            check_whole("sequence", self.sequence, "switches: it is 0 or 1")

    def as_structure(self) -> Self:
        """The same plan, its ranks constant under differentiation."""
        return eqx.tree_at(lambda plan: plan.overlap, jax.lax.stop_gradient(self), self.overlap)

    @property
    def groups(self) -> Leaf:
        """Groups of `tensor` ranks in a pipeline stage of one replica: attention_data x context."""
        return self.attention_data if self.context is None else self.attention_data * self.context

    @property
    def stage(self) -> Leaf:
        """Accelerators of one pipeline stage of one replica."""
        return self.tensor * self.groups

    def share(self, queries: Scalar) -> Scalar:
        """Of `queries` new prompt tokens, those of each context rank: an equal part, not rounded."""
        return queries if self.context is None else queries / self.context

    @property
    def ranks(self) -> Leaf:
        """Accelerators in use."""
        return self.stage * self.pipeline * self.data
