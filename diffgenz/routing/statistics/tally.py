"""One pass over a trace: counts by groups of requests, and a sample of tokens.

All statistics are computed from what is kept here, which does not grow with the trace.
"""

from collections.abc import Iterable

import numpy as np

from diffgenz.routing.statistics.request_phases import RequestPhases
from diffgenz.routing.trace import Trace

GROUPS = 32
"""Groups that requests are put into at random; up to so many requests, each has its own."""

WINDOWS = 16
"""Windows of time at most; successive ones are joined when a trace turns out longer."""

SAMPLE = 1 << 16
"""Tokens that are kept, at most."""


class Tally:
    """What is kept of a trace.

    Arguments:
        experts: routed experts per layer.
        layers: how many layers.
        k: how many experts a token chooses.
        domains: how many domains.
        seed: of the random numbers.
    """

    def __init__(self, experts: int, layers: int, k: int, domains: int, seed: int = 0):
        self.experts, self.layers, self.k = experts, layers, k
        self.counts = np.zeros((2, domains, GROUPS, layers, experts), np.int64)
        """[phases, domains, groups, layers, experts]"""
        self.windows = np.zeros((WINDOWS, GROUPS, layers, experts), np.int64)
        """[windows, groups, layers, experts]"""
        self.tokens = np.zeros((2, domains), np.int64)
        self.requests = 0
        self.phases = RequestPhases(experts, layers, k, GROUPS)
        self._rng = np.random.default_rng(seed)
        self._seed = seed
        self._width, self._seen = 1, 0
        self._share = 1.0
        self._kept: list[tuple[np.ndarray, ...]] = []

    def add(self, trace: Trace) -> None:
        """Counts some tokens.

        Arguments:
            trace: its requests are numbered from 0; those of each stand together.
        """
        if not trace.tokens:
            return
        group = self._groups(trace.request)
        self.requests = max(self.requests, int(trace.request.max()) + 1)
        np.add.at(self.tokens, (trace.phase, trace.domain), 1)
        chosen = np.ascontiguousarray(trace.chosen.transpose(1, 0, 2))
        domains = self.counts.shape[1]
        cell = (trace.phase.astype(np.int64) * domains + trace.domain) * GROUPS + group
        window = self._windows(trace)
        for target, cells in ((self.counts, cell), (self.windows, window * GROUPS + group)):
            flat = target.reshape(-1, self.layers, self.experts)
            used, place = np.unique(cells, return_inverse=True)
            start = place[:, None] * self.experts
            for layer, ids in enumerate(chosen):
                found = np.bincount((start + ids).ravel(), minlength=len(used) * self.experts)
                flat[used, layer] += found.reshape(-1, self.experts)
        self.phases.add(trace, chosen, group)
        self._sample(trace, group)

    def sample(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The tokens kept, by group: chosen [tokens, layers, k], group, request, phase."""
        if not self._kept:
            empty = np.zeros(0, np.int64)
            return np.zeros((0, self.layers, self.k), np.int16), empty, empty, empty
        chosen, group, request, phase = (
            np.concatenate([part[i] for part in self._kept]) for i in range(1, 5)
        )
        order = np.argsort(group, kind="stable")
        return chosen[order], group[order], request[order], phase[order]

    def _groups(self, request: np.ndarray) -> np.ndarray:
        """The group of each request: within each run of GROUPS requests, each once, at random."""
        numbers = np.unique(request)
        block = np.unique(numbers // GROUPS)
        shuffled = np.stack(
            [np.random.default_rng([self._seed, int(b)]).permutation(GROUPS) for b in block]
        )
        return shuffled[np.searchsorted(block, request // GROUPS), request % GROUPS]

    def _windows(self, trace: Trace) -> np.ndarray:
        """The window of each token, by its step or else by its place."""
        if trace.step is None:
            time = self._seen + np.arange(trace.tokens)
        else:
            time = trace.step.astype(np.int64)
        self._seen += trace.tokens
        while time.max() // self._width >= WINDOWS:
            half = WINDOWS // 2
            self.windows[:half] = self.windows[0::2] + self.windows[1::2]
            self.windows[half:] = 0
            self._width *= 2
        return time // self._width

    def _sample(self, trace: Trace, group: np.ndarray) -> None:
        """Keeps tokens, all with the same probability."""
        luck = self._rng.random(trace.tokens)
        rows = np.flatnonzero(luck < self._share)
        self._kept.append(
            (luck[rows], trace.chosen[rows], group[rows], trace.request[rows], trace.phase[rows])
        )
        while sum(len(part[0]) for part in self._kept) > SAMPLE:
            self._share /= 2
            self._kept = [
                tuple(column[part[0] < self._share] for column in part) for part in self._kept
            ]


def tally_of(
    chunks: Iterable[Trace], experts: int, layers: int, k: int, domains: int, seed: int = 0
) -> Tally:
    """Counts all chunks of a trace.

    Arguments:
        chunks: the trace, some requests at a time, numbered from 0.
        experts: routed experts per layer.
        layers: how many layers.
        k: how many experts a token chooses.
        domains: how many domains.
        seed: of the random numbers.
    """
    tally = Tally(experts, layers, k, domains, seed)
    for chunk in chunks:
        tally.add(chunk)
    tally.phases.close()
    return tally
