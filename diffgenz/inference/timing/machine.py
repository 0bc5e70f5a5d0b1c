"""A platform under one plan and precision, and the time that messages take on it.

`Machine.seconds` and `Machine.sent` are the only two places that know between which ranks a message
goes. Time, breakdown and energy all ask them.
"""

from typing import NamedTuple

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar, smooth_min, smooth_min_slopes
from diffgenz.core.tree import Tree
from diffgenz.hardware.platform import Platform
from diffgenz.inference.timing.collectives import Group, Link
from diffgenz.inference.timing.exchange import DeepEP
from diffgenz.inference.timing.execution import Execution
from diffgenz.inference.timing.roofline import Rates
from diffgenz.operators.message import AllGather, AllReduce, Axis, Exchange, Handover, Message
from diffgenz.scenario.parallelism import Parallelism


class Sending(NamedTuple):
    """Seconds of a message.

    Arguments:
        total: all its seconds.
        launch: the part of `total` in which its kernels are launched.
    """

    total: Scalar
    launch: Scalar


class Machine(Tree):
    """A platform under one plan and precision, in the form that times are computed from.

    Arguments:
        rates: the rates of one accelerator.
        links: the network levels, innermost first.
        tensor: the tensor-parallel ranks.
        context: the context-parallel ranks, `tensor` accelerators from one to the next; None where
            there are none.
        stage: the ranks of a pipeline stage, over which experts are spread.
        peers: one rank of each group in a stage that has tokens of its own, or its own part of a
            sequence: attention_data x context ranks, `tensor` accelerators from one to the next.
        owners: expert-parallel groups of a stage.
        hops: boundaries between pipeline stages that each network level carries, innermost first.
        shard: 1 / tensor-parallel ranks.
        deepep: fitted kernels that take tokens to their experts, by mode; where there are none,
            only the time on the wires is counted.
    """

    rates: Rates
    links: tuple[Link, ...]
    tensor: Group
    context: Group | None
    stage: Group
    peers: Group
    owners: Scalar
    hops: tuple[Scalar, ...]
    shard: Scalar
    deepep: tuple[DeepEP, ...]

    @classmethod
    def of(cls, platform: Platform, plan: Parallelism, execution: Execution) -> "Machine":
        """The machine that a plan makes of a platform.

        Arguments:
            platform: the accelerators and their network.
            plan: their ranks.
            execution: their peaks and kernels in the precision in use.
        """
        rates = Rates.of(platform.accelerator, execution)
        links = _links(platform, execution, rates.launch)
        context = None if plan.context is None else Group.of(plan.context, links, plan.tensor)
        return cls(
            rates=rates,
            links=links,
            tensor=Group.of(plan.tensor, links),
            context=context,
            stage=Group.of(plan.stage, links),
            peers=Group.of(plan.groups, links, plan.tensor),
            owners=plan.expert,
            hops=_hops(plan, links),
            shard=1 / plan.tensor,
            deepep=DeepEP.modes(execution.exchanges, platform.network, rates.launch),
        )

    def seconds(self, message: Message, sharpness: float) -> Sending:
        """Seconds of one message; 0 where there is no other rank to send to.

        Arguments:
            message: what is sent.
            sharpness: of all maxima and minima.
        """
        match message:
            case AllReduce():
                group = self._ranks(message)
                launch = group.launch(self.rates.launch) * message.launches
                return Sending(group.all_reduce(message.volume, sharpness) + launch, launch)
            case AllGather():
                group = self._ranks(message)
                launch = group.launch(self.rates.launch)
                return Sending(group.all_gather(message.volume, sharpness) + launch, launch)
            case Handover():
                passing = (
                    hops * link.send(message.volume)
                    for hops, link in zip(self.hops, self.links, strict=True)
                )
                return Sending(sum(passing, start=xp.zeros(())), xp.zeros(()))
            case Exchange():
                return self._exchanging(message, sharpness)
        raise TypeError(f"{type(message).__name__} is no message that a machine sends")

    def sent(self, message: Message) -> tuple[Scalar, ...]:
        """B that one rank sends on each network level for one message, innermost first.

        A collective is taken to send the fewest bytes that any algorithm sends, even where another
        one is faster. An all-reduce sends 2 (n - 1) / n of what arrives at a level, an all-gather
        half of that, and an exchange one copy of a token for each group of ranks that holds any of
        its experts: the mean rank's, however busy others are.
        """
        match message:
            case AllReduce():
                return self._shares(self._ranks(message), 2 * message.volume)
            case AllGather():
                return self._shares(self._ranks(message), message.volume)
            case Handover():
                return tuple(hops * message.volume for hops in self.hops)
            case Exchange():
                volume = message.dispatch + message.combine
                volume = xp.where(message.groups > 1, volume, 0.0)
                copies = self.stage.copies(message, self.owners)
                return tuple(
                    rung.ranks.others * each * volume
                    for rung, each in zip(self.stage.rungs, copies, strict=True)
                )
        raise TypeError(f"{type(message).__name__} is no message that a machine sends")

    def _ranks(self, message: AllReduce | AllGather) -> Group:
        if message.over is Axis.CONTEXT:
            assert self.context is not None
            return self.context
        return self.tensor

    def _shares(self, group: Group, volume: Scalar) -> tuple[Scalar, ...]:
        return tuple(share * volume for share in group.shares_sent())

    def _exchanging(self, exchange: Exchange, sharpness: float) -> Sending:
        """One dispatch and combine by the fastest transport; zero where all ranks see all tokens.

        With an all-to-all, each rank sends its share of its tokens to their experts and gets it
        back, and the fullest rank and the busiest node set the pace. Where DeepEP's kernels are
        fitted, they time it, and the launch is part of what was measured. Otherwise all messages
        between nodes are as long as the longest, as those of a collective are.

        With an all-gather, and a reduce-scatter on the way back, every rank gets the tokens of all
        its peers and picks those of its experts.
        """
        ranks = self.stage.count
        launch = 2 * self.peers.launch(self.rates.launch)
        gathering = (
            self.peers.all_gather(ranks * each, sharpness)
            for each in (exchange.dispatch, exchange.combine)
        )
        transports = [Sending(sum(gathering, start=launch), launch)]
        for mode in self.deepep:
            seconds = mode.seconds(exchange, self.stage, self.owners, sharpness)
            transports.append(Sending(seconds, xp.zeros(())))
        if not self.deepep:
            launch = 2 * self.rates.launch
            wires = self.stage.there_and_back(exchange, self.owners, sharpness, padded=True)
            transports.append(Sending(wires + launch, launch))

        fastest = transports[0]
        for other in transports[1:]:
            fastest = _faster(fastest, other, sharpness)
        total, launch = fastest
        travels = exchange.groups > 1
        return Sending(xp.where(travels, total, 0.0), xp.where(travels, launch, 0.0))


