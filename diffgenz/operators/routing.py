"""Routing: how unevenly tokens go to experts and ranks, and how far they travel.

A router may spread tokens evenly. Real ones do not, and a placement of experts may keep tokens near
their experts. `Routing` says what a layer of experts asks: how full the fullest rank is, how many
experts have any token, and how many copies of a token travel how far. Three records answer:

- `Uniform`: every choice of experts is equally likely, and no rank is fuller than another.
- `PowerLaw`: the popularity of experts falls as a power of their rank, by one number.
- `Traced`: the numbers that a trace of real tokens and a placement of the experts give.

`PerKind` has one of these for each kind of layers with experts; `traced` makes it from arrays.
`PerPhase` (`phases.py`) has one routing for prompts and one for generated tokens. All numbers are
leaves: sweeps range over them, and estimates have derivatives by them.
"""

import abc
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from diffgenz.core import xp
from diffgenz.core.checks import Condition
from diffgenz.core.errors import InputError, unknown
from diffgenz.core.leaves import leaf_names
from diffgenz.core.record import Record, label, number, numbers_of
from diffgenz.core.smooth import Leaf, Scalar
from diffgenz.operators.popularity import active_share, fullest, most_popular, variation_of_power
from diffgenz.operators.visits import reached


class Travel(NamedTuple):
    """How tokens travel, in multiples of what they do where routing is uniform; None is 1.

    Arguments:
        near: copies of a token inside its node.
        far: copies to other nodes, by kernels that send a token once for each node.
        remote: choices of experts on other nodes, by kernels that send a token once for each.
        pair: the largest message between two nodes / the mean of those messages.
        wire: what the busiest node sends or receives / the mean over nodes.
    """

    near: Scalar | None = None
    far: Scalar | None = None
    remote: Scalar | None = None
    pair: Scalar | None = None
    wire: Scalar | None = None


def times(x: Scalar, factor: Scalar | None) -> Scalar:
    """x factor, and x itself where the factor is None: then nothing is compiled."""
    return x if factor is None else x * factor


class Routing(Record):
    """Which experts tokens go to, in prefill and decode."""

    @property
    def kinds_told(self) -> int | None:
        """Kinds of layers that are told apart; None where all are alike."""
        return None

    @abc.abstractmethod
    def in_prefill(self) -> "StepRouting":
        """The routing of iterations that compute prompts."""

    @abc.abstractmethod
    def in_decode(self) -> "StepRouting":
        """The routing of iterations that generate tokens."""

    @abc.abstractmethod
    def in_both(self, prompts: Scalar, generated: Scalar) -> "StepRouting":
        """The routing of iterations that do both.

        Arguments:
            prompts: tokens of prompts.
            generated: tokens that are generated.
        """

    @abc.abstractmethod
    def of_last_kind(self) -> "Routing":
        """The routing of the last kind of layers that have experts."""


class StepRouting(Routing):
    """Which experts the tokens of an iteration go to, for all kinds of layers of a model."""

    @abc.abstractmethod
    def of_kind(self, index: int) -> "LayerRouting":
        """The routing of the layers of one kind.

        Arguments:
            index: which kind it is, counted in the order of the model's blocks; -1 is the last.
        """

    def in_prefill(self) -> "StepRouting":
        return self

    def in_decode(self) -> "StepRouting":
        return self

    def in_both(self, prompts: Scalar, generated: Scalar) -> "StepRouting":
        return self

    def of_last_kind(self) -> Routing:
        return self.of_kind(-1)


class LayerRouting(StepRouting):
    """Which experts the tokens of a layer go to, as far as its cost depends on it."""

    def of_kind(self, index: int) -> "LayerRouting":
        return self

    @abc.abstractmethod
    def excess(self, rows: Scalar, experts: Scalar, ranks: Scalar) -> Scalar | None:
        """Rows of the fullest rank / mean rows of a rank; None is 1.

        Arguments:
            rows: pairs of a token and one of its experts, of all ranks in an iteration.
            experts: routed experts.
            ranks: groups of ranks that have different experts.
        """

    @abc.abstractmethod
    def active(self, tokens: Scalar, used: Scalar, experts: Scalar) -> Scalar:
        """The expected share of the routed experts that at least one token goes to.

        Arguments:
            tokens: tokens of all ranks in an iteration.
            used: experts of each token.
            experts: routed experts; their slots, where experts have replicas.
        """

    @property
    def copies(self) -> Scalar | None:
        """Slots that hold an expert / experts; None is 1: no expert has a replica."""
        return None

    @abc.abstractmethod
    def travel(self, excess: Scalar | None) -> Travel:
        """How tokens travel.

        Arguments:
            excess: rows of the fullest rank / mean rows of a rank; None is 1.
        """


