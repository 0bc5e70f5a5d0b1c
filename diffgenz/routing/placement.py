"""Where the experts of each layer live: the record that every method makes and every measure reads.

A layer's experts live in physical slots, as engines count them: the slots of rank 0 first, then
those of rank 1, and so on; the ranks of node 0 first. More slots than experts make replicas.
"""

import dataclasses
from functools import cached_property
from typing import Any

import numpy as np

from diffgenz.core.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Placement:
    """The expert of each physical slot, in each layer.

    Nodes have equally many slots. Where these do not divide by the ranks of a node, its first ranks
    have one more than its last.

    Arguments:
        slots: [layers, slots]; the expert that each slot holds, from 0 to experts - 1. Each layer
            has every expert at least once.
        experts: routed experts per layer, at least 1.
        nodes: nodes, at least 1.
        ranks_per_node: expert-parallel ranks of a node, at least 1.

    Raises:
        InputError: slots do not divide by nodes, a rank has none, or an expert is nowhere.
    """

    slots: Any
    experts: int
    nodes: int
    ranks_per_node: int

    def __post_init__(self) -> None:
        """Makes an array of the slots, and checks them."""
        slots = np.asarray(self.slots)
        if slots.ndim != 2 or not slots.size or slots.dtype.kind not in "iu":
            raise InputError(
                f"slots: have shape {list(slots.shape)} of {slots.dtype}; give whole numbers, "
                "[layers, slots]"
            )
        check_slots(slots.shape[1], self.experts, self.nodes, self.ranks_per_node)
        if slots.min() < 0 or slots.max() >= self.experts:
            bad = int(slots.min()) if slots.min() < 0 else int(slots.max())
            raise InputError(
                f"slots: expert {bad} is out of range; {self.experts} experts have ids 0 to "
                f"{self.experts - 1}"
            )
        object.__setattr__(self, "slots", slots.astype(np.int32, copy=False))
        nowhere = np.argwhere(self.copies.sum(1) == 0)
        if len(nowhere):
            layer, expert = (int(i) for i in nowhere[0])
            raise InputError(
                f"slots: expert {expert} has no slot in the layer at position {layer}; give each "
                "expert one or more"
            )

    @property
    def layers(self) -> int:
        """Layers that have experts."""
        return self.slots.shape[0]

    @property
    def ranks(self) -> int:
        """Expert-parallel ranks of all nodes."""
        return self.nodes * self.ranks_per_node

    @property
    def per_node(self) -> int:
        """Slots of a node."""
        return self.slots.shape[1] // self.nodes

    @property
    def even(self) -> bool:
        """Whether all ranks have equally many slots, as engines demand."""
        return self.slots.shape[1] % self.ranks == 0

    @cached_property
    def node_of_slot(self) -> np.ndarray:
        """[slots]; the node of each slot."""
        return np.repeat(np.arange(self.nodes), self.per_node)

    @cached_property
    def rank_of_slot(self) -> np.ndarray:
        """[slots]; the rank of each slot."""
        sizes = rank_sizes(self.per_node, self.ranks_per_node)
        return np.repeat(np.arange(self.ranks), np.tile(sizes, self.nodes))

    def by_rank(self, values: np.ndarray) -> np.ndarray:
        """Sums over the slots of each rank: [..., ranks].

        Arguments:
            values: [..., slots]; a number of each slot.
        """
        return np.add.reduceat(values, self._first_slot, axis=-1)  # (no rank is empty)

    @cached_property
    def _first_slot(self) -> np.ndarray:
        """[ranks]; the first slot of each rank."""
        return np.searchsorted(self.rank_of_slot, np.arange(self.ranks))

    @cached_property
    def copies(self) -> np.ndarray:
        """[layers, nodes, experts]; how many slots of each node hold each expert."""
        flat = self.node_of_slot * self.experts + self.slots
        flat += (np.arange(self.layers) * self.nodes * self.experts)[:, None]
        counts = np.bincount(flat.ravel(), minlength=self.layers * self.nodes * self.experts)
        return counts.reshape(self.layers, self.nodes, self.experts)

    def select(self, layers: Any) -> "Placement":
        """The placement of some of the layers.

        Arguments:
            layers: their positions, an index or a mask.
        """
        return dataclasses.replace(self, slots=self.slots[layers])

    def among(self, layers: Any, number: int) -> "Placement":
        """The placement of more layers: those that are not here hold the experts in order.

        Arguments:
            layers: [layers]; the position of each layer of this one among all.
            number: of all layers.
        """
        rows = np.tile(np.arange(self.slots.shape[1]) % self.experts, (number, 1))
        rows[np.asarray(layers)] = self.slots
        return dataclasses.replace(self, slots=rows)


def rank_sizes(per_node: int, ranks_per_node: int) -> np.ndarray:
    """[ranks_per_node]; the slots of each rank of a node: equal, or one more for the first ranks.

    Arguments:
        per_node: slots of the node.
        ranks_per_node: its ranks.
    """
    whole, more = divmod(per_node, ranks_per_node)
    return np.where(np.arange(ranks_per_node) < more, whole + 1, whole)


def check_slots(slots: int, experts: int, nodes: int, ranks_per_node: int) -> None:
    """Check that so many slots can hold the experts, on so many nodes and ranks.

    Arguments:
        slots: physical slots of a layer, over all ranks.
        experts: routed experts per layer.
        nodes: nodes.
        ranks_per_node: expert-parallel ranks of a node.

    Raises:
        InputError: a number is not whole or below 1; fewer slots than experts; fewer slots than
            ranks; or slots that do not divide by nodes.
    """
    given = {"slots": slots, "experts": experts, "nodes": nodes, "ranks_per_node": ranks_per_node}
    for name, value in given.items():
        if isinstance(value, bool) or int(value) != value or value < 1:
            raise InputError(f"{name}: {value!r} is not allowed; give a whole number, at least 1")
    ranks = nodes * ranks_per_node
    if slots < experts:
        raise InputError(
            f"slots: {slots} cannot hold {experts} experts; give {_up(experts, nodes)} or more"
        )
    if slots < ranks:
        raise InputError(
            f"slots: {slots} slots of {experts} experts leave some of the {ranks} ranks empty; "
            f"give {ranks} slots or more, or at most {slots} ranks"
        )
    if slots % nodes:
        raise InputError(
            f"slots: {slots} do not divide by the {nodes} nodes; give {slots // nodes * nodes} or "
            f"{_up(slots, nodes)}, at least {experts}"
        )


def _up(number: int, unit: int) -> int:
    """The least multiple of a unit that is not below a number."""
    return -(-number // unit) * unit
