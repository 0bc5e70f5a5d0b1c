"""How the ranks of a plan lie on nodes, each of which is started by a command of its own."""

from typing import NamedTuple

from diffgenz.hardware.platform import Platform

TRAYS = {72: 4, 384: 16}
"""Accelerators of one host in racks that are wired as one, by those of the rack.

They are GB200 NVL72 (18 trays of 4) and CloudMatrix 384 (24 hosts of 8 packages of 2 dies).
"""

LARGEST = 16
"""Accelerators of the largest host (16 in NVIDIA's HGX-2); more are a fabric between hosts."""


def node_size(platform: Platform) -> int:
    """Accelerators of one host: those that the innermost level of the network connects.

    It is 1 where that level is a fabric, as for a GH200.
    """
    inner = int(platform.network[0].size) if platform.network else 1
    return TRAYS.get(inner, inner if inner <= LARGEST else 1)


class Spread(NamedTuple):
    """Groups of ranks on nodes: several groups on each, or each group on several.

    Arguments:
        groups: how many there are.
        local: groups that start on one node; 1 where each is on several.
        nodes: that one group is on.
    """

    groups: int
    local: int
    nodes: int

    @property
    def all_nodes(self) -> int:
        """Nodes of all groups."""
        return self.groups // self.local * self.nodes


def spread_of(groups: int, size: int, node: int) -> Spread:
    """Groups of ranks on nodes, as many on each, and as few nodes as that takes.

    Arguments:
        groups: how many there are.
        size: ranks of each.
        node: accelerators of a node.
    """
    if size <= node:
        most = min(groups, node // size)
        return Spread(groups, next(n for n in range(most, 0, -1) if groups % n == 0), 1)
    fewest = -(-size // node)
    return Spread(groups, 1, next(n for n in range(fewest, size + 1) if size % n == 0))
