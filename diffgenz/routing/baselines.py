"""Placements that others use, or that balance alone: what ours is compared with.

All take and return all layers at once. `eplb.py` has DeepSeek's balancer.
"""

import numpy as np

from diffgenz.routing.packing import packed
from diffgenz.routing.placement import Placement, check_slots


def linear(layers: int, experts: int, nodes: int, ranks_per_node: int, slots: int) -> Placement:
    """Experts in order, as engines start; slots beyond the experts hold the first ones again.

    Arguments:
        layers: layers that have experts.
        experts: routed experts per layer.
        nodes: nodes.
        ranks_per_node: expert-parallel ranks of a node.
        slots: physical slots of a layer, over all ranks.
    """
    check_slots(slots, experts, nodes, ranks_per_node)
    row = np.arange(slots) % experts
    return Placement(np.tile(row, (layers, 1)), experts, nodes, ranks_per_node)


def round_robin(layers: int, experts: int, nodes: int, ranks_per_node: int) -> Placement:
    """Expert e on rank e modulo ranks, as vLLM's strategy of this name; no replicas.

    Arguments:
        layers: layers that have experts.
        experts: routed experts per layer; they divide by the nodes.
        nodes: nodes.
        ranks_per_node: expert-parallel ranks of a node.
    """
    check_slots(experts, experts, nodes, ranks_per_node)
    rank = np.arange(experts) % (nodes * ranks_per_node)
    node = rank // ranks_per_node
    sizes = np.bincount(node, minlength=nodes)
    if sizes.min() < sizes.max():  # a last, incomplete round: node by node
        node = np.arange(experts) % nodes
    row = np.lexsort((np.arange(experts), rank, node))
    return Placement(np.tile(row, (layers, 1)), experts, nodes, ranks_per_node)


def random(
    layers: int, experts: int, nodes: int, ranks_per_node: int, slots: int, seed: int = 0
) -> Placement:
    """Experts, and the first ones again in slots beyond them, in random order in each layer.

    Arguments:
        layers: layers that have experts.
        experts: routed experts per layer.
        nodes: nodes.
        ranks_per_node: expert-parallel ranks of a node.
        slots: physical slots of a layer, over all ranks.
        seed: of the random numbers.
    """
    start = linear(layers, experts, nodes, ranks_per_node, slots)
    slots_of = np.random.default_rng(seed).permuted(start.slots, axis=1)
    return Placement(slots_of, experts, nodes, ranks_per_node)


def capacity_greedy(counts: np.ndarray, ranks_per_node: int) -> Placement:
    """The placement of arXiv 2604.23150: the largest use first, to the node whose requests make it.

    Uses of an expert by a node's requests are taken in descending order; a use places its expert on
    that node, if it is not placed yet and the node has room.

    Arguments:
        counts: [layers, nodes, experts]; tokens of each node's requests that choose each expert.
        ranks_per_node: expert-parallel ranks of a node.
    """
    layers, nodes, experts = counts.shape
    check_slots(experts, experts, nodes, ranks_per_node)
    order = np.argsort(-counts.reshape(layers, -1), axis=1, kind="stable")
    node_of = np.full((layers, experts), -1)
    room = np.full((layers, nodes), experts // nodes)
    rows = np.arange(layers)
    for use in order.T:
        node, expert = use // experts, use % experts
        free = (node_of[rows, expert] < 0) & (room[rows, node] > 0)
        node_of[rows[free], expert[free]] = node[free]
        room[rows[free], node[free]] -= 1
    return on_nodes(node_of, counts.sum(1), nodes, ranks_per_node)


def on_nodes(node_of: np.ndarray, load: np.ndarray, nodes: int, ranks_per_node: int) -> Placement:
    """The placement of experts whose nodes are known, packed onto ranks by their load; no replicas.

    Arguments:
        node_of: [layers, experts]; the node of each expert; every node has equally many.
        load: [layers, experts]; tokens that choose each expert.
        nodes: nodes.
        ranks_per_node: expert-parallel ranks of a node.
    """
    layers, experts = node_of.shape
    expert = np.argsort(node_of, axis=1, kind="stable").reshape(layers, nodes, -1)
    each = np.take_along_axis(load[:, None], expert, 2)
    return packed(expert, each, experts, nodes, ranks_per_node)
