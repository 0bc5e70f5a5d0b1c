"""What experts are placed for: who chose what, on which node; and the traffic it makes."""

import dataclasses

import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.routing.placement import Placement
from diffgenz.routing.replicas import Rule
from diffgenz.routing.trace import Counts, Trace
from diffgenz.routing.traffic import Traffic, by_node, tally_of_counts, tally_of_tokens

SAMPLE = 16384
"""Tokens by which de-duplicated traffic is measured, at most, while experts are placed."""


@dataclasses.dataclass(frozen=True, eq=False)
class Work:
    """The choices of requests, and the nodes that they are on.

    Arguments:
        counts: [requests, layers, experts]; choices.
        node: [requests]; the node that each request is on.
        nodes: nodes.
        k: experts that a token chooses in a layer.
        chosen: [tokens, layers, k]; choices of each token where kernels de-duplicate; else None.
        request: [tokens]; the request of each such token, from 0; else None.
    """

    counts: np.ndarray
    node: np.ndarray
    nodes: int
    k: int
    chosen: np.ndarray | None = None
    request: np.ndarray | None = None

    @property
    def by_node(self) -> np.ndarray:
        """[layers, nodes, experts]; choices of the requests of each node."""
        return by_node(self.counts, self.node, self.nodes)

    def traffic(self, placement: Placement, rule: Rule) -> Traffic:
        """The traffic of all of it.

        Arguments:
            placement: where the experts are.
            rule: how a token chooses among copies.
        """
        if self.chosen is None or self.request is None:
            tally = tally_of_counts(self.counts, self.node, placement, k=self.k, rule=rule)
        else:
            tally = tally_of_tokens(self.chosen, self.request, self.node, placement, rule=rule)
        return tally.traffic


def work_of(
    source: Trace | Counts,
    nodes: int,
    node: np.ndarray | None,
    *,
    deduplicated: bool,
    seed: int = 0,
) -> Work:
    """The work of a trace, or of counts.

    Arguments:
        source: what was recorded.
        nodes: nodes.
        node: [requests]; the node of each request of the trace, or of each group of the counts, in
            ascending order; None: tokens come to all nodes alike.
        deduplicated: whether kernels send a token to a node once; it takes a trace.
        seed: of the sample of tokens.

    Raises:
        InputError: there are no choices, nodes do not fit the requests, or counts are given where
            tokens are needed.
    """
    if isinstance(source, Trace):
        counts = source.counts("request")
        k, owner = source.k, source.groups("request")[1]
    else:
        counts, k, owner = source.counts, source.k or 1, None
    if not counts.sum():
        raise InputError("trace: nobody chose an expert; give a trace that has tokens")
    if node is not None:
        node = np.asarray(node)
        if node.shape != (len(counts),) or node.min() < 0 or node.max() >= nodes:
            raise InputError(
                f"node: does not give each of the {len(counts)} requests a node from 0 to "
                f"{nodes - 1}; give one number for each"
            )
    chosen = request = None
    if deduplicated:
        if not isinstance(source, Trace) or owner is None:
            raise InputError(
                "deduplicated: counts do not tell which experts a token chooses together; give a "
                "trace of tokens"
            )
        chosen = source.chosen
        request = owner if node is not None else np.arange(source.tokens) % nodes
        if source.tokens > SAMPLE:
            kept = np.random.default_rng(seed).choice(source.tokens, SAMPLE, replace=False)
            chosen, request = chosen[np.sort(kept)], request[np.sort(kept)]
    if node is None:
        counts = np.repeat(counts.sum(0, keepdims=True) / nodes, nodes, axis=0)
        node = np.arange(nodes)
    return Work(counts, node, nodes, k, chosen, request)
