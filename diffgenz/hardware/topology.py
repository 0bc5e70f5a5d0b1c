"""How the accelerators of one network level are wired, and what collectives therefore cost there.

A collective takes a number of latencies, and moves a multiple of the bytes (the alpha-beta model):

    t = steps * latency + share * volume / bandwidth

There is one such pair for each algorithm that the wiring offers, and `collectives` takes the smooth
minimum over them. The volume is the whole tensor that a rank starts from (all-reduce,
reduce-scatter, all-to-all) or ends with (all-gather). For n ranks the shares are the textbook ones:
2 (n - 1) / n for all-reduce, and (n - 1) / n for all-gather, reduce-scatter and all-to-all (Thakur,
Rabenseifner, Gropp, IJHPCA 2005).

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
        """1 where there are other ranks to talk to, else 0."""
        return jnp.where(self.count > 1, 1.0, 0.0)

    @property
    def others(self) -> Scalar:
        """(n - 1) / n, the share of a tensor that belongs to the other ranks."""
        return 1 - self.reciprocal


class Schedule(NamedTuple):
    """One algorithm for one collective; both numbers are zero for one rank.

    Arguments:
        steps: latencies, one after the other.
        share: bytes that a rank sends over the wire / the volume.
    """

    steps: Scalar
    share: Scalar


def direct(ranks: Ranks, passes: int) -> Schedule:
    """The algorithm in which every rank exchanges its parts with all others at once.

    Arguments:
        ranks: the ranks of the group in the level.
        passes: 1 for all-gather and reduce-scatter, 2 for all-reduce.
    """
    return Schedule(passes * ranks.several, passes * ranks.others)


def ring(ranks: Ranks, passes: int) -> Schedule:
    """The algorithm in which parts go round a ring, n - 1 hops for each pass.

    Arguments:
        ranks: the ranks of the group in the level.
        passes: 1 for all-gather and reduce-scatter, 2 for all-reduce.
    """
    return Schedule(passes * (ranks.count - 1), passes * ranks.others)


class Topology(eqx.Module):
    """The wiring of one level.

    Each method lists the algorithms that a communication library would choose from.
    """

    @abstractmethod
    def all_reduce(self, ranks: Ranks) -> tuple[Schedule, ...]:
        """Every rank ends with the sum of all ranks' tensors."""

    @abstractmethod
    def all_gather(self, ranks: Ranks) -> tuple[Schedule, ...]:
        """Every rank ends with all ranks' parts.

        Reduce-scatter is its mirror image and costs the same.
        """

    @abstractmethod
    def all_to_all(self, ranks: Ranks) -> tuple[Schedule, ...]:
        """Every rank sends each other rank its own part."""


class Switch(Topology):
    """A switch, through which any accelerator reaches any other at full rate (NVSwitch, PCIe).

    All-reduce takes two shots (reduce-scatter, then all-gather), or one (every rank sends its whole
    tensor to all others).
    """

    def all_reduce(self, ranks: Ranks) -> tuple[Schedule, ...]:
        one_shot = Schedule(ranks.several, ranks.count - 1)
        return direct(ranks, 2), one_shot

    def all_gather(self, ranks: Ranks) -> tuple[Schedule, ...]:
        return (direct(ranks, 1),)

    def all_to_all(self, ranks: Ranks) -> tuple[Schedule, ...]:
        return (direct(ranks, 1),)


class Mesh(Topology):
    """A link from each accelerator to each other (xGMI of MI300X), for which algorithms are direct.

    Each of n ranks uses only the n - 1 links to the others, of the size - 1 links that it has.
    """

    def all_reduce(self, ranks: Ranks) -> tuple[Schedule, ...]:
        # n - 1 links carry share / (n - 1) each, so that (n - 1) cancels
        links = (ranks.size - 1) * ranks.several
        return (
            Schedule(2 * ranks.several, 2 * links * ranks.reciprocal),
            Schedule(ranks.several, links),
        )

    def all_gather(self, ranks: Ranks) -> tuple[Schedule, ...]:
        return (Schedule(ranks.several, (ranks.size - 1) * ranks.several * ranks.reciprocal),)

    def all_to_all(self, ranks: Ranks) -> tuple[Schedule, ...]:
        return self.all_gather(ranks)


class Torus(Topology):
    """Rings in d = 2 or 3 dimensions (TPU, Trainium), used dimension by dimension.

    A slice of fewer than 4**d ranks has no wrap-around, and one link for each axis that it spans:
    2 x 2 x 2 ranks use 3 of the 6 links of a 3-D torus. From 4**d ranks on, all 2 d links are used.
    In all-to-all a byte travels n**(1/d) / 4 hops in each dimension.

    Sources: Scaling book, "How to Scale Your Model", Google DeepMind 2025; Dally & Towles,
    Principles and Practices of Interconnection Networks, 2004.

    Arguments:
        dimensions: d, 2 or 3.
    """

    dimensions: int = eqx.field(static=True)

    def _side(self, ranks: Ranks) -> Scalar:
        return jnp.exp2(jnp.log2(ranks.count) / self.dimensions)

    def _idle_links(self, ranks: Ranks) -> Scalar:
        """All links of an accelerator over those that the slice uses, at least 1."""
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
    """A scale-out network of NICs (InfiniBand, Ethernet).

    Libraries use rings for large messages and trees for small ones.
    """

    def all_reduce(self, ranks: Ranks) -> tuple[Schedule, ...]:
        tree = Schedule(2 * jnp.log2(ranks.count), 2 * ranks.several)
        return ring(ranks, 2), tree

    def all_gather(self, ranks: Ranks) -> tuple[Schedule, ...]:
        return (Schedule(jnp.log2(ranks.count), ranks.others),)  # recursive doubling

    def all_to_all(self, ranks: Ranks) -> tuple[Schedule, ...]:
        return (direct(ranks, 1),)


def topology_named(name: str, dimensions: int = 1) -> Topology:
    """The topology that accelerator files call `name`.

    Arguments:
        name: "switch", "mesh", "torus" or "fabric".
        dimensions: of a torus, 2 or 3.
    """
    if name == "torus":
        return Torus(dimensions)
    return {"switch": Switch, "mesh": Mesh, "fabric": Fabric}[name]()
