"""Experts that tokens choose together on one node: for kernels that send a token to a node once.

Per layer, swaps lower the part of the co-chosen pairs that lie on different nodes, 1 for a random
placement, plus `load` times the power mean of the nodes' loads, plus `locality` times the part of
the tokens that leave their node. It needs no grouping of requests.
"""

import dataclasses
from itertools import combinations

import numpy as np

from diffgenz.routing.locality import filled, parts
from diffgenz.routing.swaps import column_sums, descend, load_changes, load_norm

SAMPLE = 8192
"""Tokens of a layer from which pairs are counted: more change nothing."""

_POWER = 4


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
    load: float = 0.3
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
        apart = (together.sum((1, 2)) - (at * (together @ at)).sum((1, 2))) / 2
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
        rows = np.arange(len(part))[:, None]
        at = np.eye(nodes, dtype=together.dtype)[node_of]
        to_node = (together @ at).swapaxes(1, 2)
        there = to_node[rows, node_of]  # [l, e1, e2]: e2 to e1's node
        gain = np.diagonal(there, axis1=1, axis2=2)[:, None, :] - there
        if self.locality:
            here = part[rows, node_of]
            own = np.diagonal(here, axis1=1, axis2=2)
            gain = gain - self.locality / (1 - 1 / nodes) * (here - own[:, :, None])
        change = gain + gain.swapaxes(1, 2) + 2 * together
        if self.load:
            load = nodes * part.sum(1)
            change += self.load * load_changes(load, node_of, nodes, _POWER)
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
    load: float = 0.3,
    locality: float = 0.0,
    starts: int = 10,
    seed: int = 0,
) -> np.ndarray:
    """The node of each expert, [layers, experts]: the best of several starts, in each layer.

    The first start is linear, the others are random. No node has more experts than the quotient,
    rounded up.

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
        node_of = random.permuted(linear, axis=1) if start else linear
        node_of = descend(node_of, nodes, affinity.changes, affinity.value)
        reached = affinity.value(every, node_of)
        better = reached < value
        best, value = np.where(better[:, None], node_of, best), np.minimum(reached, value)
    return best[:, :given]
