"""The experts to which aiconfigurator's collectors send tokens.

They measure the first group of experts; what reaches it follows from their two rules.

Balanced: token t goes to the experts t + i ceil(experts / used).

Power laws: every expert's rows are drawn from x**-a between 1 and 0.8 tokens (between 0.01 and 2
where there are no more rows than experts), scaled to all rows and rounded. No expert gets more than
one row of each token. What is then missing goes to the least used experts of each group in turn,
and what is too much comes from the most used. The busiest group is put first. Collectors average
five such draws, of unknown seeds; here stand expected values, over `DRAWS` draws.
"""

import functools
from typing import NamedTuple

import numpy as np

from diffgenz.kernels.shapes import Number

DRAWS = 64
"""Draws over which expected values are taken."""


class Routed(NamedTuple):
    """Expected numbers of the measured group.

    Arguments:
        rows: pairs of a token and an expert of the group.
        active: experts of the group that have any row.
        touching: tokens that any of its experts has.
    """

    rows: Number
    active: Number
    touching: Number


@functools.cache
def balanced(tokens: int, used: int, experts: int, groups: int) -> Routed:
    """Tokens that are dealt out to experts one after the other."""
    stride, local = -(-experts // used), experts // groups
    rounds, rest = divmod(tokens, experts) if tokens >= stride else (0, tokens)
    step = 1 if tokens >= stride else stride / tokens
    first = np.arange(max(rest, experts if rounds else 0))[:, None] * step
    picks = ((first + np.arange(used) * stride) % experts).astype(int)
    rows = rounds * used + np.bincount(picks[:rest].ravel(), minlength=experts)[:local]
    touches = np.any(picks < local, axis=1, keepdims=True)
    touching = rounds * touches.sum() + touches[:rest].sum()
    return Routed(float(rows.sum()), float((rows > 0).sum()), float(touching))


@functools.cache
def power_law(exponent: float, tokens: int, used: int, experts: int, groups: int) -> Routed:
    """The busiest group where experts' rows follow a power law."""
    local, all_rows = experts // groups, tokens * used
    rows = np.minimum(_drawn(exponent, tokens, used, experts), tokens).reshape(DRAWS, groups, local)
    total, active = rows.sum(axis=2), (rows > 0).sum(axis=2)
    for _ in range(groups):  # once, unless some groups cannot take or give more
        missing = (all_rows - total.sum(axis=1))[:, None]
        if not missing.any():
            break
        room = np.where(missing > 0, tokens * local - total, total)
        open_, turn = room > 0, np.cumsum(room > 0, axis=1) - 1
        wanted = (np.abs(missing) - turn).clip(0) / open_.sum(axis=1, keepdims=True)
        share = np.minimum(np.where(open_, np.ceil(wanted), 0), room)
        total = total + np.sign(missing) * share
        active = np.where(missing > 0, np.minimum(local, active + share), np.minimum(active, total))
    first = np.arange(DRAWS), total.argmax(axis=1)
    touching = tokens * (1 - np.prod(1 - rows[first] / tokens, axis=1))
    return Routed(
        float(total[first].mean()),
        float(active[first].mean()),
        float(np.maximum(touching, np.minimum(total[first], 1)).mean()),
    )


@functools.lru_cache(64)
def _drawn(exponent: float, tokens: int, used: int, experts: int) -> np.ndarray:
    low, high = (1.0, 0.8 * tokens) if tokens * used > experts else (0.01, 2.0)
    seed = [tokens, used, experts, round(1000 * exponent)]
    uniform = np.random.default_rng(seed).random((DRAWS, experts))
    bounds = np.array([low, high]) ** (1 - exponent)
    shares = (bounds[0] + (bounds[1] - bounds[0]) * uniform) ** (1 / (1 - exponent))
    return np.round(shares / shares.sum(axis=1, keepdims=True) * (tokens * used))
