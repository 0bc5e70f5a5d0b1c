"""Seconds of collectives over a hierarchy of network levels, from a volume and a group of ranks.

A group of n ranks fills the inner levels first: 16 tensor-parallel ranks on nodes of 8 are 8 ranks
inside the node times 2 between nodes. A collective runs level by level, and each level carries the
volume divided by the ranks inside it: reduce-scatter inside, all-reduce of the shards outside, then
all-gather inside, which telescopes to one all-reduce per level. At each level the fastest algorithm
that its topology offers is taken, by a smooth minimum.

What a collective takes at a level beside hops and bytes, however small it is, is the level's
`start`. Between nodes it is far from zero: all-reduces of engines, written for one node, give way
to a library's, and hosts pass the messages on. It is nothing to a group inside one node.

Tokens on their way to their experts cross each level once for each group of ranks behind it that
holds any of these experts (node-level de-duplication, as in DeepEP), of which there are fewer where
the router is limited to some groups of experts. Levels work at the same time,
and the slowest sets the pace.
"""

from collections.abc import Mapping, Sequence

import equinox as eqx

from diffgenz.core import xp
from diffgenz.core.smooth import Flag, Scalar, smooth_max, smooth_min
from diffgenz.core.tree import Tree
from diffgenz.hardware.network import Level
from diffgenz.hardware.topology import Ranks, Schedule, Topology
from diffgenz.kernels.form import Form
from diffgenz.kernels.library import Bound, executed, shared
from diffgenz.kernels.shapes import CollectiveShape
from diffgenz.operators.message import Exchange
from diffgenz.operators.routing import times
from diffgenz.operators.visits import visited

NEVER = 1e12
"""Factor on the time of an algorithm that another beats for every volume: it is never chosen."""


class Link(Tree):
    """A network level as collectives see it: its reciprocal rate, built once per configuration.

    Arguments:
        topology: the wiring.
        size: accelerators inside the level.
        per_byte: s/B in one direction.
        latency: s per hop.
        start: s per collective, where no kernel of it is fitted.
        kernels: fitted collectives on this level, by name ("all_reduce"), whose times include the
            launch. Other collectives follow from the topology.
    """

    topology: Topology
    size: Scalar
    per_byte: Scalar
    latency: Scalar
    start: Scalar
    kernels: dict[str, Bound] = eqx.field(default_factory=dict)

    @classmethod
    def of(
        cls,
        level: Level,
        forms: Mapping[str, Form] | None = None,
        launch: Scalar | float = 0.0,
    ) -> "Link":
        """The link of one level.

        Arguments:
            level: the network level.
            forms: fitted collectives on it, by name.
            launch: s that a kernel of theirs takes to launch.
        """
        wire = level.wire(launch)
        kernels = {name: Bound(form, wire) for name, form in (forms or {}).items()}
        size = xp.stop_gradient(level.size)
        per_byte = xp.asarray(1 / wire.bandwidth)
        waiting = level.latency, level.start
        return cls(level.topology, size, per_byte, *waiting, shared(kernels, launch))

    def send(self, volume: Scalar) -> Scalar:
        """Seconds for one message of `volume` B to a neighbour."""
        return self.latency + volume * self.per_byte


class Rung(Tree):
    """A group's part in one level.

    Arguments:
        link: the level.
        ranks: the group's ranks there.
        arriving: the share of a volume that arrives here, which is 1 / the group's ranks in all
            inner levels.
    """

    link: Link
    ranks: Ranks
    arriving: Scalar

    def seconds(
        self, name: str, schedules: Sequence[Schedule], volume: Scalar, sharpness: float
    ) -> Scalar:
        """Seconds of a collective: as fitted, else those of the fastest of its algorithms.

        Arguments:
            name: the name by which fits know the collective.
            schedules: its algorithms on this level.
            volume: B of the whole tensor.
            sharpness: of the choice among the algorithms.
        """
        if name in self.link.kernels:
            shape = CollectiveShape(self.ranks.count, volume * self.arriving)
            return executed(self.link.kernels[name], [(1.0, shape)])
        return self.fastest(schedules, volume, sharpness)

    def fastest(self, schedules: Sequence[Schedule], volume: Scalar, sharpness: float) -> Scalar:
        """Seconds of the fastest of several algorithms.

        An algorithm with no fewer latencies and no fewer bytes than another takes no part in the
        choice: the smooth minimum of two equal times would be shorter than either. All-reduce
        between two ranks is such a case, in one shot and in two.

        Arguments:
            schedules: the algorithms.
            volume: B of the whole tensor.
            sharpness: of the choice among them.
        """
        transfer = volume * self.arriving * self.link.per_byte
        fastest = None
        for index, schedule in enumerate(schedules):
            time = schedule.steps * self.link.latency + schedule.share * transfer
            for other, rival in enumerate(schedules):
                if other != index:
                    beaten = _beaten(schedule, rival, later=index > other)
                    time = time * xp.where(beaten, NEVER, 1.0)
            fastest = time if fastest is None else smooth_min(fastest, time, sharpness)
        assert fastest is not None
        return fastest + self.starting

    @property
    def starting(self) -> Scalar:
        """Seconds to start a collective that was not measured; 0 for one rank."""
        return self.ranks.several * self.link.start


