"""Experts that tokens choose together on one node: for kernels that send a token to a node once.

Per layer, swaps lower the part of the co-chosen pairs that lie on different nodes, 1 for a random
placement, plus `load` times the power mean of the nodes' loads, plus `locality` times the part of
the tokens that leave their node. It needs no grouping of requests.
"""

import dataclasses
from itertools import combinations

import numpy as np

from diffgenz.routing.parts import filled, parts
from diffgenz.routing.swaps import column_sums, descend, load_changes, load_norm, product

SAMPLE = 8192
"""Tokens of a layer from which pairs are counted: more change nothing."""

_POWER = 4
"""Of the norm of loads, as of `locality.Objective`; half of that one's, so that swaps cost fewer
terms."""

LOAD = 0.3
"""What the norm of loads counts beside pairs of experts on different nodes; a choice, not a fit."""


@dataclasses.dataclass(frozen=True)
class Affinity:
    """What pairs of experts, and experts and nodes, have in common, in each layer.

    Arguments:
        together: [layers, experts, experts]; the part of the pairs of a token's experts that each
            pair is, over 1 - 1 / nodes; symmetric, its diagonal 0.
        part: [layers, nodes, experts]; the part of the tokens that each node's requests send to
            each expert.
        load: weight of the norm of loads, at least 0.
        locality: weight of the part of the tokens that leaves its node, at least 0.
    """

    together: np.ndarray
    part: np.ndarray
    load: float = LOAD
    locality: float = 0.0

    def value(self, layers: np.ndarray, node_of: np.ndarray) -> np.ndarray:
        """The objective of some layers: [l].

        Arguments:
            layers: [l]; their positions.
            node_of: [l, experts]; the node of each expert; every node has equally many.
        """
        together, part = self.together[layers], self.part[layers]
        nodes = part.shape[1]
        at = np.eye(nodes, dtype=together.dtype)[node_of]
        apart = (together.sum((1, 2)) - (at * product(together, at)).sum((1, 2))) / 2
        value = apart + self.load * load_norm(nodes * part.sum(1), node_of, nodes, _POWER)
        if self.locality:
            own = np.trace(column_sums(part, node_of, nodes), axis1=1, axis2=2)
            value = value + self.locality * (1 - own) / (1 - 1 / nodes)
        return value

    def changes(self, layers: np.ndarray, node_of: np.ndarray) -> np.ndarray:
        """The change of the objective by each swap: [l, experts, experts].

        Arguments:
            layers: [l]; the layers' positions.
            node_of: [l, experts]; the node of each expert.
        """
        together, part = self.together[layers], self.part[layers]
        nodes = part.shape[1]
        at = np.eye(nodes, dtype=together.dtype)[node_of]
        pull = product(together, at)  # [l, expert, node]
        if self.locality:
            pull += self.locality / (1 - 1 / nodes) * part.swapaxes(1, 2)
        own = np.take_along_axis(pull, node_of[:, :, None], 2)
        one = np.ones_like(own)
        # What both lose of their own nodes, less what each has at the other's: few terms.
        left = np.concatenate([own, one, at, pull], 2)
        right = np.concatenate([one, own, -pull, -at], 2)
        change = product(left, right.swapaxes(1, 2))
        together *= 2  # a copy
        change += together
        if self.load:
            load = load_changes(nodes * part.sum(1), node_of, nodes, _POWER)
            load *= self.load
            change += load
        return change


def pairs_of(chosen: np.ndarray, experts: int, seed: int = 0) -> np.ndarray:
    """How often two experts are chosen by one token: [layers, experts, experts].

    Symmetric, its diagonal 0; from `SAMPLE` random tokens where there are more.

    Arguments:
        chosen: [tokens, layers, k]; experts.
        experts: routed experts per layer.
        seed: of the random numbers.
    """
    tokens, layers, k = chosen.shape
    if tokens > SAMPLE:
        chosen = chosen[np.sort(np.random.default_rng(seed).choice(tokens, SAMPLE, replace=False))]
    first, second = np.array(list(combinations(range(k), 2)), np.intp).reshape(-1, 2).T
    together = np.empty((layers, experts, experts), np.float32)
    for layer in range(layers):
        of_layer = chosen[:, layer].astype(np.intp)
        flat = of_layer[:, first] * experts + of_layer[:, second]
        counts = np.bincount(flat.ravel(), minlength=experts**2).reshape(experts, experts)
        together[layer] = counts + counts.T
    return together


