"""Who sends how much to whom: tokens between nodes and ranks, and the rows that ranks compute.

Nodes hold requests (one attention group each) and experts. A token travels once for each of its
experts, or, with kernels that de-duplicate, once to each node that holds any of them, and once to
each rank there. Bytes are tokens times the bytes of one, dispatched and combined.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.routing import measures
from diffgenz.routing.placement import Placement
from diffgenz.routing.replicas import Rule, routed, shares


@dataclasses.dataclass(frozen=True, eq=False)
class Traffic:
    """The traffic of all tokens, in each layer.

    Arguments:
        placement: where the experts are.
        tokens: how many tokens there are.
        to_nodes: [layers, nodes, nodes]; tokens from the requests of each node to the experts of
            each, own included.
        to_ranks: [layers, nodes, ranks]; tokens from the requests of each node to each rank.
        slot_rows: [layers, slots]; tokens that each slot computes.
    """

    placement: Placement
    tokens: float
    to_nodes: np.ndarray
    to_ranks: np.ndarray
    slot_rows: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """[layers, ranks]; pairs of a token and an expert that each rank computes."""
        return self.placement.by_rank(self.slot_rows)

    @property
    def inter(self) -> np.ndarray:
        """[layers]; the part of what is sent that leaves its node."""
        return measures.inter(self.to_nodes)

    @property
    def far(self) -> np.ndarray:
        """[layers]; copies of a token that leave its node."""
        return self.inter * self.to_nodes.sum((1, 2)) / self.tokens

    @property
    def near(self) -> np.ndarray:
        """[layers]; copies of a token that reach a rank, of any node."""
        return self.to_ranks.sum((1, 2)) / self.tokens

    @property
    def largest_pair(self) -> np.ndarray:
        """[layers]; the largest message between nodes over the mean of all."""
        return measures.largest_pair(self.to_nodes)

    @property
    def padded(self) -> np.ndarray:
        """[layers]; copies of a token that leave its node when all messages are as the largest.

        Compare this between placements that send different numbers of copies.
        """
        nodes = self.placement.nodes
        return self.largest_pair * self.to_nodes.sum((1, 2)) * (1 - 1 / nodes) / self.tokens

    @property
    def wire(self) -> np.ndarray:
        """[layers]; the most that a node sends or receives over a node's mean tokens."""
        return measures.wire(self.to_nodes)

    @property
    def node_straggler(self) -> np.ndarray:
        """[layers]; the most tokens that reach a node over the mean."""
        return measures.straggler(self.to_nodes.sum(1))

    @property
    def rank_straggler(self) -> np.ndarray:
        """[layers]; the most rows of a rank over the mean."""
        return measures.straggler(self.rows)

    def active(self, tokens: float) -> np.ndarray:
        """[layers, ranks]; distinct experts that have work on each rank in one step.

        Of a slot that gets n of the step's tokens on average: 1 - exp(-n), as tokens that choose
        independently do.

        Arguments:
            tokens: of all ranks in a step.
        """
        rows = self.slot_rows * (tokens / self.tokens)
        return self.placement.by_rank(-np.expm1(-rows))


@dataclasses.dataclass(frozen=True, eq=False)
class Tally:
    """Traffic by request, so that requests can be drawn again.

    Arguments:
        placement: where the experts are.
        node: [requests]; the node that each request is on.
        tokens: [requests]; its tokens.
        to_nodes: [requests, layers, nodes]; its tokens to the experts of each node.
        to_ranks: [requests, layers, ranks]; its tokens to each rank.
        rows: [requests, layers, ranks]; its pairs of token and expert on each rank.
        slot_rows: [layers, slots]; the same of all requests, on each slot.
    """

    placement: Placement
    node: np.ndarray
    tokens: np.ndarray
    to_nodes: np.ndarray
    to_ranks: np.ndarray
    rows: np.ndarray
    slot_rows: np.ndarray

    @property
    def traffic(self) -> Traffic:
        """The sum over requests."""
        nodes = self.placement.nodes
        return Traffic(
            self.placement,
            float(self.tokens.sum()),
            by_node(self.to_nodes, self.node, nodes),
            by_node(self.to_ranks, self.node, nodes),
            self.slot_rows,
        )

    def interval(self, measure: str, *, draws: int = 400, seed: int = 0) -> tuple[float, float]:
        """Between what a measure lies, as a mean over layers, with 95 % confidence.

        Requests are drawn again, with replacement; the 2.5th and 97.5th percentiles are returned.

        Arguments:
            measure: "inter", "far", "largest_pair", "wire", "node_straggler" or "rank_straggler".
            draws: how often.
            seed: of the random numbers.
        """
        requests, layers = self.rows.shape[:2]
        weights = np.random.default_rng(seed).multinomial(
            requests, np.full(requests, 1 / requests), size=draws
        )
        weights = weights.astype(np.float32)
        if measure == "rank_straggler":
            rows = weights @ self.rows.reshape(requests, -1)
            values = measures.straggler(rows.reshape(draws, layers, -1))
        else:
            nodes = self.placement.nodes
            sent = np.stack(
                [
                    (weights[:, on] @ self.to_nodes[on].reshape(on.sum(), layers * nodes))
                    for on in (self.node == node for node in range(nodes))
                ],
                axis=1,
            ).reshape(draws, nodes, layers, nodes)
            pairs = sent.transpose(0, 2, 1, 3)
            values = _MEASURES[measure](pairs)
            if measure == "far":
                tokens = (weights @ self.tokens)[:, None]
                values = values * pairs.sum((2, 3)) / tokens
        low, high = np.percentile(values.mean(1), [2.5, 97.5])
        return float(low), float(high)


_MEASURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "inter": measures.inter,
    "far": measures.inter,
    "largest_pair": measures.largest_pair,
    "wire": measures.wire,
    "node_straggler": lambda pairs: measures.straggler(pairs.sum(-2)),
}


def tally_of_counts(
    counts: np.ndarray,
    node: np.ndarray,
    placement: Placement,
    *,
    k: int = 1,
    rule: Rule = Rule.LOCAL_FIRST,
) -> Tally:
    """Traffic without de-duplication, from how often each request chose each expert.

    Arguments:
        counts: [requests, layers, experts]; choices.
        node: [requests]; the node that each request is on.
        placement: where the experts are.
        k: choices of a token in a layer.
        rule: how a token chooses among copies.
    """
    _check(counts.shape[1], counts.shape[2], node, len(counts), placement)
    share = shares(placement, rule)
    layers, slots = placement.slots.shape
    rows = np.empty((len(counts), layers, placement.ranks))
    slot_rows = np.zeros((layers, slots))
    for at in range(0, len(counts), 256):
        part = slice(at, at + 256)
        of_slot = np.take_along_axis(counts[part], placement.slots[None], 2)
        sent = of_slot * share[:, node[part]].swapaxes(0, 1)
        rows[part] = placement.by_rank(sent)
        slot_rows += sent.sum(0)
    to_nodes = rows.reshape(len(counts), layers, placement.nodes, -1).sum(-1)
    tokens = counts.sum(2).mean(1) / k
    return Tally(placement, node, tokens, to_nodes, rows, rows, slot_rows)


def tally_of_tokens(
    chosen: np.ndarray,
    request: np.ndarray,
    node: np.ndarray,
    placement: Placement,
    *,
    rule: Rule = Rule.LOCAL_FIRST,
) -> Tally:
    """Traffic de-duplicated per node, and per rank within it, from the choices of each token.

    Arguments:
        chosen: [tokens, layers, k]; experts.
        request: [tokens]; the request of each token, from 0 to requests - 1.
        node: [requests]; the node that each request is on.
        placement: where the experts are.
        rule: how a token chooses among copies.
    """
    requests, layers = len(node), placement.layers
    _check(chosen.shape[1], placement.experts, node, requests, placement)
    if len(request) != len(chosen) or (len(request) and request.max() >= requests):
        raise InputError(
            f"request: {len(request)} numbers for {len(chosen)} tokens of {requests} requests; "
            f"give one for each token, from 0 to {requests - 1}"
        )
    ranks, slots = placement.ranks, placement.slots.shape[1]
    to_nodes = np.empty((requests, layers, placement.nodes))
    to_ranks = np.empty((requests, layers, ranks))
    rows = np.empty((requests, layers, ranks))
    slot_rows = np.empty((layers, slots))
    of_token = node[request]
    for layer in range(layers):
        slot = routed(chosen[:, layer], of_token, placement, layer, rule)
        slot_rows[layer] = np.bincount(slot.ravel(), minlength=slots)
        rank = placement.rank_of_slot[slot]
        rows[:, layer] = _counted(rank, request, requests, ranks)
        once = _once(rank)
        to_ranks[:, layer] = _counted(once, request, requests, ranks)
        held = np.where(once >= 0, once // placement.ranks_per_node, -1)
        to_nodes[:, layer] = _counted(_once(held), request, requests, placement.nodes)
    tokens = np.bincount(request, minlength=requests).astype(float)
    return Tally(placement, node, tokens, to_nodes, to_ranks, rows, slot_rows)


def _once(values: np.ndarray) -> np.ndarray:
    """The values of each row, ascending, with -1 for those that stood before."""
    ordered = np.sort(values, axis=1)
    again = ordered[:, 1:] == ordered[:, :-1]
    ordered[:, 1:][again] = -1
    return ordered


def _counted(values: np.ndarray, request: np.ndarray, requests: int, end: int) -> np.ndarray:
    """[requests, end]; how often each request has each value of its tokens' rows; not -1."""
    flat = request[:, None].astype(np.int64) * end + values
    counts = np.bincount(flat[values >= 0], minlength=requests * end)
    return counts.reshape(requests, end)


def by_node(values: np.ndarray, node: np.ndarray, nodes: int) -> np.ndarray:
    """Sums over the requests of each node: [layers, nodes, ...].

    Arguments:
        values: [requests, layers, ...]; such as choices of experts.
        node: [requests]; the node that each request is on.
        nodes: nodes.
    """
    return np.stack([values[node == each].sum(0) for each in range(nodes)], axis=1)


def _check(
    layers: int, experts: int, node: np.ndarray, requests: int, placement: Placement
) -> None:
    if (layers, experts) != (placement.layers, placement.experts):
        raise InputError(
            f"placement: has {placement.layers} layers of {placement.experts} experts, the trace "
            f"{layers} of {experts}; give the placement of the model that was traced"
        )
    if node.shape != (requests,) or (
        requests and not 0 <= node.min() <= node.max() < placement.nodes
    ):
        raise InputError(
            f"node: does not give each of the {requests} requests a node from 0 to "
            f"{placement.nodes - 1}"
        )
