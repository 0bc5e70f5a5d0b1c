"""Volume x group -> seconds: collectives over a hierarchy of network levels.

A group of n ranks fills the inner levels first: 16 tensor-parallel ranks on nodes of 8 are 8 ranks inside the node times 2 between nodes.
A collective runs level by level, each carrying the volume divided by the ranks inside it: reduce-scatter inside, all-reduce of the shards
outside, all-gather inside, which telescopes to one all-reduce per level. At each level the fastest algorithm that its topology offers is
taken, by a smooth minimum.

Tokens on their way to their experts cross each level once for each group of ranks behind it that holds any of them (node-level
de-duplication, as in DeepEP); levels work at the same time, and the slowest sets the pace.
"""

from collections.abc import Mapping, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp

from diffgenz.core.smooth import SHARPNESS, Scalar, smooth_min
from diffgenz.hardware.platform import Level
from diffgenz.hardware.topology import Ranks, Schedule, Topology
from diffgenz.kernels.form import Form
from diffgenz.kernels.hardware import Wire
from diffgenz.kernels.library import Bound, executed
from diffgenz.kernels.shapes import CollectiveShape
from diffgenz.operators.draws import reached


class Link(eqx.Module):
    """A network level as collectives see it: its reciprocal rate, built once per configuration.

    Arguments:
        topology: the wiring. size: accelerators inside the level. per_byte: s/B, one direction. latency: s per hop.
        kernels: fitted collectives on this level, by name ("all_reduce"): they include their launch. Others follow from the topology.
    """

    topology: Topology
    size: Scalar
    per_byte: Scalar
    latency: Scalar
    kernels: dict[str, Bound] = eqx.field(default_factory=dict)

    @classmethod
    def of(
        cls, level: Level, forms: Mapping[str, Form] | None = None, launch: Scalar | float = 0.0
    ) -> "Link":
        """The link of one level, with the `forms` of fitted collectives on it, whose kernels take `launch` s to launch."""
        rate = level.bandwidth * level.efficiency
        kernels = {
            name: Bound(form, Wire(rate, level.latency, launch))
            for name, form in (forms or {}).items()
        }
        return cls(
            level.topology, jax.lax.stop_gradient(level.size), 1 / rate, level.latency, kernels
        )

    def send(self, volume: Scalar) -> Scalar:
        """Seconds for one message of `volume` B to a neighbour."""
        return self.latency + volume * self.per_byte


class Rung(eqx.Module):
    """A group's part in one level: its ranks there, and 1 / its ranks in all inner levels, the share of the volume that arrives."""

    link: Link
    ranks: Ranks
    arriving: Scalar

    def seconds(
        self, name: str, schedules: Sequence[Schedule], volume: Scalar, sharpness: float
    ) -> Scalar:
        """Seconds of the collective called `name` for a tensor of `volume` B: as fitted, else of the fastest of `schedules`."""
        if name in self.link.kernels:
            return executed(
                self.link.kernels[name],
                [(1.0, CollectiveShape(self.ranks.count, volume * self.arriving))],
            )
        return self.fastest(schedules, volume, sharpness)

    def fastest(self, schedules: Sequence[Schedule], volume: Scalar, sharpness: float) -> Scalar:
        """Seconds of the fastest of `schedules` for a tensor of `volume` B."""
        transfer = volume * self.arriving * self.link.per_byte
        times = [
            schedule.steps * self.link.latency + schedule.share * transfer for schedule in schedules
        ]
        fastest = times[0]
        for time in times[1:]:
            fastest = smooth_min(fastest, time, sharpness)
        return fastest


class Group(eqx.Module):
    """Ranks at equal distances that communicate, spread over the network levels from the innermost outwards."""

    count: Scalar
    rungs: tuple[Rung, ...]

    @classmethod
    def of(cls, count: Scalar, links: Sequence[Link], stride: Scalar | None = None) -> "Group":
        """`count` ranks, at least 1, neighbours or each `stride` from the next. Their number is structure, not differentiated."""
        count = jax.lax.stop_gradient(count)
        rungs = []
        inner_size, inner_room, arriving = 1.0, 1.0, jnp.ones(())
        for index, link in enumerate(links):
            size = link.size / inner_size
            room = (
                link.size
                if stride is None
                else jnp.maximum(jnp.floor(link.size / jax.lax.stop_gradient(stride)), 1.0)
            )
            ranks = jnp.maximum(jnp.ceil(count / inner_room), 1.0)
            if index < len(links) - 1:  # the outermost level holds all
                ranks = jnp.minimum(ranks, room / inner_room)
            reciprocal = 1 / ranks
            rungs.append(Rung(link, Ranks(ranks, reciprocal, size), arriving))
            inner_size, inner_room, arriving = link.size, room, arriving * reciprocal
        return cls(count, tuple(rungs))

    def launch(self, latency: Scalar) -> Scalar:
        """Seconds to launch a collective: `latency`, but zero for one rank, and where a fitted time includes it."""
        launches = jnp.where(self.count > 1, latency, 0.0)
        return (
            jnp.where(self.rungs[0].ranks.count > 1, 0.0, launches)
            if self.rungs and self.rungs[0].link.kernels
            else launches
        )

    def all_reduce(self, volume: Scalar, sharpness: float = SHARPNESS) -> Scalar:
        """Seconds to sum a tensor of `volume` B over the group; zero for one rank."""
        times = (
            rung.seconds("all_reduce", rung.link.topology.all_reduce(rung.ranks), volume, sharpness)
            for rung in self.rungs
        )
        return sum(times, start=jnp.zeros(()))

    def there_and_back(self, volume: Scalar, picks: Scalar, owners: Scalar) -> Scalar:
        """Seconds of two all-to-alls: every rank sends each of its tokens to `picks` random ones of `owners`, and gets them back; zero for one rank.

        Arguments:
            volume: B of one copy of a rank's tokens, on the way there plus on the way back.
            owners: the equal parts that the group's ranks form, each holding something else; ranks of a part all need its tokens.
        """
        units = jnp.ones(())
        latency, slowest = jnp.zeros(()), jnp.zeros(())
        for rung in reversed(self.rungs):
            units = units * rung.ranks.count
            copies = reached(units, 1 / jnp.minimum(units, owners), picks)
            schedule = rung.link.topology.all_to_all(rung.ranks)[0]
            latency = latency + 2 * schedule.steps * rung.link.latency
            slowest = jnp.maximum(slowest, schedule.share * copies * volume * rung.link.per_byte)
        return latency + slowest

    def all_gather(self, volume: Scalar, sharpness: float = SHARPNESS) -> Scalar:
        """Seconds until every rank has the whole tensor of `volume` B, of which each had its part. Reduce-scatter costs the same."""
        times = (
            rung.seconds("all_gather", rung.link.topology.all_gather(rung.ranks), volume, sharpness)
            for rung in self.rungs
        )
        return sum(times, start=jnp.zeros(()))
