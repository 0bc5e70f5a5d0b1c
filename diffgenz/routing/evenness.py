"""Whether a trace is what a router gives that finds all experts equally good.

Any finite trace of such a router has experts that are chosen more often than others, by chance. So
its numbers are compared with those of traces of as many tokens that were drawn from one.
"""

import numpy as np

from diffgenz.routing.coactivation import pairs_of
from diffgenz.routing.synthetic import Synthetic, synthesize
from diffgenz.routing.trace import Counts, Trace

TOKENS = 8192
"""Tokens of a trace that are looked at."""

_DRAWS = 12
"""Traces of a router without preferences that a trace is compared with."""

_FAR = 6.0
"""Standard deviations of the draws beyond which a trace is not even.

By chance one of the three sums of an even trace in 8,000 is so far, by Student's t of 12 draws.
"""

_PLAIN = 10.0
"""Variance over that of chance above which popularity alone says it, and nothing is drawn."""


def even(source: Trace | Counts, groups: int = 1, used_groups: int | None = None) -> bool:
    """Whether nothing tells a trace from uniform routing.

    Compared are the squares of how often each expert was chosen, of how often each request chose
    it, and of how often each pair of experts was chosen together, summed over layers. Counts tell
    the first only.

    Arguments:
        source: what was recorded.
        groups: groups of neighbouring experts of a group-limited router; 1: not limited.
        used_groups: groups that a token's experts are in; None: all.
    """
    counts = source.counts if isinstance(source, Counts) else source.counts("all")
    counts = counts.sum(0)
    layers, experts = counts.shape
    used = groups if used_groups is None else used_groups
    share = (source.k or 1) / experts
    if share == 1:
        return True
    mean = counts.mean(1, keepdims=True)
    variance = mean[:, 0] * (1 - share) * experts  # binomial, of all experts together
    over = float((((counts - mean) ** 2).sum(1) / variance).mean())
    if isinstance(source, Counts):
        free = ((groups if used < groups else experts) - 1) * layers
        return bool(abs(over - 1) < _FAR * np.sqrt(2 / max(free, 1)))
    if over > _PLAIN:
        return False
    part = source.select(slice(0, TOKENS))
    _, lengths = np.unique(part.request, return_counts=True)
    router = Synthetic(
        experts,
        source.k,
        tuple(range(layers)),
        popularity=0.0,
        popularity_spread=0.0,
        groups=groups,
        used_groups=used,
    )
    drawn = np.array(
        [
            _squares(synthesize(router, len(lengths), 0, lengths, seed=seed))
            for seed in range(_DRAWS)
        ]
    )
    apart = np.abs(_squares(part) - drawn.mean(0))
    return bool((apart <= _FAR * drawn.std(0, ddof=1) + 1e-9 * drawn.mean(0)).all())


def _squares(trace: Trace) -> np.ndarray:
    """The sums of squares that are compared."""
    counts = trace.counts("request")
    together = pairs_of(trace.chosen, trace.experts) if trace.k > 1 else np.zeros(1)
    return np.array([(counts.sum(0) ** 2).sum(), (counts**2).sum(), (together**2).sum()])
