"""Experts near the requests that choose them: placement by counts, without replicas.

Per layer, with all tokens summing to 1, it minimises

    bytes between nodes / (1 - 1 / nodes) + pair * norm of pairs + load * norm of loads

where both norms are power means that are 1 when all nodes are equal (power None: the maximum).
Assignment is exact for the first term alone; swaps then lower the whole.
"""

import dataclasses

import numpy as np
from scipy.optimize import linear_sum_assignment

from diffgenz.core.errors import InputError
from diffgenz.routing.parts import filled, filled_nodes, parts
from diffgenz.routing.swaps import (
    column_sums,
    descend,
    load_changes,
    load_norm,
    norm_change,
    over_others,
    raised,
    replaced,
    root,
)

FEW = 32
"""Experts up to which `polished` looks at all pairs of swaps."""

_LEAST = 1e-6  # lesser gains are noise of float32


@dataclasses.dataclass(frozen=True)
class Objective:
    """What the largest message and the largest load count beside the bytes between nodes.

    The default weights gave the least modelled time of those that were tried, padded and not, on
    requests that were held out (docs/routing.md, "Placement and grouping").

    Arguments:
        pair: weight of the norm of messages between nodes, at least 0.
        load: weight of the norm of loads, at least 0.
        power: of the means, a power of two, at least 2; None: the largest itself.
    """

    pair: float = 0.3
    load: float = 1.5
    power: int | None = 8

    def __post_init__(self) -> None:
        """Checks the numbers."""
        power = self.power
        if power is not None and (power < 2 or power & (power - 1)):
            raise InputError(f"power: {power} is not a power of two; give 2, 4, 8 or None")
        for name in ("pair", "load"):
            if not 0 <= getattr(self, name) < np.inf:
                raise InputError(f"{name}: {getattr(self, name)} is not allowed; give 0 or more")

    def value(self, part: np.ndarray, node_of: np.ndarray) -> np.ndarray:
        """The objective: [layers].

        Arguments:
            part: [layers, nodes, experts]; the part of a layer's tokens that each node's requests
                send to each expert.
            node_of: [layers, experts]; the node of each expert; every node has equally many.
        """
        nodes = part.shape[1]
        if nodes == 1:
            return np.full(len(part), self.load)
        pairs = column_sums(part, node_of, nodes)
        away = 1 - np.trace(pairs, axis1=1, axis2=2)
        off = nodes**2 * pairs[:, ~np.eye(nodes, dtype=bool)]
        worst = (
            off.max(1) if self.power is None else root(raised(off, self.power).mean(1), self.power)
        )
        load = load_norm(nodes * part.sum(1), node_of, nodes, self.power)
        return away / (1 - 1 / nodes) + self.pair * worst + self.load * load

    def changes(self, part: np.ndarray, node_of: np.ndarray) -> np.ndarray:
        """The change of the objective by each swap of two experts: [layers, experts, experts].

        Arguments:
            part: [layers, nodes, experts]; as of `value`.
            node_of: [layers, experts]; as of `value`.
        """
        nodes = part.shape[1]
        here = part[np.arange(len(part))[:, None], node_of]  # [l, e1, e2]: e2 at e1's node
        own = np.diagonal(here, axis1=1, axis2=2)
        here -= own[:, :, None].copy()
        here *= -1 / (1 - 1 / nodes)
        change = here + here.swapaxes(1, 2)
        if self.load:
            load = nodes * part.sum(1)
            change += self.load * load_changes(load, node_of, nodes, self.power)
        if self.pair:
            change += self.pair * _pair_changes(nodes**2 * part, node_of, self.power)
        return change


def assigned(part: np.ndarray) -> np.ndarray:
    """The node of each expert that keeps most tokens on their node: [layers, experts].

    This is exact, every node having equally many experts.

    Arguments:
        part: [layers, nodes, experts]; tokens of each node's requests that choose each expert.
    """
    layers, nodes, experts = part.shape
    room = experts // nodes
    node_of = np.empty((layers, experts), np.intp)
    for layer in range(layers):
        _, column = linear_sum_assignment(np.repeat(part[layer].T, room, axis=1), maximize=True)
        node_of[layer] = column // room
    return node_of


def localised(
    counts: np.ndarray, objective: Objective = Objective(), start: np.ndarray | None = None
) -> np.ndarray:
    """The node of each expert, [layers, experts], by exact assignment and swaps.

    Arguments:
        counts: [layers, nodes, experts]; tokens of each node's requests that choose each expert.
            No node has more experts than the quotient, rounded up.
        objective: what is minimised.
        start: [layers, experts]; nodes from which swaps begin, instead of the assignment.
    """
    _, nodes, experts = counts.shape
    part = parts(filled(counts, nodes))
    start = assigned(part) if start is None else filled_nodes(start, nodes)
    if nodes == 1:
        return start
    node_of = descend(
        start,
        nodes,
        lambda layers, node_of: objective.changes(part[layers], node_of),
        lambda layers, node_of: objective.value(part[layers], node_of),
    )
    return node_of[:, :experts]


