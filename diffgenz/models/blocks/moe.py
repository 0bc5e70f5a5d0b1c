"""Mixture of experts: a router, routed experts of which each token uses a few, and shared experts that all tokens use."""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from diffgenz.core.checks import check, check_at_most
from diffgenz.core.smooth import Leaf, Scalar, as_leaf, ceil_share
from diffgenz.kernels.forms.experts import variation_of
from diffgenz.kernels.shapes import ExpertsShape
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.blocks.norm import Norm, norm
from diffgenz.operators.draws import reached
from diffgenz.operators.operator import Exchange, Operator, elementwise, expert_linear, wide_linear
from diffgenz.operators.step import Step


class MoE(Block):
    """norm -> router -> dispatch -> grouped up (and gate) -> activation -> grouped down -> combine, beside the shared experts.

    It ends in an all-reduce over the tensor-parallel ranks. Where groups of ranks have tokens of their own, tokens also travel to their
    experts and back: each rank sends its share of those it sees (`exchange`).

    FLOP follow tokens, weight traffic follows experts: n tokens that go to k of E experts each reach E (1 - (1 - k / E)**n) of them in
    expectation, if all are equally popular. The kernel's tiles pad the rows of each reached expert by half a tile on average.

    Arguments:
        routed: experts E. used: k of them per token. intermediate: width of each.
        shared: the shared experts as one MLP without a norm, or None. shared_gate: whether a gate weighs it (Qwen).
        gated, bias: as in `MLP`. router_bias: whether the router keeps a bias per expert.
        tile: rows of the grouped GEMM's smallest tile.
        imbalance: rows on the busiest expert-parallel group over the mean; at most the number of groups counts.
        norm, norms, reduces: as in `Attention`.
    """

    mixes_tokens: ClassVar[bool] = False

    routed: Leaf = eqx.field(converter=as_leaf)
    used: Leaf = eqx.field(converter=as_leaf)
    intermediate: Leaf = eqx.field(converter=as_leaf)
    shared: MLP | None = None
    shared_gate: bool = eqx.field(static=True, default=False)
    gated: bool = eqx.field(static=True, default=True)
    bias: bool = eqx.field(static=True, default=False)
    router_bias: bool = eqx.field(static=True, default=False)
    tile: Leaf = eqx.field(converter=as_leaf, default=16.0)
    imbalance: Leaf = eqx.field(converter=as_leaf, default=1.0)
    norm: Norm | None = eqx.field(static=True, default=Norm.RMS)
    norms: int = eqx.field(static=True, default=1)
    reduces: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        for field in ("routed", "used", "intermediate", "tile", "imbalance"):
            check(field, getattr(self, field), minimum=1)
        check_at_most("used", self.used, self.routed, "the routed experts")

    @property
    def experts(self) -> Scalar:
        """Routed experts."""
        return self.routed

    def reached(self, tokens: Scalar) -> Scalar:
        """The expected number of routed experts that any of `tokens` tokens goes to."""
        return reached(self.routed, self.used / self.routed, tokens)

    def _excess(self, step: Step) -> Scalar:
        return jnp.minimum(self.imbalance, 1 / step.expert_shard)

    def exchange(self, hidden: Scalar, step: Step) -> Exchange:
        """What its tokens send to the experts, and get back."""
        tokens = step.own_tokens
        sent = tokens * hidden
        return Exchange(
            self.used,
            self.routed,
            tokens,
            sent * step.precision.activation_size,
            sent * step.precision.message_size,
            self._excess(step),
            step.groups,
        )

    def _combine(self, read: Scalar, written: Scalar, step: Step) -> Operator:
        """Context-parallel ranks that compute the same tokens hold different experts: they sum what their tensor-parallel ranks have summed."""
        combine = elementwise("combine", read, written).inside("experts")
        if step.shared is None or step.shared.repeated is None:
            return combine
        return dataclasses.replace(combine, merged=written * step.shard * step.shared.repeated)

    def _shape(
        self, hidden: Scalar, width: Scalar, up: Scalar, share: Scalar, step: Step
    ) -> ExpertsShape:
        """The kernel of its experts, of which `share` have any row. Where tokens travel, it sees those that arrive, and no experts but its own."""
        everyone, excess, groups = (
            step.tokens * step.groups,
            self._excess(step),
            1 / step.expert_shard,
        )
        travel = step.groups > 1
        arriving = jnp.where(travel, reached(1.0, step.expert_shard, self.used), 1.0)
        used = self.used / arriving
        return ExpertsShape(
            everyone * arriving,
            jnp.where(travel, used * step.expert_shard, used),
            jnp.where(travel, self.routed * step.expert_shard, self.routed),
            jnp.where(travel, 1.0, groups),
            hidden,
            width,
            up,
            excess,
            variation_of(share, everyone * self.used * excess / self.routed),
            step.precision.weight_size,
            step.precision.activation_size,
        )

    def operators(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        precision, tokens = step.precision, step.tokens
        held = self.routed * step.expert_shard
        everyone = tokens * step.groups
        share = self.reached(everyone) / self.routed
        excess = self._excess(step)
        rows = everyone * self.used * step.expert_shard * excess
        groups = (
            step.attention_data if step.shared is None else step.attention_data * step.shared.ranks
        )
        width = ceil_share(self.intermediate, step.shard / (step.expert_shard * groups))
        up = width * (2 if self.gated else 1)
        moved = rows * hidden
        experts = {
            "held": held,
            "reached": share * held,
            "used": self.used / self.routed,
            "padding": 0.5 * (self.tile - 1),
            "bias": self.bias,
        }
        dispatch = elementwise(
            "dispatch",
            moved * precision.dtype_size + tokens * self.routed * precision.dtype_size,
            moved * precision.activation_size,
        )
        shape = self._shape(hidden, width, up, share, step)
        operators = [
            wide_linear("router", tokens, self.routed, hidden, precision, bias=self.router_bias),
            dispatch.inside("experts"),
            expert_linear(
                "expert_gate_up" if self.gated else "expert_up",
                rows,
                up,
                hidden,
                precision,
                **experts,
                shape=shape,
            ),
            elementwise(
                "expert_activation",
                rows * up * precision.dtype_size,
                rows * width * precision.dtype_size,
            ).inside("experts"),
            expert_linear("expert_down", rows, hidden, width, precision, **experts),
            self._combine(
                moved * precision.dtype_size, tokens * hidden * precision.dtype_size, step
            ),
        ]
        if self.norm is not None:
            operators.insert(0, norm(self.norm, hidden, step, count=self.norms))
        if self.shared is not None:
            operators += self.shared.operators(hidden, step)
        if self.shared_gate:
            operators.append(wide_linear("shared_gate", tokens, jnp.ones(()), hidden, precision))
        return tuple(operators)
