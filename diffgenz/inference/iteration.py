"""One iteration of one micro-batch: its operators and collectives, part by part, and the seconds they take.

`served` builds them. Decode is the mean over the generation, by Gauss-Legendre quadrature in the context length; only attention depends on it, so
only attention is evaluated at every node.
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp

from diffgenz.core.smooth import SHARPNESS, Scalar, ceil_share, once
from diffgenz.hardware.platform import Platform
from diffgenz.inference.timing.collectives import Group, Link
from diffgenz.inference.timing.exchange import DeepEP
from diffgenz.inference.timing.pipeline import Parts, hop_time
from diffgenz.inference.timing.roofline import Rates, operators_time
from diffgenz.models.model import Model
from diffgenz.operators.operator import Exchange, Operator
from diffgenz.operators.precision import Precision
from diffgenz.operators.step import ContextShare, Step
from diffgenz.scenario.parallelism import Parallelism, Workload

QUADRATURE = ((0.11270166537925831, 5 / 18), (0.5, 8 / 18), (0.8872983346207417, 5 / 18))
"""Gauss-Legendre nodes on [0, 1] and their weights: exact for polynomials up to degree 5."""


class Machine(eqx.Module):
    """A platform under one plan and precision, in the form that times are computed from. The natural cut for hardware derivatives.

    Arguments:
        rates: of one accelerator. links: the network levels. group: the tensor-parallel ranks.
        stage: the ranks of a pipeline stage, over which experts are spread.
        deepep: fitted kernels that take tokens to their experts; empty: wires alone are counted.
        peers: a rank of each group in a stage with tokens of its own, or its part of a sequence: attention_data x context, `tensor` apart.
        shard: 1 / tensor-parallel ranks.
        collective_launch: s to launch a collective; zero where the group is one rank. reduction_launch: of an all-reduce, which is two of them
            (reduce-scatter and all-gather) in sequence parallelism.
        context: the context-parallel ranks, `tensor` apart. context_launch: s to launch one of their collectives. None without.
    """

    rates: Rates
    links: tuple[Link, ...]
    group: Group
    stage: Group
    deepep: tuple[DeepEP, ...]
    peers: Group
    shard: Scalar
    collective_launch: Scalar
    reduction_launch: Scalar
    context: Group | None
    context_launch: Scalar | None

    @classmethod
    def of(cls, platform: Platform, plan: Parallelism, precision: Precision) -> "Machine":
        """The machine that `plan` makes of `platform`."""
        rates = Rates.of(platform.accelerator, precision)
        links = _links(platform, precision, rates.launch)
        shard = 1 / plan.tensor
        group = Group.of(plan.tensor, links)
        context = None if plan.context is None else Group.of(plan.context, links, plan.tensor)
        launch = group.launch(rates.launch)
        return cls(
            rates=rates,
            links=links,
            group=group,
            stage=Group.of(plan.stage, links),
            deepep=DeepEP.modes(platform.accelerator.kernels, platform.network, rates.launch),
            peers=Group.of(plan.groups, links, plan.tensor),
            shard=shard,
            collective_launch=launch,
            reduction_launch=launch if plan.sequence is None else launch * (1 + plan.sequence),
            context=context,
            context_launch=None if context is None else context.launch(rates.launch),
        )

    def exchange_time(self, exchange: Exchange, plan: Parallelism) -> tuple[Scalar, Scalar]:
        """Seconds of one dispatch and combine by the fastest transport, and of those to launch it; zero where all ranks see all tokens.

        All-to-all: each rank sends its share of its tokens to their experts, and gets it back; the busiest experts set the pace. As DeepEP's
        kernels do it, where they are fitted (the launch is part of what was measured).
        All-gather, and reduce-scatter on the way back: every rank gets the tokens of all its peers, and picks those of its experts.
        """
        launch = 2 * self.peers.launch(self.rates.launch)
        gathered = self.peers.all_gather(plan.stage * exchange.dispatch) + self.peers.all_gather(
            plan.stage * exchange.combine
        )
        transports = [(gathered + launch, launch)]
        transports += [
            (mode.seconds(exchange, self.stage, plan.expert), jnp.zeros(())) for mode in self.deepep
        ]
        if not self.deepep:
            launch = 2 * self.rates.launch
            scattered = self.stage.there_and_back(
                exchange.busiest * (exchange.dispatch + exchange.combine),
                exchange.picks,
                plan.expert,
            )
            transports.append((scattered + launch, launch))
        fastest, launching = transports[0]
        for seconds, launch in transports[1:]:
            launching = jnp.where(seconds < fastest, launch, launching)
            fastest = jnp.minimum(fastest, seconds)
        travels = exchange.groups > 1
        return jnp.where(travels, fastest, 0.0), jnp.where(travels, launching, 0.0)

    def context_time(self, op: Operator, sharpness: float = SHARPNESS) -> tuple[Scalar, Scalar]:
        """Seconds in which context-parallel ranks gather what `op` reads, and merge what it writes; once, launches included."""
        gathering = merging = jnp.zeros(())
        if self.context is not None and self.context_launch is not None:
            if op.gathered is not None:
                gathering = self.context.all_gather(op.gathered, sharpness) + self.context_launch
            if op.merged is not None:
                merging = self.context.all_reduce(op.merged, sharpness) + self.context_launch
        return gathering, merging


def _links(platform: Platform, precision: Precision, launch: Scalar) -> tuple[Link, ...]:
    """The network levels; collectives of the innermost are as fitted, where they are. Nobody has measured the others apart."""
    library = platform.accelerator.kernels
    forms = {}
    if library is not None:
        named = {
            "all_reduce": library.form("all_reduce", precision.messages),
            "all_gather": library.form("all_gather", precision.dtype),
        }
        forms = {name: form for name, form in named.items() if form is not None}
    return tuple(
        Link.of(level, forms if index == 0 else None, launch)
        for index, level in enumerate(platform.network)
    )


class Iteration(NamedTuple):
    """What one device executes for one micro-batch, by part, and the bytes its collectives work on.

    Arguments:
        layers, embedding, head: operators of each part.
        hidden_volume: B of the new tokens' hidden states as messages: what each all-reduce sums and each stage passes on.
        residual_volume: B of those that this rank keeps between blocks: all, or its share in sequence parallelism.
        logits_volume: B of the logits, gathered over the tensor-parallel ranks.
        exchanges: what goes to experts on other ranks and back.
    """

    layers: tuple[Operator, ...]
    embedding: tuple[Operator, ...]
    head: tuple[Operator, ...]
    hidden_volume: Scalar
    residual_volume: Scalar
    logits_volume: Scalar
    exchanges: tuple[Exchange, ...]

    @classmethod
    def of(cls, model: Model, step: Step, logits: Scalar | None = None) -> "Iteration":
        """The iteration that `step` is; `logits`: tokens that need logits, if not one of each sequence."""
        sampled = step if logits is None else step.replace(sequences=logits)
        return cls(
            model.layer_operators(step),
            model.embedding_operators(step),
            model.head_operators(sampled),
            step.tokens * model.hidden * step.precision.message_size,
            step.residual_tokens * model.hidden * step.precision.dtype_size,
            sampled.sequences * model.vocabulary * step.precision.dtype_size,
            model.exchanges(step),
        )

    @property
    def operators(self) -> tuple[Operator, ...]:
        """All of them, in order."""
        return (*self.embedding, *self.layers, *self.head)


def prefill_step(
    workload: Workload, plan: Parallelism, precision: Precision, sequences: Scalar
) -> Step:
    """The prompts of `sequences` requests at once, on one of the attention groups that share them."""
    mine = ceil_share(sequences, 1 / plan.attention_data)
    return Step(
        mine,
        plan.share(workload.input_tokens),
        0.0,
        1 / plan.tensor,
        precision,
        1 / plan.expert,
        plan.attention_data,
        shared=None if plan.context is None else ContextShare(plan.context),
        sequence=plan.sequence,
    )


def execution_times(iteration: Iteration, machine: Machine, sharpness: float = SHARPNESS) -> Parts:
    """Seconds of the operators of each part, communication apart."""
    parts = iteration.layers, iteration.head, iteration.embedding
    layers, head, embedding = (
        operators_time(operators, machine.rates, sharpness) for operators in parts
    )
    return Parts(layers=once(layers, machine.shard), head=head, rest=embedding)


def iteration_times(
    iteration: Iteration,
    model: Model,
    machine: Machine,
    plan: Parallelism,
    sharpness: float = SHARPNESS,
    executing: Parts | None = None,
) -> Parts:
    """Seconds of each part of an iteration on one tensor-parallel rank; `executing`: its `execution_times`, where they are known."""
    executing = executing or execution_times(iteration, machine, sharpness)
    group = machine.group
    all_reduce = group.all_reduce(iteration.hidden_volume, sharpness) + machine.reduction_launch
    gather = group.all_gather(iteration.logits_volume, sharpness) + machine.collective_launch
    communication = model.reductions * all_reduce
    for exchange in iteration.exchanges:
        communication = once(
            communication + exchange.repeats * machine.exchange_time(exchange, plan)[0],
            machine.shard,
        )
    if machine.context is not None:
        communication = communication + sum(
            op.repeats * sum(machine.context_time(op, sharpness)) for op in iteration.layers
        )
    return Parts(
        layers=executing.layers + exposed(communication, executing.layers, plan),
        head=once(executing.head + gather, machine.shard),
        rest=executing.rest + all_reduce + hop_time(plan, machine.links, iteration.hidden_volume),
    )


def exposed(communication: Scalar, computing: Scalar, plan: Parallelism) -> Scalar:
    """Seconds of `communication` that do not hide behind `computing`: hidden is `plan.overlap` of the shorter of the two."""
    return communication - plan.overlap * jnp.minimum(communication, computing)