def polished(
    counts: np.ndarray,
    node_of: np.ndarray,
    objective: Objective,
    *,
    kicks: int = 8,
    seed: int = 0,
) -> np.ndarray:
    """The nodes of experts, [layers, experts], by swaps on the largest message and load themselves.

    Descents by the power means, then by the largest, begin in turn at the best so far after a few
    random swaps, and at random. Of up to `FEW` experts each ends where no two swaps together lower
    the objective. It is for few experts.

    Arguments:
        counts: [layers, nodes, experts]; tokens of each node's requests that choose each expert;
            nodes divide the experts.
        node_of: [layers, experts]; where it begins.
        objective: the weights, and the power of the means.
        kicks: how many such descents, at least 0.
        seed: of the random numbers.
    """
    part = parts(counts)
    exact = dataclasses.replace(objective, power=None)
    random = np.random.default_rng(seed)

    def lowest(start: np.ndarray) -> np.ndarray:
        found = localised(counts, exact, start=start)
        if found.shape[1] <= FEW:
            found = np.stack([_by_two(*each, exact) for each in zip(part, found, strict=True)])
        return found

    best = lowest(node_of)
    value = exact.value(part, best)
    layers, experts = best.shape
    for kick in range(kicks):
        trial = random.permuted(best, axis=1) if kick % 2 else best.copy()
        for _ in range(int(random.integers(1, max(3, experts // 4)))):
            one, other = random.integers(experts, size=(2, layers))
            rows = np.arange(layers)
            trial[rows, one], trial[rows, other] = trial[rows, other], trial[rows, one]
        trial = lowest(localised(counts, objective, start=trial))
        reached = exact.value(part, trial)
        better = reached < value
        best, value = np.where(better[:, None], trial, best), np.minimum(reached, value)
    return best


def _by_two(part: np.ndarray, node_of: np.ndarray, objective: Objective) -> np.ndarray:
    """The nodes of one layer's experts, [experts], when no two swaps lower the objective any more.

    After each first swap the changes by all second ones are known at once.

    Arguments:
        part: [nodes, experts]; as of `Objective.value`.
        node_of: [experts]; where it begins.
        objective: what is minimised.
    """
    value = objective.value(part[None], node_of[None])[0]
    while True:
        one, other = np.nonzero(np.triu(node_of[:, None] != node_of))
        first = np.tile(node_of, (len(one), 1))
        rows, alike = np.arange(len(one)), np.broadcast_to(part, (len(one), *part.shape))
        first[rows, one], first[rows, other] = node_of[other], node_of[one]
        apart = first[:, :, None] != first[:, None, :]
        second = np.where(apart, objective.changes(alike, first), 0)
        second += objective.value(alike, first)[:, None, None]
        at, one_more, with_it = np.unravel_index(second.argmin(), second.shape)
        best = first[at].copy()
        best[[one_more, with_it]] = best[[with_it, one_more]]
        reached = objective.value(part[None], best[None])[0]
        if not reached < value - _LEAST:
            return node_of
        node_of, value = best, reached


def _pair_changes(scaled: np.ndarray, node_of: np.ndarray, power: int | None) -> np.ndarray:
    """The change of the norm of messages by each swap: [layers, experts, experts].

    A swap changes two columns of the matrix of messages. The sum of powers of e1's column with e2
    in its place is, by the binomial theorem, a matrix product over (term, node of the requests).

    Arguments:
        scaled: [layers, nodes, experts]; parts times nodes squared.
        node_of: [layers, experts]; the node of each expert.
        power: of the mean; None: the maximum.
    """
    layers, nodes, experts = scaled.shape
    pairs = column_sums(scaled, node_of, nodes)
    away = ~np.eye(nodes, dtype=bool)
    pairs = np.where(away, pairs, 0)
    sender = np.swapaxes(scaled, 1, 2)
    mask = away[node_of]  # [l, e, g]: g is not e's node
    column = np.take_along_axis(pairs.swapaxes(1, 2), node_of[:, :, None], 1)
    without = np.where(mask, column - sender, 0)
    if power is None:
        swapped = np.zeros((layers, experts, experts), scaled.dtype)
        for node in range(nodes):
            new = without[:, :, node, None] + mask[:, :, node, None] * scaled[:, node, None, :]
            np.maximum(swapped, new, out=swapped)
        rest = over_others(pairs.max(1), node_of)
        largest = np.maximum(np.maximum(swapped, swapped.swapaxes(1, 2)), rest)
        return largest - pairs.max((1, 2))[:, None, None]
    new = replaced(without, scaled, mask.astype(scaled.dtype), power)
    old = raised(pairs, power).sum(1)
    new -= np.take_along_axis(old, node_of, 1)[:, :, None]
    return norm_change(new + new.swapaxes(1, 2), old.sum(1), nodes * (nodes - 1), power)
