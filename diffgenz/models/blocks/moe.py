"""Mixture of experts: a router, routed experts, of which each token uses a few, and shared ones."""

from typing import ClassVar

import equinox as eqx

from diffgenz.core import xp
from diffgenz.core.checks import Condition, at_most
from diffgenz.core.errors import InputError
from diffgenz.core.record import number
from diffgenz.core.smooth import Leaf, Scalar, ceil_share
from diffgenz.kernels.forms.experts import variation_of
from diffgenz.kernels.shapes import ExpertsShape
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.blocks.module import EXPERTS, Module, feed_forward_modules, spelled
from diffgenz.models.blocks.module import MLP as DENSE
from diffgenz.operators.elementwise import elementwise
from diffgenz.operators.linear import expert_linear, linear, wide_linear
from diffgenz.operators.message import AllReduce, Axis, Exchange
from diffgenz.operators.operator import Operator
from diffgenz.operators.routing import Travel, times
from diffgenz.operators.step import Step
from diffgenz.operators.visits import GroupLimit, visited

PARENTS = "mlp block_sparse_moe feed_forward mixer moe ffn"
"""The names of what a layer's experts are in."""

SHARED = "shared_experts shared_expert shared_mlp share_expert"
"""The names of the shared experts in there."""


class MoE(Block):
    """A mixture of experts.

    norm -> router -> dispatch -> grouped up (and gate) -> activation -> grouped down -> combine
    -> all-reduce over the tensor-parallel ranks

    The shared experts run beside the routed ones. Where groups of ranks have tokens of their own,
    tokens also travel to their experts and back: each rank sends its share of the tokens that it
    sees (`operators.message.Exchange`).

    Latent experts work on a narrower vector (Nemotron 3): a projection before the dispatch makes
    it, and one after the combination leads back, so that what travels is narrow, too. Every rank
    holds both projections whole. Router and shared experts see the whole hidden state.

    FLOP follow tokens, and weight traffic follows experts: n tokens that go to k of E experts each
    reach E (1 - (1 - k / E)**n) of them in expectation, if all are equally popular. Where they are
    not, the step's routing says how many are reached, how full the fullest rank is, and how far
    tokens travel (`operators.routing`). The kernel's tiles pad the rows of each reached expert by
    half a tile on average.

    Arguments:
        routed: routed experts E, at least 1.
        used: experts k that each token uses, in [1, E].
        intermediate: width of each expert, at least 1.
        groups: groups of equally many experts, of which each token uses only some (DeepSeek-V3,
            arXiv 2412.19437, section 2.1.2); None where it may use the experts of all.
        groups_used: groups that the experts of a token are in; None where `groups` is.
        shared: the shared experts as one MLP without a norm, or None.
        shared_gate: whether a gate weighs the shared experts (Qwen).
        gated: whether a second projection gates the first, as in `MLP`.
        bias: whether the experts' projections have a bias.
        router_bias: whether the router keeps a bias per expert.
        latent: width of the vectors that the routed experts read and write, at least 1; None where
            it is the model's.
        tile: rows of the grouped GEMM's smallest tile.
        norm, norms, reduces: as in `Block`.

    Raises:
        InputError: more experts used than routed, or more groups than there are.
    """

    mixes_tokens: ClassVar[bool] = False

    routed: Leaf = number(at_least=1)
    used: Leaf = number(at_least=1)
    intermediate: Leaf = number(at_least=1)
    shared: MLP | None = None
    shared_gate: bool = eqx.field(static=True, default=False)
    gated: bool = eqx.field(static=True, default=True)
    bias: bool = eqx.field(static=True, default=False)
    router_bias: bool = eqx.field(static=True, default=False)
    latent: Leaf | None = number(at_least=1, default=None)
    groups: Leaf | None = number(at_least=1, default=None)
    groups_used: Leaf | None = number(at_least=1, default=None)
    tile: Leaf = number(at_least=1, default=16.0)

    def conditions(self) -> tuple[Condition, ...]:
        found = [at_most("used", self.used, self.routed, "the routed experts")]
        if (self.groups is None) != (self.groups_used is None):
            raise InputError("groups: is given without groups_used, or the other way; give both")
        if self.groups is not None and self.groups_used is not None:
            found.append(at_most("groups_used", self.groups_used, self.groups, "the groups"))
        return tuple(found)

    @property
    def experts(self) -> Scalar:
        """Routed experts of the whole model."""
        return self.routed

    def work(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        precision, tokens, size = step.precision, step.tokens, step.precision.dtype_size
        everyone = tokens * step.groups
        routing = step.routing.of_kind(0)  # the step is one of this kind's
        slots = times(self.routed, routing.copies)
        share = routing.active(everyone, self.used, slots)
        held = slots * step.expert_shard
        pairs = everyone * self.used
        excess = routing.excess(pairs, self.routed, 1 / step.expert_shard)
        rows = times(pairs * step.expert_shard, excess)
        name = self._row
        width = ceil_share(self.intermediate, step.shard / (step.expert_shard * step.rank_groups))
        up = width * (2 if self.gated else 1)
        inner = hidden if self.latent is None else self.latent
        moved = rows * inner
        experts = {
            "held": held,
            "reached": share * held,
            "used": self.used / slots,
            "padding": 0.5 * (self.tile - 1),
            "bias": self.bias,
        }
        dispatched = (moved + tokens * self.routed) * size
        part, _, activation_size = precision.layer(name, "experts")
        dispatch = elementwise("dispatch", dispatched, moved * activation_size)
        activation = elementwise("expert_activation", rows * up * size, rows * width * size)
        shape = self._shape(inner, width, up, slots, share, excess, step)
        exchange = self._exchange(inner, excess, routing.travel(excess), step)
        narrowed, widened = self._projections(hidden, step)
        shared = () if self.shared is None else self.shared.operators(hidden, step)
        gate = wide_linear("shared_gate", tokens, xp.ones(()), hidden, precision)
        return (
            wide_linear("router", tokens, self.routed, hidden, precision, bias=self.router_bias),
            *narrowed,
            dispatch.inside(EXPERTS, part).sending(exchange),
            expert_linear(name, rows, up, inner, precision, **experts, shape=shape),
            activation.inside(EXPERTS, part),
            expert_linear("expert_down", rows, inner, width, precision, **experts),
            self._combine(moved * size, tokens * inner * size, step),
            *widened,
            *shared,
            *((gate,) if self.shared_gate else ()),
        )

    @property
    def _row(self) -> str:
        """The row of the experts' first product in a breakdown."""
        return "expert_gate_up" if self.gated else "expert_up"

    def modules(self, hidden: Scalar) -> tuple[Module, ...]:
        parents = PARENTS.split()
        together = [f"{parent}.experts" for parent in parents]
        shared = " ".join(f"{parent}.{name}" for parent in parents for name in SHARED.split())
        inner, projections = hidden, ()
        if self.latent is not None:
            inner = self.latent
            names = {"latent_down": "fc1_latent_proj", "latent_up": "fc2_latent_proj"}
            projections = tuple(
                Module(DENSE, (row,), hidden * inner, spelled(PARENTS, name))
                for row, name in names.items()
            )
        return (
            *projections,
            *feed_forward_modules(
                EXPERTS,
                inner,
                self.intermediate,
                " ".join([*(f"{name}.0" for name in together), *together]),
                gated=self.gated,
                bias=self.bias,
                rows=(self._row, "expert_down"),
                copies=self.routed,
                together=together,
            ),
            *(() if self.shared is None else self.shared.modules(hidden, f"{shared} shared_mlp")),
        )

    def _projections(
        self, hidden: Scalar, step: Step
    ) -> tuple[tuple[Operator, ...], tuple[Operator, ...]]:
        """The projections into and out of the experts' latent space; none where there is none."""
        if self.latent is None:
            return (), ()
        tokens, precision = step.tokens, step.precision
        return (
            (linear("latent_down", tokens, self.latent, hidden, precision, DENSE),),
            (linear("latent_up", tokens, hidden, self.latent, precision, DENSE),),
        )

    def _exchange(
        self, width: Scalar, excess: Scalar | None, travel: Travel, step: Step
    ) -> Exchange:
        """The message that sends this rank's tokens to their experts and the results back.

        Arguments:
            width: elements of what travels for each token.
            excess: rows of the fullest group / mean rows of a group; None is 1.
            travel: how tokens travel, relative to uniform routing.
            step: the iteration.
        """
        tokens = step.own_tokens
        sent = tokens * width
        return Exchange(
            "exchange",
            Axis.EXPERT,
            picks=self.used,
            experts=self.routed,
            tokens=tokens,
            dispatch=sent * step.precision.layer(self._row, "experts").activation_size,
            combine=sent * step.precision.message_size,
            groups=step.groups,
            excess=excess,
            travel=travel,
            limit=self.limit,
        )

    @property
    def limit(self) -> GroupLimit | None:
        """The groups that the experts of a token are in; None where they may be anywhere."""
        if self.groups is None or self.groups_used is None:
            return None
        return GroupLimit(self.groups, self.groups_used)

    def _combine(self, read: Scalar, written: Scalar, step: Step) -> Operator:
        """The weighted sum of a token's experts.

        Context-parallel ranks that compute the same tokens hold different experts. They add up the
        sums of their tensor-parallel ranks.

        Arguments:
            read: B that are read.
            written: B that are written.
            step: the iteration.
        """
        part = step.precision.layer(self._row, "experts").part
        combine = elementwise("combine", read, written).inside("experts", part)
        repeated = step.shared.repeated
        if repeated is None:
            return combine
        volume = written * step.shard * repeated
        return combine.sending(AllReduce("context_merge", Axis.CONTEXT, volume))

    def _shape(
        self,
        hidden: Scalar,
        width: Scalar,
        up: Scalar,
        slots: Scalar,
        share: Scalar,
        excess: Scalar | None,
        step: Step,
    ) -> ExpertsShape:
        """The shape by which fitted kernels know this layer's experts.

        Where tokens are dispatched between ranks (step.groups > 1), the kernel sees one group: the
        tokens that arrive there and the experts held there. Otherwise it sees all tokens and all
        experts, split over 1 / expert_shard groups.

        Arguments:
            hidden: width of what the experts read and write.
            width: intermediate features of one expert's shard.
            up: outputs of the first product: 2 width where it is gated, else width.
            slots: routed experts, and their replicas.
            share: fraction of the slots that receive at least one token.
            excess: rows of the fullest group / mean rows of a group; None is 1.
            step: the iteration.
        """
        everyone = step.tokens * step.groups
        travel = step.groups > 1
        arriving = visited(1.0, 1 / step.expert_shard, self.used, self.routed, self.limit)
        arriving = xp.where(travel, arriving, 1.0)
        used = self.used / arriving
        _, weight_size, activation_size = step.precision.layer(self._row, "experts")
        return ExpertsShape(
            everyone * arriving,
            xp.where(travel, used * step.expert_shard, used),
            xp.where(travel, slots * step.expert_shard, slots),
            xp.where(travel, 1.0, 1 / step.expert_shard),
            hidden,
            width,
            up,
            xp.ones(()) if excess is None else excess,
            variation_of(share, times(everyone * self.used, excess) / slots),
            weight_size,
            activation_size,
        )
