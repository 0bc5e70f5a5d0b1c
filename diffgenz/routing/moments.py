"""What a synthetic trace is fitted to: a few numbers that say how a trace is structured."""

import dataclasses

import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.routing.popularity import gini, pearson
from diffgenz.routing.trace import DECODE, PREFILL, Trace

LEAST_PROMPT = 4
"""Prompt tokens that a request must have to count in `request_pearson`."""
_LIFT_TOKENS = 65536
"""Tokens that `lift` is computed from, at most: a bound of time, not of a moment's noise."""

_NONE = 1e-9
"""Weight of pairs of requests that is rounding: there are no such pairs."""


@dataclasses.dataclass(frozen=True)
class Moments:
    """Statistics of a trace, each the mean over its layers; NaN where a trace does not have it.

    They are of decode tokens, or of prompt tokens where there are no others. Products of shares are
    of the two halves of a request, so that the noise of few tokens does not enter; halves are of
    successive tokens, as neighbours resemble each other. Requests count by their tokens.

    Arguments:
        gini: Gini coefficient of the experts' shares of all tokens, from 0 to 1.
        peak: share of the most popular expert over the mean share, at least 1.
        participation: experts that a request's shares p are effectively spread over, as a share of
            all: 1 / (experts * mean sum p^2), about 1 at most.
        same_domain: product of the shares of two requests of one domain, over that of a request's
            two halves; 1: requests of a domain do not differ.
        other_domain: the same of two requests of different domains.
        domain_cosine: cosine of the shares of two domains, the mean over pairs.
        prefill_pearson: Pearson correlation over experts of the shares of all prompt tokens and
            those of all decode tokens.
        request_pearson: the same of a request, the mean over those with `LEAST_PROMPT` prompt
            tokens or more. It grows with their number.
        lift: co-activation: the sum of squares of how often two experts are chosen together, over
            the same of independent choices; 1: independent.
    """

    gini: float = np.nan
    peak: float = np.nan
    participation: float = np.nan
    same_domain: float = np.nan
    other_domain: float = np.nan
    domain_cosine: float = np.nan
    prefill_pearson: float = np.nan
    request_pearson: float = np.nan
    lift: float = np.nan


NAMES = tuple(field.name for field in dataclasses.fields(Moments))
"""The names of the moments."""


def moments(trace: Trace) -> Moments:
    """The moments of a trace.

    Memory is for one layer at a time: a few numbers per request and expert.

    Arguments:
        trace: with at least one token.

    Raises:
        InputError: the trace has no tokens.
    """
    if not trace.tokens:
        raise InputError("trace: has no tokens; give one with at least one")
    phase = DECODE if np.any(trace.phase == DECODE) else PREFILL
    _, request = np.unique(trace.request, return_inverse=True)
    tokens = _Tokens(trace, request, phase)
    rows = np.array([tokens.layer(layer) for layer in range(len(trace.layers))])
    known = ~np.isnan(rows)
    means = np.where(known, rows, 0).sum(0) / np.where(known.any(0), known.sum(0), np.nan)
    return Moments(*map(float, means))


