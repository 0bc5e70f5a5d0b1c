"""Exchanging experts between nodes while an objective falls; nodes keep their numbers of experts.

Each sweep knows the change by every swap of two experts. Swaps are taken in order of their gain
while no two touch the same node: their effects on sums over nodes then simply add.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import comb

import numpy as np

Changes = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""The change by each swap: (layers' indices [l], node of each expert [l, experts]) -> [l, e, e]."""

Value = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""The objective: (layers' indices [l], node of each expert [l, experts]) -> [l]."""

_LEAST = 1e-5  # lesser gains are noise: in float32, and in any trace
_WORTH = 0.1  # swaps of a sweep gain at least this part of the best one
_PIECE = 2**18  # multiplications of one product: OpenBLAS does not divide as few
_BLOCK = 2**18  # numbers of one block of layers: what stays in a core's cache


def descend(node_of: np.ndarray, nodes: int, changes: Changes, value: Value) -> np.ndarray:
    """The node of each expert, [layers, experts], when no swap lowers the objective any more.

    Arguments:
        node_of: [layers, experts]; the start.
        nodes: nodes.
        changes: by each swap of a pair of experts.
        value: the objective, lower being better.
    """
    layers, experts = node_of.shape
    size = max(1, _BLOCK // experts**2)
    blocks = [np.arange(at, min(at + size, layers)) for at in range(0, layers, size)]
    pool = ThreadPoolExecutor(min(len(blocks), os.cpu_count() or 1))
    try:
        jobs = [
            pool.submit(_descended, block, node_of[block], nodes, changes, value)
            for block in blocks
        ]
        return np.concatenate([job.result() for job in jobs])
    finally:
        pool.shutdown(cancel_futures=True)


def _descended(
    layers: np.ndarray, start: np.ndarray, nodes: int, changes: Changes, value: Value
) -> np.ndarray:
    node_of = start.copy()
    best = value(layers, node_of)
    active = np.arange(len(layers))
    while len(active):
        now = node_of[active]
        change = changes(layers[active], now)
        many, single, least = _swapped(now, change, nodes)
        reached = value(layers[active], many)
        alone = best[active] + least
        take = np.where((alone < reached)[:, None], single, many)
        reached = np.minimum(alone, reached)
        better = reached < best[active] - _LEAST
        active, take = active[better], take[better]
        node_of[active], best[active] = take, reached[better]
    return node_of


def _swapped(
    node_of: np.ndarray, change: np.ndarray, nodes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nodes after the best swaps of disjoint nodes, after the very best alone, its change."""
    rows = np.arange(len(node_of))
    partner = change.argmin(2)
    gain = np.take_along_axis(change, partner[..., None], 2)[..., 0].astype(np.float64)
    node_of_partner = np.take_along_axis(node_of, partner, 1)
    gain[node_of == node_of_partner] = np.inf
    least = np.minimum(gain.min(1), 0)
    worth = np.minimum(_WORTH * gain.min(1), -_LEAST)
    after = node_of.copy()
    single = node_of
    for turn in range(nodes // 2):
        first = gain.argmin(1)
        takes = gain[rows, first] <= worth
        if not takes.any():
            break
        at, one, other = rows[takes], first[takes], partner[rows, first][takes]
        here, there = node_of[at, one], node_of[at, other]
        after[at, one], after[at, other] = there, here
        for node in (here[:, None], there[:, None]):
            used = (node_of[at] == node) | (node_of_partner[at] == node)
            gain[at] = np.where(used, np.inf, gain[at])
        if not turn:
            single = after.copy()
    return after, single, least


def column_sums(values: np.ndarray, node_of: np.ndarray, nodes: int) -> np.ndarray:
    """[l, ..., nodes]; sums over the experts of each node.

    Arguments:
        values: [l, ..., experts].
        node_of: [l, experts]; the node of each expert; every node has equally many.
        nodes: nodes.
    """
    order = np.argsort(node_of, axis=1, kind="stable")
    order = order.reshape(len(order), *(1,) * (values.ndim - 2), -1)
    ordered = np.take_along_axis(values, order, -1)
    return ordered.reshape(*values.shape[:-1], nodes, -1).sum(-1)


def load_norm(load: np.ndarray, node_of: np.ndarray, nodes: int, power: int | None) -> np.ndarray:
    """The power mean of the nodes' loads, or their largest; 1 where all are equal: [l].

    Arguments:
        load: [l, experts]; the part of all tokens that chooses each expert, times nodes.
        node_of: [l, experts]; the node of each expert.
        nodes: nodes.
        power: of the mean, a power of two; None: the maximum.
    """
    total = column_sums(load, node_of, nodes)
    return total.max(1) if power is None else root(raised(total, power).mean(1), power)


def load_changes(
    load: np.ndarray, node_of: np.ndarray, nodes: int, power: int | None
) -> np.ndarray:
    """The change of `load_norm` by each swap: [l, experts, experts].

    Arguments:
        load: [l, experts]; the part of all tokens that chooses each expert, times nodes.
        node_of: [l, experts]; the node of each expert.
        nodes: nodes.
        power: of the mean, a power of two; None: the maximum.
    """
    total = column_sums(load, node_of, nodes)
    without = np.take_along_axis(total, node_of, 1) - load
    if power is None:
        swapped = without[:, :, None] + load[:, None, :]  # the load of e1's node with e2 instead
        rest = over_others(total, node_of)
        largest = np.maximum(np.maximum(swapped, swapped.swapaxes(1, 2)), rest)
        return largest - total.max(1)[:, None, None]
    old = raised(total, power)
    scale = 1 / np.maximum(old.sum(1, keepdims=True), np.finfo(np.float32).tiny)
    here = np.stack([comb(power, k) * scale * without ** (power - k) for k in range(power + 1)], 2)
    there = np.stack([load**k for k in range(power + 1)], 2)
    gone = (0.5 - scale * np.take_along_axis(old, node_of, 1))[:, :, None]
    one = np.ones_like(gone)
    # Both nodes' new powers and all the others', over the old sum: one product of few terms.
    left = np.concatenate([here, there, gone, one], 2)
    right = np.concatenate([there, here, one, gone], 2)
    ratio = product(left, right.swapaxes(1, 2))
    return _norm_changes(ratio, root(old.mean(1), power), power)


def replaced(without: np.ndarray, load: np.ndarray, counts: np.ndarray, power: int) -> np.ndarray:
    """The sums over terms of (without + load)^power for all pairs of experts: [l, e1, e2].

    By the binomial theorem it is a matrix product over (exponent, term).

    Arguments:
        without: [l, e1, terms]; the sums of e1's node without e1.
        load: [l, terms, e2]; what e2 adds to them.
        counts: [l, e1, terms]; 1 for the terms that count for e1; `without` is 0 where it is 0.
        power: a power of two.
    """
    left, right = [counts], [np.ones_like(load)]
    for _ in range(power):
        left.append(left[-1] * without)
        right.append(right[-1] * load)
    weighted = [comb(power, k) * left[power - k] for k in range(power + 1)]
    return product(np.concatenate(weighted, axis=2), np.concatenate(right, axis=1))


def product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The matrix product of each layer, in pieces so small that BLAS starts no threads for them.

    Layers are already spread over threads: more of them would wait for each other.

    Arguments:
        left: [l, rows, inner].
        right: [l, inner, columns].
    """
    layers, rows, inner = left.shape
    size = rows
    while size % 2 == 0 and size * inner * right.shape[2] > _PIECE:
        size //= 2
    pieces = left.reshape(layers, rows // size, size, inner) @ right[:, None]
    return pieces.reshape(layers, rows, -1)


def norm_change(change: np.ndarray, total: np.ndarray, count: int, power: int) -> np.ndarray:
    """The change of (total / count)^(1 / power) when `total` changes: [l, experts, experts].

    Arguments:
        change: [l, experts, experts]; of the sum of powers. It is overwritten.
        total: [l]; the sum of powers.
        count: of the terms of the sum.
        power: a power of two.
    """
    total = np.maximum(total, np.finfo(np.float32).tiny)
    change *= 1 / total[:, None, None]
    change += 1
    return _norm_changes(change, root(total / count, power), power)


def _norm_changes(ratio: np.ndarray, norm: np.ndarray, power: int) -> np.ndarray:
    """The change of a norm, [l], by the ratio of sums of powers, new to old. It is overwritten."""
    np.maximum(ratio, 0, out=ratio)
    while power > 1:
        np.sqrt(ratio, out=ratio)
        power //= 2
    ratio -= 1
    ratio *= norm[:, None, None]
    return ratio


def over_others(column: np.ndarray, node_of: np.ndarray) -> np.ndarray:
    """The largest of all nodes but those of two experts, at least 0: [l, experts, experts].

    Arguments:
        column: [l, nodes]; a number of each node.
        node_of: [l, experts]; the node of each expert.
    """
    nodes = column.shape[1]
    left = np.arange(nodes) != np.arange(nodes)[:, None]
    others = left[:, None, :] & left[None, :, :]
    rest = np.where(others, column[:, None, None, :], 0).max(-1)
    rows = np.arange(len(column))[:, None, None]
    return rest[rows, node_of[:, :, None], node_of[:, None, :]]


def raised(values: np.ndarray, power: int) -> np.ndarray:
    """The values to a power of two."""
    while power > 1:
        values = values * values
        power //= 2
    return values


def root(values: np.ndarray, power: int) -> np.ndarray:
    """The root of the values, of a power of two."""
    while power > 1:
        values = np.sqrt(values)
        power //= 2
    return values
