"""How well a request's prompt foretells its generated tokens, request by request.

The correlation (Pearson) over the experts of a layer, of how often a request's prompt and its
generated tokens chose each, grows with their numbers, since counts of few tokens are mostly noise;
so the mean numbers of tokens are kept beside it. Its null is the same prompt with the generated
tokens of the request before.
"""

import numpy as np

from diffgenz.routing.trace import Trace

LEAST = 4
"""Tokens that each phase of a request has at least, to be looked at."""

MOST = 4096
"""Requests that are looked at, at most: the first."""


class RequestPhases:
    """Collects correlations of requests.

    Arguments:
        experts: routed experts per layer.
        layers: how many layers.
        k: how many experts a token chooses.
        groups: how many groups of requests.
    """

    def __init__(self, experts: int, layers: int, k: int, groups: int):
        self.experts, self.k = experts, k
        self.own = np.zeros((groups, layers))
        """Of each group: the sum of its requests' correlations."""
        self.other = np.zeros((groups, layers))
        """The same, with the generated tokens of the request before."""
        self.count = np.zeros(groups)
        """Of each group: its requests that were looked at."""
        self.pairs = np.zeros(groups)
        """Of each group: those of them that had another request to compare with."""
        self.lengths = np.zeros((groups, 2))
        """Of each group: the sum of its requests' tokens in each phase."""
        self._open: tuple[int, int, np.ndarray] | None = None  # request, group, counts of the last
        self._last = np.zeros((0, 0, 0))

    def add(self, trace: Trace, chosen: np.ndarray, group: np.ndarray) -> None:
        """Looks at some tokens; the last request may go on in the next.

        Arguments:
            trace: the tokens.
            chosen: [layers, tokens, k]; what they chose.
            group: [tokens]; the group of each token's request.
        """
        if self.count.sum() >= MOST:
            return
        starts = np.flatnonzero(np.diff(trace.request, prepend=-1))
        if len(starts) > MOST:
            end = int(starts[MOST])
            trace, chosen, group = trace.select(slice(end)), chosen[:, :end], group[:end]
            starts = starts[:MOST]
        place = np.repeat(np.arange(len(starts)), np.diff(starts, append=trace.tokens))
        requests, groups = trace.request[starts], group[starts]
        goes_on = self._open is not None and self._open[0] == requests[0]
        counts = np.zeros((len(starts), len(chosen), 2, self.experts), np.int32)
        cell = (place * 2 + trace.phase).astype(np.int64)[:, None] * self.experts
        for layer, ids in enumerate(chosen):
            found = np.bincount((cell + ids).ravel(), minlength=len(starts) * 2 * self.experts)
            counts[:, layer] = found.reshape(-1, 2, self.experts)
        if self._open is not None:
            if goes_on:
                counts[0] += self._open[2]
            else:
                counts = np.concatenate([self._open[2][None], counts])
                groups = np.concatenate([[self._open[1]], groups])
        self._open = (int(requests[-1]), int(groups[-1]), counts[-1])
        self._look(counts[:-1], groups[:-1])

    def close(self) -> None:
        """Looks at the last request."""
        if self._open is not None:
            _request, group, counts = self._open
            self._look(counts[None], np.array([group]))
            self._open = None

    def _look(self, counts: np.ndarray, groups: np.ndarray) -> None:
        """Adds the correlations of whole requests, with counts [requests, layers, 2, experts]."""
        if not len(counts):
            return
        tokens = counts[:, 0].sum(axis=2) / self.k
        fit = np.flatnonzero((tokens >= LEAST).all(axis=1))
        if not len(fit):
            return
        part = counts[fit].astype(np.float32)
        part -= part.mean(axis=3, keepdims=True)
        norm = np.sqrt((part**2).sum(axis=3, keepdims=True))
        part = np.divide(part, norm, out=np.zeros_like(part), where=norm > 0)
        prompts, made = part[:, :, 0], part[:, :, 1]
        np.add.at(self.own, groups[fit], np.einsum("rle,rle->rl", prompts, made))
        np.add.at(self.count, groups[fit], 1)
        others = made[:-1]
        if self._last.size:
            others = np.concatenate([self._last[None], others])
        compared = len(fit) - len(others)  # the first request of all has none before it
        if len(others):
            other = np.einsum("rle,rle->rl", prompts[compared:], others)
            np.add.at(self.other, groups[fit][compared:], other)
            np.add.at(self.pairs, groups[fit][compared:], 1)
        np.add.at(self.lengths, groups[fit], tokens[fit])
        self._last = made[-1]