class _Tokens:
    """The tokens of a trace by request, half and phase: the same in all layers."""

    def __init__(self, trace: Trace, request: np.ndarray, phase: int):
        self.trace, self.request = trace, request
        self.requests = int(request.max()) + 1
        self.own = np.flatnonzero(trace.phase == phase)
        self.prompt = np.flatnonzero(trace.phase == PREFILL) if phase == DECODE else self.own[:0]
        order = np.argsort(request[self.own], kind="stable")
        self.own = self.own[order]
        sorted_request = request[self.own]
        first = np.searchsorted(sorted_request, sorted_request)
        length = np.searchsorted(sorted_request, sorted_request, side="right") - first
        self.half = (np.arange(len(self.own)) - first >= length // 2).astype(np.int64)
        self.domain = np.zeros(self.requests, np.int64)
        self.domain[request] = trace.domain
        self.halved = np.bincount(sorted_request, minlength=self.requests) > 1
        prompts = np.bincount(request[self.prompt], minlength=self.requests)
        self.long = self.halved & (prompts >= LEAST_PROMPT)

    def counts(self, tokens: np.ndarray, group: np.ndarray, groups: int, layer: int) -> np.ndarray:
        """[groups, experts]; choices of some tokens in a layer."""
        experts = self.trace.experts
        flat = (group[:, None] * experts + self.trace.chosen[tokens, layer]).ravel()
        return np.bincount(flat, minlength=groups * experts).reshape(groups, experts)

    def layer(self, layer: int) -> tuple[float, ...]:
        """The moments of a layer, in the order of `Moments`."""
        group = self.request[self.own] + self.half * self.requests
        halves = self.counts(self.own, group, 2 * self.requests, layer).astype(np.float64)
        halves = halves.reshape(2, self.requests, -1)
        both = halves.sum(0)
        pooled = both.sum(0)
        domains = np.zeros((len(self.trace.domains), len(pooled)))
        np.add.at(domains, self.domain, both)
        prompt = self.counts(self.prompt, self.request[self.prompt], self.requests, layer)
        return (
            float(gini(pooled)),
            float(pooled.max() / pooled.mean()),
            *self.products(halves[:, self.halved], self.domain[self.halved]),
            cosine(domains[domains.any(1)]),
            float(pearson(prompt.sum(0), pooled)),
            mean_pearson(prompt[self.long], both[self.long]),
            self.lift(layer),
        )

    def products(self, halves: np.ndarray, domain: np.ndarray) -> tuple[float, float, float]:
        """Participation, and products within and across domains relative to that of a request."""
        if not halves.size:
            return np.nan, np.nan, np.nan
        weight = halves.sum((0, 2))
        weight /= weight.sum()
        first, second = halves / halves.sum(2, keepdims=True)
        mean = float(weight @ (first * second).sum(1))
        if not mean:
            return np.nan, np.nan, np.nan
        own = float(weight**2 @ (first * second).sum(1))
        first, second = weight[:, None] * first, weight[:, None] * second
        parts = [domain == each for each in np.unique(domain)]
        inside = sum(first[each].sum(0) @ second[each].sum(0) for each in parts)
        across = first.sum(0) @ second.sum(0) - inside
        shares = sum(weight[each].sum() ** 2 for each in parts)
        same, others = shares - float(weight @ weight), 1 - shares
        return (
            1 / (self.trace.experts * mean),
            (inside - own) / same / mean if same > _NONE else np.nan,
            across / others / mean if others > _NONE else np.nan,
        )

    def lift(self, layer: int) -> float:
        """Co-activation relative to independent choices, of so many tokens evenly spaced."""
        if self.trace.k == 1:
            return np.nan
        some = self.own[:: -(-len(self.own) // _LIFT_TOKENS)]
        chosen = np.zeros((len(some), self.trace.experts), np.float32)
        np.put_along_axis(chosen, self.trace.chosen[some, layer].astype(np.intp), 1, axis=1)
        return lift(chosen.T @ chosen)


def cosine(counts: np.ndarray) -> float:
    """The mean cosine of two different rows; NaN of a single row.

    Arguments:
        counts: [rows, columns], none all 0.
    """
    unit = counts / np.linalg.norm(counts, axis=1, keepdims=True)
    rows = len(unit)
    return float(((unit.sum(0) ** 2).sum() - rows) / (rows * (rows - 1))) if rows > 1 else np.nan


def mean_pearson(first: np.ndarray, second: np.ndarray) -> float:
    """The mean over rows of the correlation of two arrays; NaN without rows that vary.

    Arguments:
        first, second: [rows, columns].
    """
    found = pearson(first, second)
    known = found[~np.isnan(found)]
    return float(known.mean()) if len(known) else np.nan


def lift(together: np.ndarray) -> float:
    """Squares of joint choices over those of independent choices with the same pairs in all.

    Arguments:
        together: [experts, experts]; tokens that chose both; on the diagonal, that chose the one.
    """
    chosen = np.diag(together).astype(np.float64)
    pairs = together - np.diag(chosen)
    alone = np.outer(chosen, chosen) - np.diag(chosen**2)
    alone *= pairs.sum() / alone.sum()
    return float((pairs**2).sum() / (alone**2).sum())
