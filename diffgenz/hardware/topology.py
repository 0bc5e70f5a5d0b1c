"""How the accelerators of one network level are wired, and what collectives therefore cost there.

A collective is a number of latencies and a multiple of the bytes (the alpha-beta model),

    t = steps * latency + share * volume / bandwidth

for each algorithm that the wiring offers; `inference.timing.collectives` takes the smooth minimum
over them. Volume is the whole tensor that a rank starts from (all-reduce, reduce-scatter,
all-to-all) or ends with (all-gather). For n ranks, shares are the textbook ones: all-reduce
2 (n - 1) / n; all-gather, reduce-scatter and all-to-all (n - 1) / n (Thakur, Rabenseifner, Gropp,
IJHPCA 2005).

A new wiring is one small class and a line in `TOPOLOGIES`.
"""

from abc import abstractmethod
from typing import NamedTuple

import equinox as eqx

from diffgenz.core import xp
from diffgenz.core.errors import InputError
from diffgenz.core.smooth import Scalar
from diffgenz.core.tree import Tree


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
        return xp.where(self.count > 1, 1.0, 0.0)

    @property
    def others(self) -> Scalar:
        """(n - 1) / n."""
        return 1 - self.reciprocal


class Schedule(NamedTuple):
    """One algorithm for one collective; both numbers are 0 for one rank.

    Arguments:
        steps: latencies that it takes.
        share: of the volume, what each rank sends.
    """

    steps: Scalar
    share: Scalar


def direct(ranks: Ranks, passes: int) -> Schedule:
    """Every rank exchanges its parts with every other at once.

    Arguments:
        ranks: who takes part.
        passes: 1 for all-gather and reduce-scatter, 2 for all-reduce.
    """
    return Schedule(passes * ranks.several, passes * ranks.others)


def ring(ranks: Ranks, passes: int) -> Schedule:
    """Parts go round, n - 1 hops a pass.

    Arguments:
        ranks: who takes part.
        passes: 1 for all-gather and reduce-scatter, 2 for all-reduce.
    """
    return Schedule(passes * (ranks.count - 1), passes * ranks.others)


class Topology(Tree):
    """The wiring of one level. Each method lists the algorithms that a library chooses from."""

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
    """Any to any at full rate (NVSwitch, PCIe switch).

    All-reduce runs in two shots (reduce-scatter, all-gather) or in one (everything to everyone).
    """

    def all_reduce(self, ranks: Ranks) -> tuple[Schedule, ...]:
        one_shot = Schedule(ranks.several, ranks.count - 1)
        return direct(ranks, 2), one_shot

    def all_gather(self, ranks: Ranks) -> tuple[Schedule, ...]:
        return (direct(ranks, 1),)

    def all_to_all(self, ranks: Ranks) -> tuple[Schedule, ...]:
        return (direct(ranks, 1),)


class Mesh(Topology):
    """A link from each to each (xGMI of MI300X), with direct algorithms.

    n ranks use only the n - 1 links between them, of the size - 1 that each accelerator has.
    """

    def all_reduce(self, ranks: Ranks) -> tuple[Schedule, ...]:
        links = (ranks.size - 1) * ranks.several  # n - 1 links carry share / (n - 1) each
        two_shots = Schedule(2 * ranks.several, 2 * links * ranks.reciprocal)
        return two_shots, Schedule(ranks.several, links)

    def all_gather(self, ranks: Ranks) -> tuple[Schedule, ...]:
        return (Schedule(ranks.several, (ranks.size - 1) * ranks.several * ranks.reciprocal),)

    def all_to_all(self, ranks: Ranks) -> tuple[Schedule, ...]:
        return self.all_gather(ranks)


class Torus(Topology):
    """Rings in 2 or 3 dimensions (TPU, Trainium), used dimension by dimension.

    A slice of fewer than 4**d ranks has no wrap-around and one link per spanned axis: 2 x 2 x 2
    uses 3 of the 6 links of a 3-D torus. From 4**d on, all 2 d links are used. In all-to-all a byte
    travels n**(1/d) / 4 hops in each dimension. (Scaling book, "How to Scale Your Model", Google
    DeepMind 2025; Dally & Towles, Principles and Practices of Interconnection Networks, 2004.)

    Arguments:
        dimensions: d, 2 or 3.
    """

    dimensions: int = eqx.field(static=True)

    def _side(self, ranks: Ranks) -> Scalar:
        return xp.exp2(xp.log2(ranks.count) / self.dimensions)

    def _idle_links(self, ranks: Ranks) -> Scalar:
        """All links over those that the slice uses."""
        d = self.dimensions
        used = xp.where(ranks.count >= 4**d, 2.0 * d, xp.clip(xp.log2(ranks.count), 1.0, d))
        return 2 * d / used

    def all_reduce(self, ranks: Ranks) -> tuple[Schedule, ...]:
        (pass_,) = self.all_gather(ranks)
        return (Schedule(2 * pass_.steps, 2 * pass_.share),)

    def all_gather(self, ranks: Ranks) -> tuple[Schedule, ...]:
        steps = self.dimensions * (self._side(ranks) - 1)
        return (Schedule(steps, ranks.others * self._idle_links(ranks)),)

    def all_to_all(self, ranks: Ranks) -> tuple[Schedule, ...]:
        crossing = xp.maximum(self._side(ranks) * (self.dimensions / 4), 1.0)
        (pass_,) = self.all_gather(ranks)
        return (Schedule(pass_.steps, pass_.share * crossing),)


class Fabric(Topology):
    """A scale-out network of NICs (InfiniBand, Ethernet).

    Libraries use rings for large messages and trees for small ones.
    """

    def all_reduce(self, ranks: Ranks) -> tuple[Schedule, ...]:
        tree = Schedule(2 * xp.log2(ranks.count), 2 * ranks.several)
        return ring(ranks, 2), tree

    def all_gather(self, ranks: Ranks) -> tuple[Schedule, ...]:
        return (Schedule(xp.log2(ranks.count), ranks.others),)  # recursive doubling

    def all_to_all(self, ranks: Ranks) -> tuple[Schedule, ...]:
        return (direct(ranks, 1),)


TOPOLOGIES: dict[str, type[Topology]] = {
    "switch": Switch,
    "mesh": Mesh,
    "torus": Torus,
    "fabric": Fabric,
}
"""By the names of accelerator files."""


def topology_named(name: str, dimensions: int = 1) -> Topology:
    """The topology that accelerator files call `name`.

    Arguments:
        name: one of `TOPOLOGIES`.
        dimensions: of a torus, 2 or 3.

    Raises:
        InputError: an unknown name, or a torus of other dimensions.
    """
    if name not in TOPOLOGIES:
        raise InputError(f"topology: {name!r} is not known; known are {', '.join(TOPOLOGIES)}")
    if name != "torus":
        return TOPOLOGIES[name]()
    if dimensions not in (2, 3):
        raise InputError(f"dimensions: {dimensions!r} is not allowed for a torus; give 2 or 3")
    return Torus(dimensions)