def gathered(
    together: np.ndarray,
    counts: np.ndarray,
    *,
    load: float = LOAD,
    locality: float = 0.0,
    starts: int = 10,
    seed: int = 0,
) -> np.ndarray:
    """The node of each expert, [layers, experts]: the best of several starts, in each layer.

    The first start is linear. The others place experts that are chosen together in pairs, pairs of
    pairs and so on at random, improve that, and then divide them, as multilevel graph partitioning
    does. No node has more experts than the quotient, rounded up.

    Arguments:
        together: [layers, experts, experts]; how often two experts are chosen by one token.
        counts: [layers, nodes, experts]; tokens of each node's requests that choose each expert.
        load: weight of the norm of loads, at least 0.
        locality: weight of the part of the tokens that leaves its node, at least 0.
        starts: how many, at least 1.
        seed: of the random numbers.
    """
    given = counts.shape[2]
    counts = filled(counts, counts.shape[1])
    layers, nodes, experts = counts.shape
    missing = experts - given
    together = np.pad(together, ((0, 0), (0, missing), (0, missing)))
    linear = np.tile(np.arange(experts) * nodes // experts, (layers, 1))
    if nodes == 1:
        return linear[:, :given]
    total = together.sum((1, 2), keepdims=True) / 2
    share = together / np.where(total > 0, total, 1) / (1 - 1 / nodes)
    affinity = Affinity(share.astype(np.float32), parts(counts), load, locality)
    random = np.random.default_rng(seed)
    every = np.arange(layers)
    best, value = linear, np.full(layers, np.inf)
    for start in range(starts):
        node_of = _begun(affinity, random) if start else linear
        node_of = descend(node_of, nodes, affinity.changes, affinity.value)
        reached = affinity.value(every, node_of)
        better = reached < value
        best, value = np.where(better[:, None], node_of, best), np.minimum(reached, value)
    return best[:, :given]


def _begun(affinity: Affinity, random: np.random.Generator) -> np.ndarray:
    """Where swaps begin, [layers, experts]: at random, or with pairs of experts swapped before."""
    layers, nodes, experts = affinity.part.shape
    room = experts // nodes
    if room % 2 or room < 4:
        return random.permuted(np.tile(np.arange(experts) // room, (layers, 1)), axis=1)
    order = _matched(affinity.together, random)
    together = np.take_along_axis(affinity.together, order[:, :, None], 1)
    together = together[:, ::2] + together[:, 1::2]
    together = np.take_along_axis(together, order[:, None, :], 2)
    together = together[:, :, ::2] + together[:, :, 1::2]
    pairs = np.arange(experts // 2)
    together[:, pairs, pairs] = 0
    part = np.take_along_axis(affinity.part, order[:, None, :], 2)
    part = part[:, :, ::2] + part[:, :, 1::2]
    coarse = dataclasses.replace(affinity, together=together, part=part)
    node_of = descend(_begun(coarse, random), nodes, coarse.changes, coarse.value)
    begun = np.empty((layers, experts), node_of.dtype)
    np.put_along_axis(begun, order, np.repeat(node_of, 2, axis=1), 1)
    return begun


def _matched(together: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """All experts, [layers, experts], in pairs: in random order, each takes its best free one."""
    layers, experts, _ = together.shape
    rows = np.arange(layers)
    turn = random.permuted(np.tile(np.arange(experts), (layers, 1)), axis=1)
    free = np.zeros((layers, experts), together.dtype)  # -inf where taken
    at = np.zeros(layers, np.intp)
    order = np.empty((layers, experts), np.intp)
    for pair in range(experts // 2):
        while (taken := free[rows, turn[rows, at]] < 0).any():
            at += taken
        one = turn[rows, at]
        free[rows, one] = -np.inf
        other = (together[rows, one] + free).argmax(1)
        free[rows, other] = -np.inf
        order[:, 2 * pair], order[:, 2 * pair + 1] = one, other
    return order