class Uniform(LayerRouting):
    """Every choice of experts is equally likely, and every rank gets its mean rows."""

    def excess(self, rows: Scalar, experts: Scalar, ranks: Scalar) -> None:
        return None

    def active(self, tokens: Scalar, used: Scalar, experts: Scalar) -> Scalar:
        return reached(experts, used / experts, tokens) / experts

    def travel(self, excess: Scalar | None) -> Travel:
        return Travel()


class PowerLaw(LayerRouting):
    """The i-th most popular expert is chosen in proportion to i**-spread.

    Experts are placed without regard to popularity. The fullest rank is taken to be that of the
    most popular expert, whose other experts are average ones (within 4 % of random placements for
    64 to 512 experts on 8 to 64 ranks). As many tokens more than the mean as go to it arrive at the
    busiest node. A token's copies are counted as in uniform routing.

    Arguments:
        spread: the exponent, in [0, 3]; at 0 all are equally popular.
    """

    spread: Leaf = number(at_most=3)

    def excess(self, rows: Scalar, experts: Scalar, ranks: Scalar) -> Scalar:
        first = most_popular(self.spread, experts)
        others = (experts / ranks - 1) * (1 - first) / xp.maximum(experts - 1, 1.0)
        return xp.minimum(xp.maximum(ranks * (first + others), 1.0), ranks)

    def active(self, tokens: Scalar, used: Scalar, experts: Scalar) -> Scalar:
        variation = variation_of_power(self.spread, experts)
        return active_share(tokens, used, experts, variation)

    def travel(self, excess: Scalar | None) -> Travel:
        return Travel(pair=excess, wire=excess)


class Traced(LayerRouting):
    """What a trace of real tokens and a placement of the experts give, for layers of one kind.

    Numbers that are left out are those of uniform routing, and nothing of them is compiled. Those
    of travelling tokens are relative to uniform routing with the same plan, so that they can be
    kept while network, batch or model change; where the plan changes, so may all of them.

    The fullest rank is what the experts' kernels wait for, and messages that end at single ranks.
    Between nodes, DeepEP's normal kernels wait for the busiest node (`wire`), and a plain
    all-to-all, whose messages are all as long as the longest, for the largest pair (`pair`). Energy
    counts the mean.

    Arguments:
        rows: rows of the fullest rank / mean rows of a rank in the long run, at least 1; above the
            number of ranks it counts as that number.
        dispersion: variance of a rank's rows over iterations / their mean, which fills one rank or
            the other the more, the fewer tokens there are: 1 for independent tokens; left out,
            rows do not vary.
        variation: squared coefficient of variation of the experts' popularity (of their slots',
            where experts have replicas), at least 0: some then have no token.
        far: copies of a token to other nodes / those of uniform routing, where a token is sent once
            for each node.
        near: copies of a token inside nodes, likewise, where it is sent once for each rank.
        remote: choices of experts on other nodes / those of uniform routing, which is what
            low-latency kernels send.
        pair: the largest message between two nodes / the mean of those messages, at least 1.
        wire: the larger of what the busiest node sends and what the busiest receives / the mean
            over nodes, at least 1.
        slots: slots that hold an expert / experts, at least 1; above 1 experts have replicas, which
            take memory, and share the tokens of their expert.
        note: where the numbers are from, for people.
    """

    rows: Leaf | None = number(at_least=1, off=1, default=None)
    dispersion: Leaf | None = number(off=0, default=None)
    variation: Leaf | None = number(off=0, default=None)
    far: Leaf | None = number(off=1, default=None)
    near: Leaf | None = number(off=1, default=None)
    remote: Leaf | None = number(off=1, default=None)
    pair: Leaf | None = number(at_least=1, off=1, default=None)
    wire: Leaf | None = number(at_least=1, off=1, default=None)
    slots: Leaf | None = number(at_least=1, off=1, default=None)
    note: str = label(default="")

    def excess(self, rows: Scalar, experts: Scalar, ranks: Scalar) -> Scalar | None:
        if self.dispersion is not None:
            share = xp.ones(()) if self.rows is None else self.rows
            return fullest(rows, ranks, share, self.dispersion)
        return None if self.rows is None else xp.minimum(self.rows, ranks)

    def active(self, tokens: Scalar, used: Scalar, experts: Scalar) -> Scalar:
        if self.variation is None:
            return Uniform().active(tokens, used, experts)
        return active_share(tokens, used, experts, self.variation)

    @property
    def copies(self) -> Scalar | None:
        return self.slots

    def travel(self, excess: Scalar | None) -> Travel:
        return Travel(self.near, self.far, self.remote, self.pair, self.wire)


