"""DeepSeek's expert-parallelism load balancer, from its description (deepseek-ai/EPLB, 2025).

Slots beyond the experts replicate whichever expert has the most load per copy. Hierarchical, for
models whose router picks groups of experts: groups are packed onto nodes, experts are replicated
within their node, copies are packed onto its ranks. Global: experts are replicated over all, and
copies packed onto ranks, whatever their node. Packing is by longest processing time first.

It knows loads only, and divides a load evenly over copies. `over_nodes` is the global policy with
its copies packed onto nodes first, which balances them better.
"""

import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.routing.packing import in_bins, pack, packed
from diffgenz.routing.placement import Placement, check_slots, rank_sizes


def replicated(load: np.ndarray, slots: int) -> np.ndarray:
    """Copies of each expert, [..., experts]: one, and one more where load per copy is largest.

    Arguments:
        load: [..., experts]; tokens that choose each expert.
        slots: copies in all.
    """
    shape = load.shape
    load = load.reshape(-1, shape[-1])
    copies = np.ones(load.shape, np.intp)
    rows = np.arange(len(load))
    for _ in range(slots - shape[-1]):
        copies[rows, np.argmax(load / copies, axis=1)] += 1
    return copies.reshape(shape)


def hierarchical(
    load: np.ndarray, nodes: int, ranks_per_node: int, slots: int, groups: int
) -> Placement:
    """The hierarchical policy: whole groups of neighbouring experts on a node.

    Arguments:
        load: [layers, experts]; tokens that choose each expert.
        nodes: nodes.
        ranks_per_node: expert-parallel ranks of a node.
        slots: physical slots of a layer, over all ranks.
        groups: groups of the router; they divide by the nodes.

    Raises:
        InputError: groups do not divide the experts, or nodes the groups.
    """
    layers, experts = load.shape
    check_slots(slots, experts, nodes, ranks_per_node)
    check_groups(experts, nodes, groups)
    size = experts // groups
    node = pack(load.reshape(layers, groups, size).sum(2), np.full(nodes, groups // nodes))
    expert = (in_bins(node)[..., None] * size + np.arange(size)).reshape(layers, nodes, -1)
    each = np.take_along_axis(load[:, None], expert, 2)
    copies = replicated(each, slots // nodes)
    index = _repeated(copies)
    per_copy = np.take_along_axis(each / copies, index, 2)
    return packed(np.take_along_axis(expert, index, 2), per_copy, experts, nodes, ranks_per_node)


def everywhere(load: np.ndarray, nodes: int, ranks_per_node: int, slots: int) -> Placement:
    """The global policy: copies packed onto ranks, whatever their node.

    Arguments:
        load: [layers, experts]; tokens that choose each expert.
        nodes: nodes.
        ranks_per_node: expert-parallel ranks of a node.
        slots: physical slots of a layer, over all ranks.
    """
    check_slots(slots, load.shape[1], nodes, ranks_per_node)
    expert, each = _copies(load, slots)
    sizes = np.tile(rank_sizes(slots // nodes, ranks_per_node), nodes)
    order = in_bins(pack(each, sizes))
    return Placement(np.take_along_axis(expert, order, 1), load.shape[1], nodes, ranks_per_node)


def over_nodes(load: np.ndarray, nodes: int, ranks_per_node: int, slots: int) -> Placement:
    """The global policy, with copies packed onto nodes first and onto the ranks of each then.

    Arguments:
        load: [layers, experts]; tokens that choose each expert.
        nodes: nodes.
        ranks_per_node: expert-parallel ranks of a node.
        slots: physical slots of a layer, over all ranks.
    """
    layers, experts = load.shape
    check_slots(slots, experts, nodes, ranks_per_node)
    expert, each = _copies(load, slots)
    order = in_bins(pack(each, np.full(nodes, slots // nodes), expert))
    expert = np.take_along_axis(expert, order, 1).reshape(layers, nodes, -1)
    each = np.take_along_axis(each, order, 1).reshape(expert.shape)
    return packed(expert, each, experts, nodes, ranks_per_node)


def eplb(
    load: np.ndarray, nodes: int, ranks_per_node: int, slots: int, groups: int | None = None
) -> Placement:
    """The policy that the balancer takes: hierarchical where nodes divide the groups, else global.

    Arguments:
        load: [layers, experts]; tokens that choose each expert.
        nodes: nodes.
        ranks_per_node: expert-parallel ranks of a node.
        slots: physical slots of a layer, over all ranks.
        groups: groups of a group-limited router; None: it picks experts anywhere.
    """
    if groups is not None and groups % nodes == 0:
        return hierarchical(load, nodes, ranks_per_node, slots, groups)
    return everywhere(load, nodes, ranks_per_node, slots)


def check_groups(experts: int, nodes: int, groups: int) -> None:
    """Check that groups of experts can be kept whole on nodes.

    Arguments:
        experts: routed experts per layer.
        nodes: nodes.
        groups: groups of neighbouring experts.

    Raises:
        InputError: groups do not divide the experts, or nodes the groups.
    """
    if groups < 1 or experts % groups:
        raise InputError(f"groups: {groups} do not divide {experts} experts; choose a divisor")
    if groups % nodes:
        raise InputError(
            f"groups: {groups} cannot be kept whole on {nodes} nodes; choose a divisor of {groups}"
        )


def _copies(load: np.ndarray, slots: int) -> tuple[np.ndarray, np.ndarray]:
    """[layers, slots] each: the expert of each copy, and its part of the expert's load."""
    copies = replicated(load, slots)
    expert = _repeated(copies)
    return expert, np.take_along_axis(load / copies, expert, 1)


def _repeated(copies: np.ndarray) -> np.ndarray:
    """[..., slots]; each index of the last axis as often as it says; sums are all equal."""
    flat = copies.reshape(-1)
    index = np.repeat(np.arange(flat.size), flat) % copies.shape[-1]
    return index.reshape(*copies.shape[:-1], -1)
