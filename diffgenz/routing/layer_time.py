"""How long a mixture-of-experts layer takes, given its traffic: what placements are chosen by.

Anything that turns a `Demand` into seconds will do (`LayerTime`). `Roofline` is a plain one, for
where no kernels are known.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from diffgenz.routing import measures
from diffgenz.routing.traffic import Traffic


class Demand(NamedTuple):
    """What one step asks of a layer's experts and of the network, in each layer.

    Arguments:
        rows: [layers, ranks]; pairs of token and expert that each rank computes.
        active: [layers, ranks]; distinct experts of each rank that have work.
        to_nodes: [layers, nodes, nodes]; tokens from each node to each, own included.
        to_ranks: [layers, nodes, ranks]; tokens from each node to each rank.
        slots: slots of a rank, each of which holds an expert.
    """

    rows: np.ndarray
    active: np.ndarray
    to_nodes: np.ndarray
    to_ranks: np.ndarray
    slots: float


LayerTime = Callable[[Demand], np.ndarray]
"""The seconds of a layer, [layers], for what one step asks of it: dispatch, experts, combine."""


def demand(traffic: Traffic, tokens_per_rank: float) -> Demand:
    """What one step of so many tokens asks, when they choose as those of the traffic did.

    Arguments:
        traffic: of all tokens that were traced.
        tokens_per_rank: tokens of one step on each rank, above 0.
    """
    tokens = tokens_per_rank * traffic.placement.ranks
    scale = tokens / traffic.tokens
    return Demand(
        traffic.rows * scale,
        traffic.active(tokens),
        traffic.to_nodes * scale,
        traffic.to_ranks * scale,
        traffic.placement.slots.shape[1] / traffic.placement.ranks,
    )


LAUNCH, LATENCY = 20e-6, 30e-6
"""Seconds before experts, and before an exchange, do anything; plainly assumed, as `Roofline`'s."""


@dataclasses.dataclass(frozen=True)
class Roofline:
    """A plain model: experts by a roofline, the exchange by its busiest node or largest message.

        experts:  LAUNCH + max over ranks of max(active 3 h i / memory, rows 6 h i / flops)
        exchange: LATENCY + max(between nodes, within the busiest node)

    Weights are of one byte; a token is dispatched in 1 byte and combined in 2 bytes an element. The
    defaults are of an H100 (datasheet peaks times 0.8 of memory, 0.6 of FP8 FLOP/s, 0.85 of a 50
    GB/s network adapter and 0.7 of 450 GB/s NVLink, plainly assumed).

    Arguments:
        hidden: elements of a token, h.
        intermediate: elements between an expert's matrices, i.
        padded: whether every message between nodes is as long as the largest.
        memory: B/s of a rank.
        flops: FLOP/s of a rank.
        network: B/s of a rank to other nodes, in one direction.
        link: B/s of a rank to others of its node, in one direction.
    """

    hidden: float = 7168.0
    intermediate: float = 2048.0
    padded: bool = True
    memory: float = 3.35e12 * 0.8
    flops: float = 1979e12 * 0.6
    network: float = 50e9 * 0.85
    link: float = 450e9 * 0.7

    def __call__(self, demand: Demand, /) -> np.ndarray:
        """The seconds of each layer: [layers].

        Arguments:
            demand: what one step asks of it.
        """
        matrix = self.hidden * self.intermediate
        read, computed = 3 * matrix / self.memory, 6 * matrix / self.flops
        experts = np.maximum(demand.active * read, demand.rows * computed).max(-1)
        nodes = demand.to_nodes.shape[-1]
        per_node = demand.rows.shape[-1] // nodes
        if self.padded:
            between = (nodes - 1) * measures.away(demand.to_nodes).max((-2, -1))
        else:
            between = measures.busiest(demand.to_nodes)
        within = demand.to_ranks.sum(-2)
        within = within.reshape(*within.shape[:-1], nodes, per_node).sum(-1).max(-1)
        sent = 3 * self.hidden / per_node
        exchange = np.maximum(between * sent / self.network, within * sent / self.link)
        return LAUNCH + LATENCY + experts + exchange
