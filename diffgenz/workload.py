"""What is asked of a platform, and how a model is laid out on it."""

from typing import Self

import equinox as eqx
import jax

from diffgenz.checks import check, check_divides, check_whole
from diffgenz.record import Record
from diffgenz.smooth import Leaf, as_leaf


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


class Parallelism(Record):
    """How a model is laid out: tensor x attention_data x pipeline x data ranks, tensor-parallel neighbours innermost.

    The tensor x attention_data ranks of a stage are laid out twice. Attention and dense layers: `attention_data` groups of `tensor` ranks,
    each with requests of its own. Experts: `expert` groups that hold different ones, whose ranks share each expert's features. With one
    attention group every rank sees all tokens, and experts end in an all-reduce like any other block; with several, tokens travel to
    their experts and back by all-to-all.

    Arguments:
        tensor: ranks that share each layer's heads and features.
        pipeline: stages that share the layers.
        data: replicas that share the batch.
        expert: expert-parallel groups; must divide tensor x attention_data and the model's experts.
        attention_data: groups of a replica that share its requests, but for the experts (DP attention).
        overlap: the share of tensor-parallel communication that hides behind computing, in [0, 1].

    Ranks are structure, with kinks wherever a level of the network fills up: they can be vmapped over, but estimates' derivatives
    with respect to them are zero by definition. `overlap` is an ordinary number.

    Raises:
        InputError: fewer than one rank, or an overlap outside [0, 1].
    """

    tensor: Leaf = eqx.field(converter=as_leaf, default=1.0)
    pipeline: Leaf = eqx.field(converter=as_leaf, default=1.0)
    data: Leaf = eqx.field(converter=as_leaf, default=1.0)
    overlap: Leaf = eqx.field(converter=as_leaf, default=0.0)
    expert: Leaf = eqx.field(converter=as_leaf, default=1.0)
    attention_data: Leaf = eqx.field(converter=as_leaf, default=1.0)

    def __check_init__(self):
        for field in ("tensor", "pipeline", "data", "expert", "attention_data"):
            check(field, getattr(self, field), minimum=1)
            check_whole(field, getattr(self, field), "ranks")
        check_divides("expert", self.expert, self.stage, "tensor x attention_data ranks")
        check("overlap", self.overlap, maximum=1.0)

    def as_structure(self) -> Self:
        """The same plan, its ranks constant under differentiation."""
        return eqx.tree_at(lambda plan: plan.overlap, jax.lax.stop_gradient(self), self.overlap)

    @property
    def stage(self) -> Leaf:
        """Accelerators of one pipeline stage of one replica."""
        return self.tensor * self.attention_data

    @property
    def ranks(self) -> Leaf:
        """Accelerators in use."""
        return self.stage * self.pipeline * self.data
