"""What placement starts from: the part of a layer's tokens that goes from each node to each expert.

Experts that nobody chooses are added where nodes do not divide their number.
"""

import numpy as np


def filled(values: np.ndarray, nodes: int) -> np.ndarray:
    """The values with zeros for experts that nobody chooses, so that nodes divide their number.

    Arguments:
        values: [..., experts].
        nodes: nodes.
    """
    missing = -values.shape[-1] % nodes
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)]) if missing else values


def filled_nodes(node_of: np.ndarray, nodes: int) -> np.ndarray:
    """The nodes of experts, and for those that `filled` adds the nodes that lack one.

    Arguments:
        node_of: [layers, experts]; the node of each expert.
        nodes: nodes.
    """
    missing = -node_of.shape[1] % nodes
    if not missing:
        return node_of
    lacks = -(-node_of.shape[1] // nodes) - (node_of[:, :, None] == np.arange(nodes)).sum(1)
    more = np.repeat(np.tile(np.arange(nodes), len(node_of)), lacks.reshape(-1))
    return np.concatenate([node_of, more.reshape(len(node_of), missing)], axis=1)


def parts(counts: np.ndarray) -> np.ndarray:
    """Counts of each layer over their sum, in float32; a layer without tokens stays 0.

    Arguments:
        counts: [layers, nodes, experts].
    """
    total = counts.sum((1, 2), keepdims=True)
    return (counts / np.where(total > 0, total, 1)).astype(np.float32)
