"""How the accelerators of one network level are wired, and what collectives therefore cost there.

A collective is a number of latencies and a multiple of the bytes, t = steps * latency + share * volume / bandwidth (the alpha-beta model),
for each algorithm that the wiring offers; `collectives` takes the smooth minimum over them. Volume is the whole tensor a rank starts from
(all-reduce, reduce-scatter, all-to-all) or ends with (all-gather). For n ranks, shares are the textbook ones: all-reduce 2 (n - 1) / n,
all-gather, reduce-scatter and all-to-all (n - 1) / n (Thakur, Rabenseifner, Gropp, IJHPCA 2005).

A new wiring is one small class and a line in `topology_named`.
"""

from abc import abstractmethod
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp

from diffgenz.core.smooth import Scalar


class Ranks(NamedTuple):
    """The part of a group of ranks that lies inside one level.

    Arguments:
        count: ranks n, at least 1.
        reciprocal: 1 / n.
        size: accelerators that the level wires together.
    """

    count: Scalar
    reciprocal: Scalar
    size: Scalar

    @property
    def several(self) -> Scalar:
        """1 where there is anyone to talk to, else 0."""
        return jnp.where(self.count > 1, 1.0, 0.0)

    @property
    def others(self) -> Scalar:
        """(n - 1) / n."""
        return 1 - self.reciprocal


class Schedule(NamedTuple):
    """One algorithm for one collective: `steps` latencies, and `share` times the volume over the wire. Zero for one rank."""

    steps: Scalar
    share: Scalar


def direct(ranks: Ranks, passes: int) -> Schedule:
    """Every rank exchanges its parts with every other at once. All-gather and reduce-scatter are one pass, all-reduce is two."""
    return Schedule(passes * ranks.several, passes * ranks.others)


def ring(ranks: Ranks, passes: int) -> Schedule:
    """Parts go round, n - 1 hops a pass. All-gather and reduce-scatter are one pass, all-reduce is two."""
    return Schedule(passes * (ranks.count - 1), passes * ranks.others)


class Topology(eqx.Module):
    """The wiring of one level. Each method lists the algorithms a library would choose from."""

    @abstractmethod
    def all_reduce(self, ranks: Ranks) -> tuple[Schedule, ...]:
        """Every rank ends with the sum of all ranks' tensors."""

    @abstractmethod
    def all_gather(self, ranks: Ranks) -> tuple[Schedule, ...]:
        """Every rank ends with all ranks' parts. Reduce-scatter is its mirror image and costs the same."""

    @abstractmethod
    def all_to_all(self, ranks: Ranks) -> tuple[Schedule, ...]:
        """Every rank sends each other rank its own part."""


class Switch(Topology):
    """Any to any at full rate (NVSwitch, PCIe switch). All-reduce in two shots (reduce-scatter, all-gather) or one (everything to everyone)."""

    def all_reduce(self, ranks: Ranks) -> tuple[Schedule, ...]:
        one_shot = Schedule(ranks.several, ranks.count - 1)
        return direct(ranks, 2), one_shot

    def all_gather(self, ranks: Ranks) -> tuple[Schedule, ...]:
        return (direct(ranks, 1),)

    def all_to_all(self, ranks: Ranks) -> tuple[Schedule, ...]:
        return (direct(ranks, 1),)


class Mesh(Topology):
    """A link from each to each (xGMI of MI300X): direct algorithms, but n of the level's ranks use only their n - 1 links of all size - 1."""

    def all_reduce(self, ranks: Ranks) -> tuple[Schedule, ...]:
        links = (
            ranks.size - 1
        ) * ranks.several  # n - 1 links carry share / (n - 1) each: (n - 1) cancels
        return Schedule(2 * ranks.several, 2 * links * ranks.reciprocal), Schedule(
            ranks.several, links
        )

    def all_gather(self, ranks: Ranks) -> tuple[Schedule, ...]:
        return (Schedule(ranks.several, (ranks.size - 1) * ranks.several * ranks.reciprocal),)

    def all_to_all(self, ranks: Ranks) -> tuple[Schedule, ...]:
        return self.all_gather(ranks)


class Torus(Topology):
    """Rings in 2 or 3 dimensions (TPU, Trainium), used dimension by dimension.

    A slice of fewer than 4**d ranks has no wrap-around and one link per spanned axis (2 x 2 x 2 uses 3 of 6 links of a 3-D torus);
    from 4**d on, all 2 d links are used. In all-to-all a byte travels n**(1/d) / 4 hops in each dimension
    (Scaling book, "How to Scale Your Model", Google DeepMind 2025, and Dally & Towles, Principles and Practices of Interconnection Networks, 2004).
    """

    dimensions: int = eqx.field(static=True)

    def _side(self, ranks: Ranks) -> Scalar:
        return jnp.exp2(jnp.log2(ranks.count) / self.dimensions)

    def _idle_links(self, ranks: Ranks) -> Scalar:
        """All links over those the slice uses."""
        d = self.dimensions
        used = jnp.where(ranks.count >= 4**d, 2.0 * d, jnp.clip(jnp.log2(ranks.count), 1.0, d))
        return 2 * d / used

    def all_reduce(self, ranks: Ranks) -> tuple[Schedule, ...]:
        return (
            Schedule(
                2 * self.dimensions * (self._side(ranks) - 1),
                2 * ranks.others * self._idle_links(ranks),
            ),
        )

    def all_gather(self, ranks: Ranks) -> tuple[Schedule, ...]:
        return (
            Schedule(
                self.dimensions * (self._side(ranks) - 1), ranks.others * self._idle_links(ranks)
            ),
        )

    def all_to_all(self, ranks: Ranks) -> tuple[Schedule, ...]:
        crossing = jnp.maximum(self._side(ranks) * (self.dimensions / 4), 1.0)
        return (
            Schedule(
                self.dimensions * (self._side(ranks) - 1),
                ranks.others * crossing * self._idle_links(ranks),
            ),
        )


class Fabric(Topology):
    """A scale-out network of NICs (InfiniBand, Ethernet): libraries use rings for large messages and trees for small ones."""

    def all_reduce(self, ranks: Ranks) -> tuple[Schedule, ...]:
        tree = Schedule(2 * jnp.log2(ranks.count), 2 * ranks.several)
        return ring(ranks, 2), tree

    def all_gather(self, ranks: Ranks) -> tuple[Schedule, ...]:
        return (Schedule(jnp.log2(ranks.count), ranks.others),)  # recursive doubling

    def all_to_all(self, ranks: Ranks) -> tuple[Schedule, ...]:
        return (direct(ranks, 1),)


def topology_named(name: str, dimensions: int = 1) -> Topology:
    """The topology that accelerator files call `name`."""
    if name == "torus":
        return Torus(dimensions)
    return {"switch": Switch, "mesh": Mesh, "fabric": Fabric}[name]()
