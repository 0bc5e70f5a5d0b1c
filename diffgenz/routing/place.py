"""The placement of least modelled time: of the present one, linear, balanced ones and ours.

Every layer takes the best candidate, so that none is slower than the present placement, linear or
a balancer's by the model of time that is given.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from diffgenz.core.checks import check
from diffgenz.core.errors import InputError
from diffgenz.routing import eplb
from diffgenz.routing.baselines import linear, on_nodes
from diffgenz.routing.coactivation import gathered, pairs_of
from diffgenz.routing.copies import moved_for_replicas, replicated_where_used
from diffgenz.routing.layer_time import LayerTime, Roofline, demand
from diffgenz.routing.locality import Objective, localised
from diffgenz.routing.migration import Migration, aligned
from diffgenz.routing.packing import packed_copies
from diffgenz.routing.placement import Placement, check_slots
from diffgenz.routing.replicas import Rule
from diffgenz.routing.trace import Counts, Trace
from diffgenz.routing.work import Work, work_of

OBJECTIVES = (Objective(pair=0.1, load=1.0), Objective(pair=0.8, load=0.5))
"""For kernels that wait for their busiest node, and for those that pad to the largest message.

Of nine pairs of weights these gave the least modelled time to requests that were held out.
"""

BALANCES = (0.1, 1.0)
"""What balance counts beside bytes when slots are given to replicas: both are candidates."""

LOCALITY = 0.5
"""What tokens kept on their node count beside pairs kept together; a candidate beside 0."""


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
    """A placement that was considered.

    Arguments:
        placement: where the experts are.
        seconds: [layers]; modelled s of a step, moving experts included.
    """

    placement: Placement
    seconds: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Placed:
    """The placement of least modelled time, and what it was chosen from.

    Arguments:
        placement: the best candidate of each layer.
        methods: [layers]; the candidate that each layer took, one of `candidates`.
        seconds: [layers]; modelled s of a step, moving experts included.
        candidates: what was considered with so many slots: "present" where it is given, "linear",
            "eplb" (DeepSeek's balancer), "balanced" (the same, over nodes first) and "ours".
        by_slots: modelled s of a step of all layers, the best with each number of slots.
        grouped: whether requests belong on the nodes that were given; False: it is faster to spread
            them evenly, and all of the above is for that.
    """

    placement: Placement
    methods: tuple[str, ...]
    seconds: np.ndarray
    candidates: dict[str, Candidate]
    by_slots: dict[int, float]
    grouped: bool = True


def place(
    source: Trace | Counts,
    nodes: int,
    ranks_per_node: int,
    slots: int | Iterable[int] | None = None,
    *,
    node: np.ndarray | None = None,
    present: Placement | None = None,
    migration: Migration | None = None,
    layer_time: LayerTime | None = None,
    tokens_per_rank: float = 128.0,
    deduplicated: bool = False,
    groups: int | None = None,
    rule: Rule = Rule.LOCAL_FIRST,
    starts: int = 5,
    seed: int = 0,
) -> Placed:
    """Where the experts of each layer should live.

    Arguments:
        source: the choices of the requests to place for.
        nodes: nodes, at least 1.
        ranks_per_node: expert-parallel ranks of a node, at least 1.
        slots: physical slots of a layer, over all ranks, or several numbers of which the best is
            taken, the smaller of two equal ones. Default: the experts, rounded up to the ranks.
        node: [requests]; the node of each request, in ascending order of their numbers, as grouping
            gives it; spreading requests evenly is considered, too. Default: tokens come to all
            nodes alike.
        present: the placement that is in use.
        migration: what moving away from `present` costs. Default: nothing.
        layer_time: seconds of a layer under a demand. Default: `Roofline()`.
        tokens_per_rank: tokens of a step on each rank, above 0.
        deduplicated: whether kernels send a token once to each node that holds its experts, as
            DeepEP's normal mode does and its low-latency mode does not.
        groups: groups of a group-limited router; they stay whole where nodes divide them.
        rule: how a token chooses among copies.
        starts: of the search for experts that are chosen together, at least 1.
        seed: of the random numbers.

    Raises:
        InputError: slots do not fit experts, nodes and ranks, or something above is out of range.
    """
    experts, layers = source.experts, len(source.layers)
    check("tokens_per_rank", tokens_per_rank, exclusive=True)
    check("starts", starts, minimum=1)
    if groups is not None:
        eplb.check_groups(experts, 1, groups)
    numbers = _numbers(slots, experts, nodes * ranks_per_node)
    for number in numbers:
        check_slots(number, experts, nodes, ranks_per_node)
    if migration is not None and present is None:
        raise InputError("migration: there is no present placement to move from; give `present`")
    if present is not None:
        aligned(linear(layers, experts, nodes, ranks_per_node, numbers[0]), present)
    best: Placed | None = None
    for given in (node,) if node is None or nodes == 1 else (node, None):
        work = work_of(source, nodes, given, deduplicated=deduplicated, seed=seed)
        timed = _Timed(work, layer_time or Roofline(), tokens_per_rank, rule, present, migration)
        first = _first_copies(work, given is not None, groups, starts, seed)
        found = _of_numbers(timed, first, ranks_per_node, numbers, groups)
        if best is None or found.seconds.sum() < best.seconds.sum():
            best = dataclasses.replace(found, grouped=given is not None)
    assert best is not None  # there is at least one way
    return best


def _of_numbers(
    timed: "_Timed",
    first: list[np.ndarray],
    ranks_per_node: int,
    numbers: list[int],
    groups: int | None,
) -> Placed:
    """The best of all numbers of slots."""
    by_slots: dict[int, float] = {}
    best: Placed | None = None
    for number in numbers:
        found = _of_slots(timed, first, ranks_per_node, number, groups)
        by_slots[number] = float(found.seconds.sum())
        if best is None or by_slots[number] < best.seconds.sum():
            best = found
    assert best is not None  # there is at least one number
    present = timed.present
    if present is not None and present.slots.shape[1] not in by_slots:
        kept = timed(present)
        best.candidates["present"] = kept
        if kept.seconds.sum() <= best.seconds.sum():
            methods = ("present",) * present.layers
            best = Placed(present, methods, kept.seconds, best.candidates, by_slots)
    return dataclasses.replace(best, by_slots=by_slots)


@dataclasses.dataclass(frozen=True, eq=False)
class _Timed:
    """Makes candidates of placements: with their seconds."""

    work: Work
    layer_time: LayerTime
    tokens_per_rank: float
    rule: Rule
    present: Placement | None
    migration: Migration | None

    def __call__(self, placement: Placement) -> Candidate:
        if self.present is not None and placement is not self.present:
            placement = aligned(placement, self.present)
        traffic = self.work.traffic(placement, self.rule)
        seconds = self.layer_time(demand(traffic, self.tokens_per_rank))
        if self.present is not None and self.migration is not None:
            seconds = seconds + self.migration.seconds(placement, self.present)
        return Candidate(placement, seconds)


def _of_slots(
    timed: _Timed, first: list[np.ndarray], ranks_per_node: int, slots: int, groups: int | None
) -> Placed:
    """The best of each layer with so many slots."""
    work = timed.work
    counts = work.by_node
    layers, nodes, experts = counts.shape
    load = counts.sum(1)
    size = (nodes, ranks_per_node, slots)
    candidates = {}
    if timed.present is not None and timed.present.slots.shape[1] == slots:
        candidates["present"] = timed(timed.present)
    candidates["linear"] = timed(linear(layers, experts, *size))
    candidates["eplb"] = timed(eplb.eplb(load, *size, groups))
    if groups is None or groups % nodes:
        candidates["balanced"] = timed(eplb.over_nodes(load, *size))
    ours = [timed(each) for each in _ours(counts, first, ranks_per_node, slots, work)]
    candidates["ours"] = best_of_layers(ours)
    names = list(candidates)
    best = best_of_layers(list(candidates.values()))
    which = np.argmin([candidate.seconds for candidate in candidates.values()], axis=0)
    methods = tuple(names[index] for index in which)
    return Placed(best.placement, methods, best.seconds, candidates, {})


def best_of_layers(candidates: list[Candidate]) -> Candidate:
    """The fastest candidate of each layer, the first of equal ones, as one.

    Arguments:
        candidates: of the same slots.
    """
    seconds = np.stack([candidate.seconds for candidate in candidates])
    which = seconds.argmin(0)
    layers = np.arange(seconds.shape[1])
    slots = np.stack([candidate.placement.slots for candidate in candidates])[which, layers]
    placement = dataclasses.replace(candidates[0].placement, slots=slots)
    return Candidate(placement, seconds[which, layers])


def _first_copies(
    work: Work, grouped: bool, groups: int | None, starts: int, seed: int
) -> list[np.ndarray]:
    """The nodes of experts, [layers, experts] each, by our methods."""
    counts = work.by_node
    layers, nodes, experts = counts.shape
    whole = groups is not None and groups % nodes == 0
    units = groups if whole and groups is not None else experts
    size = experts // units
    counts = counts.reshape(layers, nodes, units, size).sum(3)
    found = []
    if work.chosen is not None:
        together = pairs_of(work.chosen, experts, seed)
        together = together.reshape(layers, units, size, units, size).sum((2, 4))
        together[:, np.arange(units), np.arange(units)] = 0
        for locality in (0.0, LOCALITY) if grouped else (0.0,):
            found.append(gathered(together, counts, locality=locality, starts=starts, seed=seed))
    if grouped or work.chosen is None:
        node_of = None
        for objective in OBJECTIVES:
            node_of = localised(counts, objective, start=node_of)
            found.append(node_of)
    return [np.repeat(node_of, size, axis=1) for node_of in found]


def _ours(
    counts: np.ndarray, first: list[np.ndarray], ranks_per_node: int, slots: int, work: Work
) -> Iterator[Placement]:
    """Our placements: of first copies alone, or with replicas."""
    nodes = counts.shape[1]
    for index, node_of in enumerate(first):
        if slots == counts.shape[2]:
            yield on_nodes(node_of, counts.sum(1), nodes, ranks_per_node)
            continue
        size = (ranks_per_node, slots // nodes)
        if work.chosen is None and nodes > 1:
            copies = replicated_where_used(counts, node_of, *size, BALANCES[0])
            node_of = moved_for_replicas(counts, node_of, copies, OBJECTIVES[index])
        for balance in BALANCES:
            copies = replicated_where_used(counts, node_of, *size, balance)
            yield packed_copies(copies, counts, ranks_per_node)


def _numbers(slots: int | Iterable[int] | None, experts: int, ranks: int) -> list[int]:
    if slots is None:
        return [-(-experts // ranks) * ranks if experts >= ranks else experts]
    numbers = [slots] if isinstance(slots, int) else sorted({int(number) for number in slots})
    if not numbers:
        raise InputError("slots: none are given; give one number or more")
    return numbers
