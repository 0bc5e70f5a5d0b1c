"""What is measured of traffic between nodes, as functions of arrays with any leading axes.

`pairs` is the tokens from the requests of each node (rows) to the experts of each node (columns),
its own included.
"""

import numpy as np


def inter(pairs: np.ndarray) -> np.ndarray:
    """The part of the tokens that leaves its node: 1 - 1 / nodes where all pairs are equal.

    Arguments:
        pairs: [..., nodes, nodes]; tokens.
    """
    own = np.trace(pairs, axis1=-2, axis2=-1)
    return 1 - own / pairs.sum((-2, -1))


def largest_pair(pairs: np.ndarray) -> np.ndarray:
    """The largest message between two nodes over the mean of all pairs, own included.

    What a kernel waits for that pads all messages to the largest. 0 for one node.

    Arguments:
        pairs: [..., nodes, nodes]; tokens.
    """
    nodes = pairs.shape[-1]
    return away(pairs).max((-2, -1)) * nodes**2 / pairs.sum((-2, -1))


def wire(pairs: np.ndarray) -> np.ndarray:
    """The most that one node sends or receives over a node's mean tokens, own included.

    What a kernel waits for that does not pad. 0 for one node.

    Arguments:
        pairs: [..., nodes, nodes]; tokens.
    """
    return busiest(pairs) * pairs.shape[-1] / pairs.sum((-2, -1))


def pair_imbalance(pairs: np.ndarray) -> np.ndarray:
    """The largest message between two nodes over the mean of those messages; 1 where none is sent.

    Arguments:
        pairs: [..., nodes, nodes]; tokens.
    """
    nodes = pairs.shape[-1]
    messages = away(pairs)
    return _over(messages.max((-2, -1)) * nodes * (nodes - 1), messages.sum((-2, -1)))


def wire_imbalance(pairs: np.ndarray) -> np.ndarray:
    """The most that one node sends or receives over the mean of nodes; 1 where nothing is sent.

    Arguments:
        pairs: [..., nodes, nodes]; tokens.
    """
    return _over(busiest(pairs) * pairs.shape[-1], away(pairs).sum((-2, -1)))


def straggler(load: np.ndarray) -> np.ndarray:
    """The largest load over the mean.

    Arguments:
        load: [..., nodes or ranks]; what each has to do.
    """
    return load.max(-1) / load.mean(-1)


def away(pairs: np.ndarray) -> np.ndarray:
    """The tokens that leave their node, [..., nodes, nodes]: 0 from each node to itself.

    Arguments:
        pairs: [..., nodes, nodes]; tokens.
    """
    return np.where(np.eye(pairs.shape[-1], dtype=bool), 0.0, pairs)


def busiest(pairs: np.ndarray) -> np.ndarray:
    """The tokens that one node sends to others, or receives from them, the most of any: [...].

    Arguments:
        pairs: [..., nodes, nodes]; tokens.
    """
    messages = away(pairs)
    return np.maximum(messages.sum(-1).max(-1), messages.sum(-2).max(-1))


def _over(most: np.ndarray, sent: np.ndarray) -> np.ndarray:
    """The quotient; 1 where nothing is sent."""
    return np.where(sent > 0, most / np.where(sent > 0, sent, 1.0), 1.0)