def _faster(one: Sending, other: Sending, sharpness: float) -> Sending:
    """The smooth minimum of two transports, and the part of it in which kernels are launched.

    It is homogeneous: its slope to each time says how much of that time, launches too, is in it.
    """
    slopes = smooth_min_slopes(one.total, other.total, sharpness)
    total = smooth_min(one.total, other.total, sharpness)
    return Sending(total, slopes[0] * one.launch + slopes[1] * other.launch)


def _links(platform: Platform, execution: Execution, launch: Scalar) -> tuple[Link, ...]:
    """The network levels, with fitted collectives on the innermost.

    Collectives on levels further out were not measured by themselves.
    """
    return tuple(
        Link.of(level, execution.collectives if index == 0 else None, launch)
        for index, level in enumerate(platform.network)
    )


def _hops(plan: Parallelism, links: tuple[Link, ...]) -> tuple[Scalar, ...]:
    """The boundaries between pipeline stages that each network level carries, innermost first.

    A boundary belongs to the innermost level that spans it. Stages are blocks of `plan.stage`
    neighbours. The boundaries that leave a level of s accelerators are one fewer than the groups of
    s accelerators in use.
    """
    used = xp.stop_gradient(plan.stage * plan.pipeline)
    found, leaving_inner = [], plan.pipeline - 1
    for index, link in enumerate(links):
        leaving = xp.zeros(())
        if index < len(links) - 1:
            leaving = xp.minimum(plan.pipeline - 1, xp.ceil(used / link.size) - 1)
        found.append(leaving_inner - leaving)
        leaving_inner = leaving
    return tuple(found)