def _beaten(schedule: Schedule, rival: Schedule, *, later: bool) -> Flag:
    """Whether `rival` is at least as fast for every volume; of two equal ones the later is beaten.

    Arguments:
        schedule: the algorithm that may be beaten.
        rival: another one.
        later: whether `schedule` comes after `rival` in the list.
    """
    as_good = (rival.steps <= schedule.steps) & (rival.share <= schedule.share)
    if later:
        return as_good
    return as_good & ((rival.steps < schedule.steps) | (rival.share < schedule.share))


class Group(Tree):
    """Ranks at equal distances that communicate, from the innermost network level outwards.

    Arguments:
        count: ranks.
        rungs: their part in each level, innermost first.
    """

    count: Scalar
    rungs: tuple[Rung, ...]

    @classmethod
    def of(cls, count: Scalar, links: Sequence[Link], stride: Scalar | None = None) -> "Group":
        """The group of some ranks, whose number is structure and not differentiated.

        Arguments:
            count: ranks, at least 1.
            links: the network levels, innermost first.
            stride: accelerators from one rank to the next; None: they are neighbours.
        """
        count = xp.stop_gradient(count)
        rungs = []
        inner_size, inner_room, arriving = 1.0, 1.0, xp.ones(())
        for index, link in enumerate(links):
            size, room = link.size / inner_size, link.size
            if stride is not None:
                strides = xp.floor(link.size / xp.stop_gradient(stride))
                room = xp.maximum(strides, 1.0)
            ranks = xp.maximum(xp.ceil(count / inner_room), 1.0)
            if index < len(links) - 1:  # the outermost level holds all
                ranks = xp.minimum(ranks, room / inner_room)
            reciprocal = 1 / ranks
            rungs.append(Rung(link, Ranks(ranks, reciprocal, size), arriving))
            inner_size, inner_room, arriving = link.size, room, arriving * reciprocal
        return cls(count, tuple(rungs))

    def launch(self, latency: Scalar) -> Scalar:
        """Seconds to launch a collective.

        They are zero for one rank, and where a fitted time includes the launch.

        Arguments:
            latency: s that a kernel takes to launch.
        """
        launches = xp.where(self.count > 1, latency, 0.0)
        if not self.rungs or not self.rungs[0].link.kernels:
            return launches
        return xp.where(self.rungs[0].ranks.count > 1, 0.0, launches)

    def all_reduce(self, volume: Scalar, sharpness: float) -> Scalar:
        """Seconds to sum a tensor of `volume` B over the group; zero for one rank."""
        times = (
            rung.seconds("all_reduce", rung.link.topology.all_reduce(rung.ranks), volume, sharpness)
            for rung in self.rungs
        )
        return sum(times, start=xp.zeros(()))

    def all_gather(self, volume: Scalar, sharpness: float) -> Scalar:
        """Seconds until every rank has the whole tensor, of which each had a part before.

        Reduce-scatter costs the same.

        Arguments:
            volume: B of the whole tensor.
            sharpness: of the choice among algorithms.
        """
        times = (
            rung.seconds("all_gather", rung.link.topology.all_gather(rung.ranks), volume, sharpness)
            for rung in self.rungs
        )
        return sum(times, start=xp.zeros(()))

    def there_and_back(
        self, exchange: Exchange, owners: Scalar, sharpness: float, *, padded: bool
    ) -> Scalar:
        """Seconds to dispatch tokens to their experts and to return the results; 0 for one rank.

        Each token goes to some of the `owners` expert groups. A level carries it once for each
        group of ranks behind it that holds any of its experts. Levels work at the same time: their
        latencies add, and the slowest sets the pace. On the innermost level all wait for the
        fullest group of experts, further out for the busiest node.

        Arguments:
            exchange: the tokens that travel.
            owners: expert-parallel groups; the ranks of one group need the same tokens.
            sharpness: of the maximum over levels.
            padded: whether all messages between nodes are as long as the longest.
        """
        latency, slowest = xp.zeros(()), None
        volume = exchange.dispatch + exchange.combine
        beyond = exchange.travel.pair if padded else exchange.travel.wire
        for index, (rung, copies) in enumerate(
            zip(self.rungs, self.copies(exchange, owners), strict=True)
        ):
            schedule = rung.link.topology.all_to_all(rung.ranks)[0]
            latency = latency + 2 * (schedule.steps * rung.link.latency + rung.starting)
            busiest = times(volume, beyond if index else exchange.excess)
            moving = schedule.share * copies * busiest * rung.link.per_byte
            slowest = moving if slowest is None else smooth_max(slowest, moving, sharpness)
        return latency if slowest is None else latency + slowest

    def copies(self, exchange: Exchange, owners: Scalar) -> tuple[Scalar, ...]:
        """How many copies of a token each level carries, innermost first.

        Arguments:
            exchange: the tokens that travel.
            owners: expert-parallel groups that the ranks form.
        """
        picks, experts, limit = exchange.picks, exchange.experts, exchange.limit
        units, found = xp.ones(()), []
        for index, rung in reversed(tuple(enumerate(self.rungs))):
            units = units * rung.ranks.count
            copies = visited(units, xp.minimum(units, owners), picks, experts, limit)
            found.append(times(copies, exchange.travel.far if index else exchange.travel.near))
        return tuple(reversed(found))

    def shares_sent(self) -> tuple[Scalar, ...]:
        """The share of a tensor that each rank sends on each level in an all-gather."""
        return tuple(rung.ranks.others * rung.arriving for rung in self.rungs)
