"""Replicas where they save most: tokens kept on their node, and the heaviest slots relieved.

A copy on a node serves that node's own tokens; the tokens of nodes without one go evenly to all
copies. Slots are given away one by one, in all layers at once, each to the copy that gains most:

    bytes kept on their node / (1 - 1 / nodes) + balance * fall of (sum over copies of load^8)^(1/8)

where loads are in units of a rank's mean.
"""

import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.routing.locality import Objective, localised
from diffgenz.routing.parts import parts
from diffgenz.routing.swaps import raised, root

_POWER = 8
"""Of the norm of loads; that of `Objective`, by which experts were placed before."""


def replicated_where_used(
    counts: np.ndarray, node_of: np.ndarray, ranks_per_node: int, per_node: int, balance: float
) -> np.ndarray:
    """Copies of each expert on each node: [layers, nodes, experts].

    A node has at most as many copies of an expert as it has ranks.

    Arguments:
        counts: [layers, nodes, experts]; tokens of each node's requests that choose each expert.
        node_of: [layers, experts]; the node of each expert's first copy; no node has more than
            per_node of them.
        ranks_per_node: expert-parallel ranks of a node.
        per_node: slots of a node.
        balance: what a rank's mean load of computing counts beside all bytes, at least 0.
    """
    part = parts(counts).astype(np.float64)
    layers, nodes, experts = part.shape
    rows = np.arange(layers)
    if per_node > experts * ranks_per_node:
        raise InputError(
            f"slots: {per_node * nodes} are more than all ranks can use; "
            f"give at most {experts * ranks_per_node * nodes}"
        )
    copies = np.zeros((layers, nodes, experts))
    np.put_along_axis(copies, node_of[:, None], 1.0, 1)
    room = np.full((layers, nodes), per_node) - copies.sum(2)
    ranks = nodes * ranks_per_node
    kept = 1 / (1 - 1 / nodes) if nodes > 1 else 0.0
    old, new = _powers(part, copies, ranks)
    total = old.sum(1)
    for _ in range(int(room[0].sum())):
        fallen = np.maximum(total[:, None, None] - old[:, None] + new, 0)
        gain = (copies == 0) * part * kept + balance * (
            root(total, _POWER)[:, None, None] - root(fallen, _POWER)
        )
        gain[(copies >= ranks_per_node) | (room <= 0)[:, :, None]] = -np.inf
        node, expert = np.divmod(gain.reshape(layers, -1).argmax(1), experts)
        total += new[rows, node, expert] - old[rows, expert]
        copies[rows, node, expert] += 1
        room[rows, node] -= 1
        old_row, new_row = _powers(
            part[rows, :, expert][..., None], copies[rows, :, expert][..., None], ranks
        )
        old[rows, expert], new[rows, :, expert] = old_row[:, 0], new_row[..., 0]
    return copies.astype(np.intp)


def moved_for_replicas(
    counts: np.ndarray, node_of: np.ndarray, copies: np.ndarray, objective: Objective
) -> np.ndarray:
    """The nodes of first copies, [layers, experts], moved by the tokens that others leave to them.

    These are none of nodes that have a copy, and of other nodes a copy's even part.

    Arguments:
        counts: [layers, nodes, experts]; tokens of each node's requests that choose each expert.
        node_of: [layers, experts]; the node of each expert's first copy.
        copies: [layers, nodes, experts]; copies of each expert on each node, the first included.
        objective: what is minimised.
    """
    first = node_of[:, None] == np.arange(counts.shape[1])[:, None]
    left = np.where((copies > 0) & ~first, 0.0, counts) / copies.sum(1, keepdims=True)
    return localised(left, objective, start=node_of)


def _powers(part: np.ndarray, copies: np.ndarray, ranks: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums over copies of load^8: as they are, [l, e], and with one more on a node, [l, nodes, e].

    Arguments:
        part: [l, nodes, e]; the part of all tokens that each node's requests send to each expert.
        copies: [l, nodes, e]; copies of each expert on each node.
        ranks: expert-parallel ranks of all nodes.
    """
    held = copies > 0
    away = np.where(held, 0.0, part).sum(1)
    everywhere = copies.sum(1)
    each = ranks * (part / np.maximum(copies, 1) + (away / everywhere)[:, None])
    now = (copies * raised(each, _POWER)).sum(1)
    more = np.empty_like(part)
    for node in range(part.shape[1]):
        left = away - np.where(held[:, node], 0.0, part[:, node])
        left = left / (everywhere + 1)
        each = ranks * (part / np.maximum(copies, 1) + left[:, None])
        powers = copies * raised(each, _POWER)
        several = copies[:, node] + 1
        own = several * raised(ranks * (part[:, node] / several + left), _POWER)
        more[:, node] = powers.sum(1) - powers[:, node] + own
    return now, more