class PerKind(StepRouting):
    """A routing for each kind of layers with experts, where a model has several.

    Arguments:
        kinds: one for each, in the order of the model's blocks.

    Raises:
        InputError: none at all, or something that is no routing of a layer.
    """

    kinds: tuple[LayerRouting, ...]

    def conditions(self) -> Iterable[Condition]:
        if not self.kinds or not all(isinstance(kind, LayerRouting) for kind in self.kinds):
            raise InputError(
                "kinds: give one Uniform, PowerLaw or Traced for each kind of layers with experts"
            )
        return ()

    def of_kind(self, index: int) -> LayerRouting:
        return self.kinds[index]

    @property
    def kinds_told(self) -> int:
        return len(self.kinds)


def traced(*, kinds: Sequence[int] | None = None, note: str = "", **numbers: Any) -> StepRouting:
    """The routing that some numbers say: one of each, or one for each kind of layers.

        traced(rows=1.8, far=0.73)                          # all layers are alike
        traced(rows=[1.8, 1.2], far=[0.73, 1.0])            # two kinds of layers
        traced(rows=rows, far=far, kinds=[0] * 3 + [1] * 40)  # 43 layers of two kinds: their means

    Layers of which all numbers are those of uniform routing get `Uniform`: the same as no trace.

    Arguments:
        kinds: the kind of each layer with experts, counted from 0 in the order of the model's
            blocks, where arrays have one entry for each layer; None: for each kind.
        note: where the numbers are from, for people.
        numbers: fields of `Traced`, each a number or an array of one axis.

    Raises:
        InputError: a field that `Traced` does not have, arrays of unequal lengths, a kind that has
            no layer, or a number that `Traced` refuses.
    """
    for name in numbers:
        if name not in numbers_of(Traced):
            raise unknown("routing", name, numbers_of(Traced))
    columns = {name: _column(name, value) for name, value in numbers.items()}
    several = [len(column) for column in columns.values() if column.ndim]
    layers = several[0] if kinds is None and several else len(kinds or [0])
    if not layers or any(column.shape not in ((), (layers,)) for column in columns.values()):
        told = ", ".join(f"{name} {column.shape}" for name, column in columns.items())
        raise InputError(
            f"routing: {told} do not fit {layers} layers or kinds of layers; give numbers, or "
            "arrays of one axis with an entry for each"
        )
    of_layer = np.arange(layers) if kinds is None else np.asarray(kinds)
    count = int(of_layer.max(initial=0)) + 1
    if sorted(set(of_layer.tolist())) != list(range(count)):
        raise InputError(f"kinds: {of_layer.tolist()} leave one out; count them from 0")
    found = []
    for kind in range(count):
        mine = {
            name: float(np.broadcast_to(column, layers)[of_layer == kind].mean())
            for name, column in columns.items()
        }
        one = Traced(**mine, note=note)
        found.append(one if leaf_names(one) else Uniform())
    return found[0] if count == 1 else PerKind(tuple(found))


def _column(name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value, float)
    except (TypeError, ValueError):
        raise InputError(
            f"routing: {name}: {value!r} is neither a number nor an array of one axis"
        ) from None
