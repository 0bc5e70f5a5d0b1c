"""Longest processing time first: slots onto nodes and ranks, of which each holds a fixed number.

The heaviest is placed first, on the bin of the least load that has room. All layers (and nodes) are
done at once.
"""

import numpy as np

from diffgenz.routing.placement import Placement, check_slots, rank_sizes


def pack(load: np.ndarray, sizes: np.ndarray, item: np.ndarray | None = None) -> np.ndarray:
    """The bin of each item, [..., items]: heaviest first, onto the bin of the least load.

    Among bins of equal load the smallest is taken, and the first of these.

    Arguments:
        load: [..., items]; the load of each item, at least 0.
        sizes: [bins]; how many items each bin holds; they sum to the number of items.
        item: [..., items]; numbers by which copies of one thing are known: a bin takes a second
            copy only where no other has room. Default: all are different.
    """
    shape, items, bins = load.shape, load.shape[-1], len(sizes)
    load = load.reshape(-1, items)
    rows = np.arange(len(load))
    order = np.argsort(-load, axis=1, kind="stable")
    total = np.zeros((len(load), bins))
    room = np.tile(sizes, (len(load), 1))
    bin_of = np.empty(load.shape, np.intp)
    kinds = None if item is None else item.reshape(load.shape)
    most = 0 if kinds is None else int(np.amax(kinds)) + 1
    holds = np.zeros((len(load), bins, most), bool)
    by_size = np.argsort(sizes, kind="stable")
    for place in range(items):
        which = order[:, place]
        weight = np.where(room > 0, total, np.inf)
        if kinds is not None:
            kind = kinds[rows, which]
            taken = holds[rows, :, kind]
            again = np.all(taken | (room <= 0), axis=1, keepdims=True)
            weight = np.where(taken & ~again, np.inf, weight)
        best = by_size[np.argmin(weight[:, by_size], axis=1)]
        bin_of[rows, which] = best
        total[rows, best] += load[rows, which]
        room[rows, best] -= 1
        if kinds is not None:
            holds[rows, best, kinds[rows, which]] = True
    return bin_of.reshape(shape)


def in_bins(bin_of: np.ndarray) -> np.ndarray:
    """The items, [..., items], in order of their bins; within a bin in order of their numbers.

    Arguments:
        bin_of: [..., items]; the bin of each item.
    """
    return np.argsort(bin_of, axis=-1, kind="stable")


def packed(
    expert: np.ndarray, load: np.ndarray, experts: int, nodes: int, ranks_per_node: int
) -> Placement:
    """The placement of slots whose nodes are known: each node's onto its ranks by their load.

    Arguments:
        expert: [layers, nodes, slots of a node]; what the slots of each node hold.
        load: [layers, nodes, slots of a node]; the tokens that each slot gets.
        experts: routed experts per layer.
        nodes: nodes.
        ranks_per_node: expert-parallel ranks of a node.
    """
    layers, _, per_node = expert.shape
    check_slots(nodes * per_node, experts, nodes, ranks_per_node)
    ranks = pack(load, rank_sizes(per_node, ranks_per_node), expert)
    slots = np.take_along_axis(expert, in_bins(ranks), -1)
    return Placement(slots.reshape(layers, -1), experts, nodes, ranks_per_node)


def packed_copies(copies: np.ndarray, counts: np.ndarray, ranks_per_node: int) -> Placement:
    """The placement of so many copies of each expert on each node, packed onto ranks.

    Arguments:
        copies: [layers, nodes, experts]; copies of each expert on each node. Every node has equally
            many, and every expert one somewhere.
        counts: [layers, nodes, experts]; tokens of each node's requests that choose each expert. A
            node's own go to its copies, where it has any, else evenly to all.
        ranks_per_node: expert-parallel ranks of a node.
    """
    layers, nodes, experts = copies.shape
    everywhere = copies.sum(1, keepdims=True)
    held = copies > 0
    away = np.where(held, 0.0, counts).sum(1, keepdims=True) / everywhere
    each = np.where(held, counts / np.maximum(copies, 1) + away, 0.0)
    flat = copies.reshape(-1)
    index = np.repeat(np.arange(flat.size), flat).reshape(layers, nodes, -1)
    return packed(index % experts, each.reshape(-1)[index], experts, nodes, ranks_per_node)
