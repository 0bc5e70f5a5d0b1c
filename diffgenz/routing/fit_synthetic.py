"""Fitting the generative model of routing: parameters with which its traces have given moments.

Each parameter has a moment that mostly depends on it, and is free where that moment is known. The
moments of a drawn trace are smooth enough in the parameters to be fitted by least squares, because
every draw has the same random numbers (`synthetic._Draw`).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import least_squares
from scipy.special import erfinv, ndtri

from diffgenz.core.errors import InputError
from diffgenz.routing.moments import NAMES, Moments, moments
from diffgenz.routing.popularity import gini
from diffgenz.routing.synthetic import Synthetic, synthesize
from diffgenz.routing.trace import DECODE, PREFILL, Counts, Trace

_PARAMETERS = {
    "popularity": "gini",
    "domain": "domain_cosine",
    "request": "same_domain",
    "private": "participation",
    "prefill": "prefill_pearson",
    "prefill_request": "request_pearson",
    "block_bonus": "lift",
}
"""The moment that mostly depends on each parameter. With blocks, `concentration` takes the place of
`request`, as requests that differ in their blocks differ enough."""

_RANGE = (0.01, 4.0)
_RANGES = {"concentration": (0.1, 30.0), "block_bonus": (0.1, 12.0)}
"""Where parameters are looked for; a logarithm of 4 is a factor of 55 between experts, and beyond
the ends a trace hardly changes."""

_MATCHED = tuple(name for name in NAMES if name != "peak")
"""The moments that are fitted: all but the share of one expert, which is mostly noise."""

_LEAST_LIFT = 1.1
"""The lift above which a trace is given blocks of experts that are chosen together."""

_SMALL = 0.05
"""Moments far above it count by their relative error, those far below by their absolute one."""

_REQUESTS, _TOKENS = 64, 40_000
"""Of a large trace, requests until so many of both are reached; of longer ones the beginning."""

_DRAWS, _LAYERS = 4, 4
"""Moments are the mean over so many draws of at most so many layers each."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """How long requests are, and of which domain: what moments of short requests depend on.

    Arguments:
        prefill_tokens: [requests]; prompt tokens of each.
        decode_tokens: [requests]; generated tokens of each.
        domain: [requests]; the index of its domain.
    """

    prefill_tokens: Any
    decode_tokens: Any
    domain: Any

    def draw(self, synthetic: Synthetic, seed: int) -> Trace:
        """A trace of these requests."""
        count = len(self.prefill_tokens)
        lengths = (self.prefill_tokens, self.decode_tokens)
        return synthesize(synthetic, count, *lengths, domain=self.domain, seed=seed)


def log_normal_lengths(requests: int, median: float, spread: float, longest: int) -> np.ndarray:
    """Lengths of requests as they come: [requests], the quantiles of a log-normal distribution.

    Arguments:
        requests: how many.
        median: of the lengths, at least 1.
        spread: standard deviation of their logarithm, at least 0.
        longest: none is longer; none is shorter than 1.
    """
    quantiles = ndtri((np.arange(requests) + 0.5) / requests)
    return np.clip(np.round(median * np.exp(spread * quantiles)), 1, longest).astype(np.int64)


def fit_synthetic(
    trace: Trace,
    start: Synthetic | None = None,
    *,
    seed: int = 0,
    progress: Callable[[int], Any] | None = None,
) -> Synthetic:
    """The generative model with the moments of a trace.

    Of a large trace, some hundred requests are used.

    Arguments:
        trace: at least one token.
        start: where the structure comes from: factors, partitions, blocks and groups. Default: two
            partitions into 8 blocks, of which a token is in 2, where experts are chosen together;
            else none; groups are not limited.
        seed: of the random numbers of the draws, and of which requests are used.
        progress: called with the number of traces drawn, after each.

    Raises:
        InputError: the trace has no tokens.
    """
    some = _some(trace, seed)
    target = moments(some)
    if start is None:
        blocks = trace.k > 1 and target.lift > _LEAST_LIFT and trace.experts >= 8
        start = Synthetic(trace.experts, trace.k, trace.layers, trace.domains, model=trace.model)
        if blocks:
            start = dataclasses.replace(start, partitions=2, blocks=8, block_choices=2)
    pooled = some.counts("all")[0]
    layers = _of_gini(gini(pooled))
    spread = float(np.std(np.log(layers), ddof=1)) if len(layers) > 1 else 0.0
    basis = start.basis | {"popularity_spread": "fitted"}
    start = dataclasses.replace(start, popularity_spread=round(spread, 4), basis=basis)
    return fit_moments(target, start, layout_of(some), seed=seed, progress=progress)


def fit_moments(
    target: Moments,
    start: Synthetic,
    layout: Layout,
    *,
    seed: int = 0,
    progress: Callable[[int], Any] | None = None,
) -> Synthetic:
    """The generative model with given moments.

    Arguments:
        target: the moments; parameters of those that are NaN stay as they are.
        start: where all else comes from, and where parameters that are not fitted do.
        layout: the requests that the moments are of.
        seed: of the random numbers of the draws.
        progress: called with the number of traces drawn, after each.

    Raises:
        InputError: no moment is known.
    """
    names = _free(target, start)
    if not names:
        raise InputError("target: no moment is known; give gini at least")
    known = [name for name in _MATCHED if not np.isnan(getattr(target, name))]
    wanted = np.array([getattr(target, name) for name in known])
    few = start.select(start.layers[:: -(-len(start.layers) // _LAYERS)])
    few = dataclasses.replace(few, popularity_spread=0.0)  # of few layers it would be noise
    first = _closed_forms(target, start)
    drawn = 0

    def residuals(logarithms: np.ndarray) -> np.ndarray:
        nonlocal drawn
        values = dict(zip(names, map(float, np.exp(logarithms)), strict=True))
        model = dataclasses.replace(few, **values)
        have = [moments(layout.draw(model, seed + draw)) for draw in range(_DRAWS)]
        drawn += _DRAWS
        if progress is not None:
            progress(drawn)
        got = np.mean([[getattr(each, name) for name in known] for each in have], axis=0)
        return (np.nan_to_num(got) - wanted) / (_SMALL + np.abs(wanted))

    low, high = np.log([_RANGES.get(name, _RANGE) for name in names]).T
    begin = np.clip(np.log([first[name] for name in names]), low + 0.01, high - 0.01)
    found = least_squares(
        residuals, begin, bounds=(low, high), diff_step=0.1, x_scale=0.3, max_nfev=12
    )
    values = dict(zip(names, (round(float(x), 4) for x in np.exp(found.x)), strict=True))
    basis = start.basis | dict.fromkeys(names, "fitted")
    return dataclasses.replace(start, **values, basis=basis)


def fit_counts(counts: Counts, k: int | None = None) -> Synthetic:
    """The generative model of counts per domain, layer by layer, in closed form.

    The variance over domains of the logarithm of an expert's weight is that of domains; the
    variance over experts of its mean is that of popularity, plus that of the mean of so many
    domains. An expert of weight w is among the k of a token with a probability of about
    1 - exp(-w t) for one t (Rosen, Asymptotic theory for order sampling, 1997).

    Arguments:
        counts: of two domains or more; every expert was chosen at least once in each.
        k: experts that a token chooses. Default: that of `counts`, else 1.

    Raises:
        InputError: fewer than two groups, groups that are not domains, or an expert that was never
            chosen.
    """
    if counts.by != "domain" or len(counts.groups) < 2:
        raise InputError(
            f"counts: have {len(counts.groups)} groups by {counts.by}; give counts of two domains "
            "or more"
        )
    if not counts.counts.all():
        raise InputError("counts: an expert was never chosen; give counts of more tokens")
    picks = k or counts.k or 1
    share = picks * counts.counts / counts.counts.sum(2, keepdims=True)
    if share.max() >= 1:
        raise InputError(
            f"counts: an expert has {share.max() / picks:.0%} of all choices, more than tokens of "
            f"{picks} different experts can give it; give the k of these counts"
        )
    logs = np.log(share if picks == 1 else -np.log1p(-share))
    logs -= logs.mean(2, keepdims=True)
    of_domains = logs.var(0, ddof=1).mean(1)
    popularity = np.maximum(logs.mean(0).var(1, ddof=1) - of_domains / len(logs), 0)
    values = (tuple(round(float(x), 4) for x in np.sqrt(v)) for v in (popularity, of_domains))
    return Synthetic(
        counts.experts,
        picks,
        counts.layers,
        counts.groups,
        **dict(zip(("popularity", "domain"), values, strict=True)),
        popularity_spread=0.0,
        model=counts.model,
        basis=dict.fromkeys(("popularity", "domain"), "fitted"),
    )


def layout_of(trace: Trace) -> Layout:
    """How long the requests of a trace are; each is of the domain of its last token."""
    numbers, request = np.unique(trace.request, return_inverse=True)
    domain = np.zeros(len(numbers), np.int64)
    domain[request] = trace.domain
    prefill, decode = (
        np.bincount(request[trace.phase == phase], minlength=len(numbers))
        for phase in (PREFILL, DECODE)
    )
    return Layout(prefill, decode, domain)


def _some(trace: Trace, seed: int) -> Trace:
    """All of a trace or, of a large one, requests drawn at random; of long ones the beginning."""
    numbers, lengths = np.unique(trace.request, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(numbers))
    enough = int(np.searchsorted(np.cumsum(lengths[order]), _TOKENS))
    count = min(max(enough, _REQUESTS), len(numbers))
    if count < len(numbers):
        trace = trace.select(requests=numbers[order[:count]])
    if trace.tokens <= _TOKENS:
        return trace
    share = _TOKENS / trace.tokens
    keep = np.zeros(trace.tokens, bool)
    order = np.lexsort((trace.phase, trace.request))
    group = trace.request[order].astype(np.int64) * 2 + trace.phase[order]
    first = np.searchsorted(group, group)
    length = np.searchsorted(group, group, side="right") - first
    keep[order] = np.arange(trace.tokens) - first < np.ceil(share * length)
    return trace.select(keep)


def _free(target: Moments, start: Synthetic) -> list[str]:
    """The parameters that the known moments determine."""
    names = [name for name, of in _PARAMETERS.items() if not np.isnan(getattr(target, of))]
    if not start.partitions:
        return [name for name in names if name != "block_bonus"]
    return ["concentration" if name == "request" else name for name in names]


def _closed_forms(target: Moments, start: Synthetic) -> dict[str, float]:
    """Where to begin: what log-normal weights would have, apart from all others."""
    popularity = float(np.mean(start.popularity))
    if not np.isnan(target.gini):
        popularity = float(_of_gini(target.gini))

    def of_ratio(ratio: float) -> float:
        return np.sqrt(-np.log(np.clip(ratio, 0.02, 0.98)))

    def of_pearson(rho: float) -> float:
        rho = np.clip(rho, 0.05, 0.99)
        return np.sqrt(np.log(1 + np.expm1(popularity**2) / rho**2) - popularity**2)

    alike = np.isnan(target.same_domain)  # a single request
    request = 0.3 if alike else of_ratio(target.same_domain) / np.sqrt(2)
    return {
        "popularity": popularity,
        "domain": of_ratio(target.domain_cosine),
        "request": request,
        "private": 0.1 if start.partitions else request,
        "prefill": of_pearson(target.prefill_pearson),
        "prefill_request": 0.3,
        "block_bonus": 4.0,
        "concentration": 2.0,
    }


def _of_gini(coefficient: Any) -> Any:
    """The standard deviation s of logarithms of log-normal shares with Gini's erf(s / 2)."""
    return 2 * erfinv(np.clip(coefficient, 0.01, 0.98))
