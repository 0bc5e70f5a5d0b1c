"""How good a placement can be at all: lower bounds, and proved optima of small cases.

All are without replicas, nodes having equally many experts.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array, csr_array, vstack

from diffgenz.core.errors import InputError
from diffgenz.routing.locality import Objective, assigned
from diffgenz.routing.parts import parts
from diffgenz.routing.swaps import column_sums


class Least(NamedTuple):
    """What no placement without replicas is below, each by itself: [layers].

    Arguments:
        inter: the part of the tokens that leaves its node; a placement reaches it.
        largest_pair: the largest message between nodes over the mean of all pairs.
        node_straggler: the largest load of a node over the mean.
    """

    inter: np.ndarray
    largest_pair: np.ndarray
    node_straggler: np.ndarray


def least(counts: np.ndarray) -> Least:
    """Lower bounds of what is measured.

    The first is that of exact assignment. A message is at least the mean of those that have to be
    sent; and an expert's second-largest user sends it all its tokens. A load is at least the mean,
    and that of the heaviest expert with the lightest others.

    Arguments:
        counts: [layers, nodes, experts]; tokens of each node's requests that choose each expert;
            nodes divide the experts.
    """
    part = parts(counts).astype(np.float64)
    nodes, experts = part.shape[1:]
    if nodes == 1:
        zero = np.zeros(len(part))
        return Least(zero, zero, zero + 1)
    own = np.trace(column_sums(part, assigned(part), nodes), axis1=1, axis2=2)
    second = np.sort(part, axis=1)[:, -2].max(1)
    ordered = np.sort(part.sum(1), axis=1)
    heaviest = ordered[:, -1] + ordered[:, : experts // nodes - 1].sum(1)
    mean = (1 - own) / (nodes * (nodes - 1))
    return Least(1 - own, nodes**2 * np.maximum(second, mean), np.maximum(1.0, nodes * heaviest))


class Optimum(NamedTuple):
    """The best placement of one layer that was found, and what none is below.

    Arguments:
        value: the objective of the placement, with the largest message and load themselves.
        bound: no placement has less; value where it is proved to be the optimum.
        node_of: [experts]; the node of each expert.
    """

    value: float
    bound: float
    node_of: np.ndarray


def optimum(counts: np.ndarray, objective: Objective, seconds: float = 10.0) -> Optimum:
    """The placement of one layer of least objective, by mixed-integer programming.

    The largest message and the largest load are themselves in the objective (power None).

    Arguments:
        counts: [nodes, experts]; tokens of each node's requests that choose each expert; at least
            two nodes, which divide the experts.
        objective: the weights.
        seconds: s after which the best so far is returned, above 0.

    Raises:
        InputError: nothing was found in that time.
    """
    nodes, experts = counts.shape
    part = parts(counts[None])[0].astype(np.float64)
    places = experts * nodes  # x[e, n] is 1 where expert e is on node n; then the two maxima
    expert, node = np.divmod(np.arange(places), nodes)
    cost = np.concatenate([-part[node, expert] / (1 - 1 / nodes), [objective.pair, objective.load]])
    once = _rows(expert, np.arange(places), np.ones(places), experts, places + 2)
    full = _rows(node, np.arange(places), np.ones(places), nodes, places + 2)
    at_most = []
    for to in range(nodes):
        here = np.flatnonzero(node == to)
        sums = [(nodes * part.sum(0), places + 1)]
        sums += [(nodes**2 * part[sender], places) for sender in range(nodes) if sender != to]
        for values, largest in sums:
            columns, row = np.append(here, largest), np.zeros(experts + 1, int)
            at_most.append(_rows(row, columns, np.append(values, -1.0), 1, places + 2))
    maxima = vstack(at_most)
    limits: Any = (np.zeros(places + 2), np.append(np.ones(places), [np.inf, np.inf]))
    found = milp(
        cost,
        integrality=np.append(np.ones(places), [0, 0]),
        bounds=Bounds(*limits),
        constraints=[
            LinearConstraint(once, 1, 1),
            LinearConstraint(full, experts // nodes, experts // nodes),
            LinearConstraint(maxima, -np.inf, 0),
        ],
        options={"time_limit": seconds, "mip_rel_gap": 1e-6},
    )
    if found.x is None:
        raise InputError(f"seconds: no placement was found in {seconds:g} s; give more time")
    node_of = found.x[:places].reshape(experts, nodes).argmax(1)
    constant = 1 / (1 - 1 / nodes)
    exact = Objective(objective.pair, objective.load, None)
    value = float(exact.value(part[None], node_of[None])[0])
    return Optimum(value, min(value, float(found.mip_dual_bound) + constant), node_of)


def _rows(
    row: np.ndarray, column: np.ndarray, value: np.ndarray, rows: int, columns: int
) -> csr_array:
    """A sparse matrix of a constraint's rows."""
    return csr_array(coo_array((value, (row, column)), shape=(rows, columns)))
