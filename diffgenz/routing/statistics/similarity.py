"""How alike the popularity of experts is: of domains, of windows of time.

The product of two vectors of shares, sum_e p_e q_e, is biased where both were estimated from the
same tokens, and short samples look unlike for noise alone. So products are taken over different
requests only: the mean over all pairs of groups g != h of sum_e p_ge q_he, each pair weighed by its
tokens. That is what splitting requests in halves does, with all splits at once. The cosine of such
products is unbiased by noise: 1 for two parts of the same popularity, however short.

The Jensen-Shannon divergence (in bits, 0 to 1) has no such form; it is computed from all tokens,
and its null is what noise gives. The nulls are of parts put together from groups at random.
"""

import numpy as np
from scipy.special import entr

from diffgenz.routing.statistics.measured import Measured, measured, redrawn

CHANCE = 10
"""How often parts are put together at random."""

Grams = dict[tuple[int, int], np.ndarray]
"""Products of groups, by pair of parts."""


def similarity(
    parts: np.ndarray, pairs: list[tuple[int, int]], rng: np.random.Generator
) -> list[dict[str, Measured]]:
    """Cosine and Jensen-Shannon divergence ("JS") of pairs of parts.

    Arguments:
        parts: [parts, groups, layers, experts]; counts.
        pairs: indices of parts.
        rng: of the draws.
    """
    drawn = redrawn(parts.sum(axis=(0, 2, 3)), rng)
    random = [(each, _grams(each, pairs), _sizes(each)) for each in _random_parts(parts, rng)]
    found = []
    grams, sizes = _grams(parts, pairs), _sizes(parts)
    ones = np.ones((1, parts.shape[1]))
    for a, b in pairs:
        cosine = _cosine(grams, sizes, a, b, ones)[0]
        divergence = _divergence(parts, a, b, ones)[0]
        draws = None if drawn is None else _cosine(grams, sizes, a, b, drawn)
        js_draws = None if drawn is None else _divergence(parts, a, b, drawn)
        null = js_null = np.full(parts.shape[2], np.nan)
        if random:
            null = np.mean([_cosine(gram, size, a, b, ones)[0] for _, gram, size in random], axis=0)
            js_null = np.mean([_divergence(each, a, b, ones)[0] for each, *_ in random], axis=0)
        found.append(
            {"cosine": measured(cosine, draws, null), "JS": measured(divergence, js_draws, js_null)}
        )
    return found


def plain(one: np.ndarray, two: np.ndarray, rng: np.random.Generator) -> dict[str, Measured]:
    """Cosine and divergence of counts that were not recorded by request: without an interval.

    The null is of two draws of as many choices from the popularity of both together.

    Arguments:
        one, two: [layers, experts]; counts.
        rng: of the draws.
    """
    pair = np.stack([one, two])
    share = pair.sum(axis=0) / pair.sum(axis=(0, 2))[:, None]
    sizes = np.round(pair.sum(axis=2)).astype(np.int64)
    random = [
        np.stack([[rng.multinomial(n, p) for n, p in zip(s, share, strict=True)] for s in sizes])
        for _ in range(CHANCE)
    ]
    ones = np.ones((1, 1))

    def cosine(counts: np.ndarray) -> np.ndarray:
        over = (counts[0] * counts[1]).sum(axis=1)
        return over / np.sqrt((counts[0] ** 2).sum(axis=1) * (counts[1] ** 2).sum(axis=1))

    def divergence(counts: np.ndarray) -> np.ndarray:
        return _divergence(counts[:, None], 0, 1, ones)[0]

    return {
        name: measured(of(pair), None, np.mean([of(r.astype(np.float64)) for r in random], axis=0))
        for name, of in (("cosine", cosine), ("JS", divergence))
    }


def _grams(parts: np.ndarray, pairs: list[tuple[int, int]]) -> Grams:
    """Products of groups of two parts, for pairs of parts and each part with itself.

    Those of a group with itself are 0: they are of the same requests. Each is [layers, groups,
    groups].
    """
    rows = parts.transpose(0, 2, 1, 3).astype(np.float64, order="C")
    found = {}
    for a, b in {*pairs, *((each, each) for pair in pairs for each in pair)}:
        gram = np.matmul(rows[a], rows[b].transpose(0, 2, 1))
        same = np.arange(gram.shape[1])
        gram[:, same, same] = 0
        found[a, b] = gram
    return found


def _sizes(parts: np.ndarray) -> np.ndarray:
    """Choices of each part's groups in each layer: [layers, parts, groups]."""
    return parts.sum(axis=3).transpose(2, 0, 1).astype(np.float64)


def _product(grams: Grams, sizes: np.ndarray, a: int, b: int, weights: np.ndarray) -> np.ndarray:
    """The product of shares over different groups: [draws, layers]."""
    over = np.einsum("wg,lgh,wh->wl", weights, grams[a, b], weights, optimize=True)
    one, two = (np.einsum("wg,lg->wl", weights, sizes[:, i]) for i in (a, b))
    same = np.einsum("wg,lg->wl", weights**2, sizes[:, a] * sizes[:, b])
    below = one * two - same
    return np.divide(over, below, out=np.full_like(over, np.nan), where=below > 0)


def _cosine(grams: Grams, sizes: np.ndarray, a: int, b: int, weights: np.ndarray) -> np.ndarray:
    """The cosine of two parts: [draws, layers]; NaN where a part is of a single group."""
    one, two = (_product(grams, sizes, i, i, weights) for i in (a, b))
    below = one * two
    root = np.sqrt(np.where(below > 0, below, np.nan))
    return _product(grams, sizes, a, b, weights) / root


def _divergence(parts: np.ndarray, a: int, b: int, weights: np.ndarray) -> np.ndarray:
    """The Jensen-Shannon divergence of two parts, in bits: [draws, layers]."""
    shares = []
    for part in (parts[a], parts[b]):
        flat = part.reshape(len(part), -1).astype(np.float64)
        counts = (weights @ flat).reshape(-1, *part.shape[1:])
        with np.errstate(invalid="ignore", divide="ignore"):
            shares.append(counts / counts.sum(axis=2, keepdims=True))
    p, q = shares
    return _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2


def _entropy(p: np.ndarray) -> np.ndarray:
    """The entropy of shares over the last axis, in bits."""
    return entr(p).sum(axis=-1) / np.log(2)


def _random_parts(parts: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Parts put together from groups at random, with about as many tokens each.

    The groups of all parts together are dealt to parts in proportion to their tokens; each keeps
    its number, so that products remain those of different requests.
    """
    number = len(parts)
    whole = parts.sum(axis=0)
    some = np.flatnonzero(whole.any(axis=(1, 2)))
    if len(some) < 2 * number:
        return []
    share = parts.sum(axis=(1, 2, 3)) / parts.sum()
    ends = np.round(np.cumsum(share) * len(some)).astype(int)
    starts = np.concatenate([[0], ends[:-1]])
    if np.any(ends - starts < 2):  # a small part: deal evenly
        ends = np.round(np.arange(1, number + 1) * len(some) / number).astype(int)
        starts = np.concatenate([[0], ends[:-1]])
    found = []
    for _ in range(CHANCE):
        order = rng.permutation(some)
        random = np.zeros_like(parts)
        for part, (start, end) in enumerate(zip(starts, ends, strict=True)):
            rows = order[start:end]
            random[part, rows] = whole[rows]
        found.append(random)
    return found
