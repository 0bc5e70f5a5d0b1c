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
    return _away(pairs).max((-2, -1)) * nodes**2 / pairs.sum((-2, -1))


def wire(pairs: np.ndarray) -> np.ndarray:
    """The most that one node sends or receives over a node's mean tokens, own included.

    What a kernel waits for that does not pad. 0 for one node.

    Arguments:
        pairs: [..., nodes, nodes]; tokens.
    """
    away = _away(pairs)
    busiest = np.maximum(away.sum(-1).max(-1), away.sum(-2).max(-1))
    return busiest * pairs.shape[-1] / pairs.sum((-2, -1))


def straggler(load: np.ndarray) -> np.ndarray:
    """The largest load over the mean.

    Arguments:
        load: [..., nodes or ranks]; what each has to do.
    """
    return load.max(-1) / load.mean(-1)


def _away(pairs: np.ndarray) -> np.ndarray:
    """The tokens that leave their node; 0 for the others."""
    return np.where(np.eye(pairs.shape[-1], dtype=bool), 0.0, pairs)
