"""Which experts are chosen together: within a layer, and in successive layers.

The lift is how concentrated the pairs are: the sum over pairs of experts of their squared share of
all pairs, over the same for independent choices, whose share of a pair is the product of the
experts' shares. It is 1 for independent choices. Squares of noisy shares are biased, so that
products are taken over different requests only, as in `similarity.py`. The null has each of the k
choices of a layer (or all of them, for successive layers) dealt to the tokens in random order.

It is computed from a sample of tokens.
"""

import numpy as np

from diffgenz.routing.statistics.measured import Measured, measured, redrawn


def within(
    chosen: np.ndarray, group: np.ndarray, groups: int, experts: int, rng: np.random.Generator
) -> Measured | None:
    """The lift of pairs of different experts of a token in a layer.

    Arguments:
        chosen: [tokens, layers, k]; a sample, by group.
        group: [tokens]; the group of each token's request.
        groups: how many groups of requests there are.
        experts: routed experts per layer.
        rng: of the draws.

    Returns:
        None where tokens choose one expert, or there are fewer than two groups.
    """
    drawn = redrawn(np.bincount(group, minlength=groups), rng)
    if chosen.shape[2] < 2 or drawn is None:
        return None
    every, nulls = [], []
    for layer in range(chosen.shape[1]):
        ids = chosen[:, layer].astype(np.int64)
        every.append(_within_lift(ids, group, groups, experts, _weights(drawn)))
        mixed = rng.permuted(ids, axis=0)
        nulls.append(_within_lift(mixed, group, groups, experts, np.ones((1, groups))))
    return _of_layers(every, nulls)


def across(
    chosen: np.ndarray, group: np.ndarray, groups: int, experts: int, rng: np.random.Generator
) -> Measured | None:
    """The lift of pairs of experts of a token in a layer and in the next one recorded.

    Arguments:
        chosen: [tokens, layers, k]; a sample, by group.
        group: [tokens]; the group of each token's request.
        groups: how many groups of requests there are.
        experts: routed experts per layer.
        rng: of the draws.

    Returns:
        One value fewer than layers; None where there is one layer, or fewer than two groups.
    """
    drawn = redrawn(np.bincount(group, minlength=groups), rng)
    if chosen.shape[1] < 2 or drawn is None:
        return None
    every, nulls = [], []
    for layer in range(chosen.shape[1] - 1):
        one, two = (chosen[:, each].astype(np.int64) for each in (layer, layer + 1))
        every.append(_across_lift(one, two, group, groups, experts, _weights(drawn)))
        mixed = rng.permutation(two)
        nulls.append(_across_lift(one, mixed, group, groups, experts, np.ones((1, groups))))
    return _of_layers(every, nulls)


def _weights(drawn: np.ndarray) -> np.ndarray:
    """The weights of groups, [1 + draws, groups]: of the trace itself, and of each draw."""
    return np.vstack([np.ones(drawn.shape[1]), drawn])


def _of_layers(every: list[np.ndarray], nulls: list[np.ndarray]) -> Measured:
    """The lift of each layer from [1 + draws] lifts, its own first, and from that of its null."""
    lifts = np.stack(every, axis=1)
    return measured(lifts[0], lifts[1:], np.concatenate(nulls))


def _within_lift(
    ids: np.ndarray, group: np.ndarray, groups: int, experts: int, weights: np.ndarray
) -> np.ndarray:
    """The lift within a layer, for each row of weights of groups."""
    start = group.astype(np.int64)[:, None] * experts**2
    one, two = np.triu_indices(ids.shape[1], 1)
    pairs = np.bincount(
        (start + ids[:, one] * experts + ids[:, two]).ravel(), minlength=groups * experts**2
    )
    square = pairs.reshape(groups, experts, experts)
    square = square + square.transpose(0, 2, 1)
    square[:, np.arange(experts), np.arange(experts)] = 0
    share = _shares(weights @ square.sum(axis=2))
    power = (share**2).sum(axis=1)
    expected = (power**2 - (share**4).sum(axis=1)) / (1 - power) ** 2
    return _together(square, weights) / expected


def _across_lift(
    one: np.ndarray,
    two: np.ndarray,
    group: np.ndarray,
    groups: int,
    experts: int,
    weights: np.ndarray,
) -> np.ndarray:
    """The lift of two layers, for each row of weights of groups."""
    start = group.astype(np.int64)[:, None, None] * experts**2
    pairs = np.bincount(
        (start + one[:, :, None] * experts + two[:, None]).ravel(), minlength=groups * experts**2
    )
    square = pairs.reshape(groups, experts, experts)
    first, second = (_shares(weights @ square.sum(axis=axis)) for axis in (2, 1))
    return _together(square, weights) / ((first**2).sum(axis=1) * (second**2).sum(axis=1))


def _together(square: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The sum of squared shares of pairs, of different groups, for each row of weights."""
    rows = square.reshape(len(square), -1).astype(np.float32)
    gram = (rows @ rows.T).astype(np.float64)
    np.fill_diagonal(gram, 0)
    size = square.sum(axis=(1, 2))
    over = np.einsum("wg,gh,wh->w", weights, gram, weights, optimize=True)
    below = (weights @ size) ** 2 - weights**2 @ size**2
    return np.divide(over, below, out=np.full_like(over, np.nan), where=below > 0)


def _shares(counts: np.ndarray) -> np.ndarray:
    """Counts over their sum."""
    total = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, total, out=np.full_like(counts, np.nan), where=total > 0)
