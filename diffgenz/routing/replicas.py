"""Which copy of an expert a token goes to.

One rule sends a token to its own node's copies where there are any (local-first), the other to all
copies alike (even, as DeepSeek's EPLB divides an expert's load). Copies that may be chosen get
equal shares.
"""

import enum

import numpy as np

from diffgenz.routing.placement import Placement


class Rule(enum.Enum):
    """How a token chooses among the copies of an expert."""

    LOCAL_FIRST = "local-first"
    """Copies on the token's own node, where there are any; else all copies."""
    EVEN = "even"
    """All copies."""


def shares(placement: Placement, rule: Rule = Rule.LOCAL_FIRST) -> np.ndarray:
    """The part of a node's tokens for an expert that each slot of the expert gets.

    Shape [layers, nodes, slots]; over the slots of one expert they sum to 1.

    Arguments:
        placement: where the experts are.
        rule: how a token chooses among copies.
    """
    copies = placement.copies
    everywhere = np.take_along_axis(copies.sum(1), placement.slots, 1)[:, None]
    if rule is Rule.EVEN:
        return np.repeat(1.0 / everywhere, placement.nodes, axis=1)
    local = np.take_along_axis(copies, placement.slots[:, None], 2)
    own = placement.node_of_slot == np.arange(placement.nodes)[:, None]
    return np.where(local > 0, own / np.maximum(local, 1), 1.0 / everywhere)


def routed(
    chosen: np.ndarray,
    node: np.ndarray,
    placement: Placement,
    layer: int,
    rule: Rule = Rule.LOCAL_FIRST,
) -> np.ndarray:
    """The slot that each choice of each token goes to, in one layer: [tokens, k].

    Among the copies that the rule allows, successive tokens take turns.

    Arguments:
        chosen: [tokens, k]; the experts that each token chose in this layer.
        node: [tokens]; the node of each token's request.
        placement: where the experts are.
        layer: the position of the layer in the placement.
        rule: how a token chooses among copies.
    """
    slots = placement.slots[layer]
    experts, nodes = placement.experts, placement.nodes
    order = np.argsort(slots, kind="stable")  # slots by expert; of one expert by node
    if len(slots) == experts:
        return order[chosen]
    copies = placement.copies[layer]
    first = np.concatenate([[0], np.cumsum(copies.sum(0))[:-1]])
    before = np.cumsum(copies, axis=0) - copies  # copies of the expert on nodes before this one
    if rule is Rule.EVEN:
        start = np.broadcast_to(first, (nodes, experts))
        several = np.broadcast_to(copies.sum(0), (nodes, experts))
    else:
        start = np.where(copies > 0, first + before, first)
        several = np.where(copies > 0, copies, copies.sum(0))
    at = node[:, None] * experts + chosen
    turn = np.arange(len(chosen))[:, None] % several.reshape(-1)[at]
    return order[start.reshape(-1)[at] + turn]
