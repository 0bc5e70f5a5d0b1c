"""How unequally experts are chosen: of the whole, of windows of time, of batches.

Of the counts n_e of E experts with mean m: max/mean; the coefficient of variation, their standard
deviation over m; the Gini coefficient, sum |n_e - n_f| / (2 E^2 m), from 0 to 1 - 1/E; the entropy
of their shares over ln E, from 0 to 1; the share of experts that are active, with a count above 0.

The null is that of equally popular experts: each token chooses k different ones at random. Batches
of few tokens are unequal by chance alone (a step of 193 tokens over 128 experts has a Gini of .44).
"""

import numpy as np
from scipy.special import entr

from diffgenz.routing.popularity import gini
from diffgenz.routing.statistics.measured import Measured, measured, redrawn

MEASURES = ("max/mean", "CV", "Gini", "entropy", "active")
"""What is measured, in this order."""

SIZES = (16, 64, 256, 1024)
"""Tokens of the batches that are looked at."""

EXACT = 4096
"""Tokens up to which the null is drawn token by token."""

CHANCE = 64
"""How often the null is drawn."""

BATCHES, REDRAWN, EACH = 32, 20, 4
"""Batches for the value; how often requests are drawn again, and batches from each."""


def measures(counts: np.ndarray) -> np.ndarray:
    """The measures of counts: [len(MEASURES), ...]; NaN where nothing was counted.

    Arguments:
        counts: [..., experts].
    """
    experts = counts.shape[-1]
    total = counts.sum(axis=-1, keepdims=True, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = counts / total
    most = share.max(axis=-1)
    return np.stack(
        [
            most * experts,
            np.std(share, axis=-1) * experts,
            gini(share),
            entr(share).sum(axis=-1) / np.log(experts) if experts > 1 else most,
            np.where(total[..., 0] > 0, (counts > 0).mean(axis=-1), np.nan),
        ]
    )


def chance(
    tokens: int, experts: int, k: int, rng: np.random.Generator, draws: int = CHANCE
) -> np.ndarray:
    """Counts of tokens that each choose k different experts at random: [draws, experts].

    Exact up to `EXACT` tokens; beyond, from the normal distribution with the same covariance.

    Arguments:
        tokens: how many.
        experts: E.
        k: how many each token chooses.
        rng: of the draws.
        draws: how many.
    """
    if tokens > EXACT:
        noise = rng.standard_normal((draws, experts))
        noise -= noise.mean(axis=1, keepdims=True)
        share = k / experts
        spread = np.sqrt(tokens * share * (1 - share) * experts / max(experts - 1, 1))
        return np.maximum(tokens * share + spread * noise, 0)
    out = np.zeros((draws, experts))
    for row in out:
        ids = np.argpartition(rng.random((tokens, experts)), k - 1, axis=1)[:, :k]
        row += np.bincount(ids.ravel(), minlength=experts)
    return out


def imbalance(counts: np.ndarray, k: int | None, rng: np.random.Generator) -> dict[str, Measured]:
    """The measures of all tokens, by name.

    Arguments:
        counts: [groups, layers, experts]; of random groups of requests.
        k: how many experts a token chooses; None: not known, taken as 1 in the null.
        rng: of the draws.
    """
    groups, layers, experts = counts.shape
    total = counts.sum(axis=0)
    drawn = redrawn(counts.sum(axis=(1, 2)), rng)
    draws = None
    if drawn is not None:
        flat = counts.reshape(groups, -1).astype(np.float64)
        draws = measures((drawn @ flat).reshape(-1, layers, experts))
    tokens = round(float(total.sum(axis=1).max()) / (k or 1))
    null = measures(chance(max(tokens, 1), experts, k or 1, rng)).mean(axis=1)
    return {
        name: measured(value, None if draws is None else draws[i], null[i])
        for i, (name, value) in enumerate(zip(MEASURES, measures(total), strict=True))
    }


def batches(
    chosen: np.ndarray,
    request: np.ndarray,
    group: np.ndarray,
    experts: int,
    rng: np.random.Generator,
) -> dict[int, dict[str, Measured]]:
    """The measures of batches, by their tokens: means over random batches.

    The tokens of a batch are of different requests, as in a decode step, where requests are many.

    Arguments:
        chosen: [tokens, layers, k]; a sample of tokens.
        request: [tokens].
        group: [tokens]; the group of each token's request.
        experts: routed experts per layer.
        rng: of the draws.
    """
    found: dict[int, dict[str, Measured]] = {}
    drawn = redrawn(np.bincount(group), rng, REDRAWN)
    pools = [np.arange(len(request))] * BATCHES
    for row in drawn if drawn is not None else ():
        pools += [np.repeat(pools[0], row[group].astype(np.int64))] * EACH
    for size in SIZES:
        if size > len(request):
            break
        rows = np.stack([_batch(pool, request, size, rng) for pool in pools])
        counts = np.empty((len(pools), chosen.shape[1], experts))
        cell = np.repeat(np.arange(len(pools)), size)[:, None] * experts
        for layer in range(chosen.shape[1]):
            flat = (cell + chosen[rows.ravel(), layer]).ravel()
            counts[:, layer] = np.bincount(flat, minlength=len(pools) * experts).reshape(
                -1, experts
            )
        each = measures(counts)
        null = measures(chance(size, experts, chosen.shape[2], rng)).mean(axis=1)
        draws = each[:, BATCHES:].reshape(len(MEASURES), -1, EACH, chosen.shape[1]).mean(axis=2)
        value = each[:, :BATCHES].mean(axis=1)
        found[size] = {
            name: measured(value[i], draws[i] if draws.size else None, null[i])
            for i, name in enumerate(MEASURES)
        }
    return found


def _batch(
    pool: np.ndarray, request: np.ndarray, size: int, rng: np.random.Generator
) -> np.ndarray:
    """Tokens of one batch: at random; of different requests where these are many more.

    Arguments:
        pool: indices of tokens; more than once where their request was drawn so often.
        request: [tokens]; of all tokens.
        size: how many.
        rng: of the draw.
    """
    some = rng.choice(pool, min(8 * size, len(pool)), replace=False)
    first = np.sort(np.unique(request[some], return_index=True)[1])
    return some[first[:size]] if len(first) >= 3 * size else some[:size]
