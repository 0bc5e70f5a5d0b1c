"""How well prefill foretells decode: by layer over all requests, and request by request."""

import numpy as np

from diffgenz.routing.popularity import pearson
from diffgenz.routing.statistics.measured import Measured, measured, redrawn
from diffgenz.routing.statistics.request_phases import RequestPhases

SHUFFLED = 50
"""How often the experts of a phase are put in random order for the null."""


def pooled(counts: np.ndarray, rng: np.random.Generator) -> Measured | None:
    """Pearson's correlation over experts of the counts of both phases, all requests together.

    Its null has the experts of one phase in random order: 0 on average.

    Arguments:
        counts: [2, groups, layers, experts]; of prefill and decode.
        rng: of the draws.

    Returns:
        None where a phase has no tokens.
    """
    if not counts.any(axis=(1, 2, 3)).all():
        return None
    both = counts.sum(axis=1)
    drawn = redrawn(counts.sum(axis=(0, 2, 3)), rng)
    draws = None
    if drawn is not None:
        flat = counts.reshape(2, counts.shape[1], -1).astype(np.float64)
        again = (drawn @ flat).reshape(2, len(drawn), *counts.shape[2:])
        draws = pearson(again[0], again[1])
    shuffled = [pearson(both[0], rng.permuted(both[1], axis=1)) for _ in range(SHUFFLED)]
    return measured(pearson(both[0], both[1]), draws, np.mean(shuffled, axis=0))


def by_request(found: RequestPhases, rng: np.random.Generator) -> Measured | None:
    """The mean correlation of requests; its null is with another request's generated tokens.

    Arguments:
        found: the correlations.
        rng: of the draws.

    Returns:
        None where no request has enough tokens of both phases.
    """
    if not found.count.any():
        return None
    drawn = redrawn(found.count, rng)
    draws = None if drawn is None else (drawn @ found.own) / (drawn @ found.count)[:, None]
    null = found.other.sum(axis=0) / found.pairs.sum() if found.pairs.any() else np.nan
    return measured(found.own.sum(axis=0) / found.count.sum(), draws, null)
