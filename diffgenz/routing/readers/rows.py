"""Rows of (request, token, layer, experts) in any order, put together to tokens.

A row takes 8 (k + 4) bytes until all are read.
"""

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.routing.readers.reader import BLOCK, Asked, experts_of
from diffgenz.routing.trace import DECODE, PHASES, PREFILL, Trace


class Rows:
    """Collects rows, and makes traces of them."""

    def __init__(self) -> None:
        self.k = 0
        self.experts, self.layer, self.token = array("q"), array("q"), array("q")
        self.weights = array("f")
        self.request, self.requests = array("q"), dict[str, int]()
        self.phase = array("b")
        self.domain, self.domains = array("h"), dict[str, int]()
        self.step = array("q")

    def add(
        self,
        layer: int,
        token: int,
        experts: Sequence[int],
        weights: Sequence[float] | None = None,
        request: str = "",
        phase: str | int | None = None,
        domain: str | None = None,
        step: int | None = None,
    ) -> None:
        """Adds a row.

        Arguments:
            layer: the model's index of the layer.
            token: the token's number in its request.
            experts: what it chose.
            weights: the router's weights of them.
            request: the name of the request.
            phase: "prefill" or "decode", or their numbers; None: not known.
            domain: the name of its domain.
            step: the engine's iteration.

        Raises:
            InputError: it has another number of experts than the first, or a phase of no known
                name.
        """
        if not self.k:
            self.k = len(experts)
        if len(experts) != self.k or not self.k:
            raise InputError(
                f"experts: token {token} has {len(experts)} in layer {layer}, the first row has "
                f"{self.k}; all tokens have the same number"
            )
        if weights is not None and len(weights) != self.k:
            raise InputError(f"weights: token {token} has {len(weights)} of them, and {self.k} ids")
        self.layer.append(int(layer))
        self.token.append(int(token))
        self.experts.extend(experts)
        if weights is not None:
            self.weights.extend(weights)
        self.request.append(self.requests.setdefault(request, len(self.requests)))
        self.phase.append(-1 if phase in (None, "") else _phase(phase))
        name = "all" if domain in (None, "") else str(domain)
        self.domain.append(self.domains.setdefault(name, len(self.domains)))
        self.step.append(-1 if step is None else int(step))

    def traces(self, path: Path, asked: Asked) -> Iterator[Trace]:
        """The tokens of all rows, some requests at a time.

        Raises:
            InputError: there are no rows, or a token lacks a layer.
        """
        if not self.k:
            raise InputError(f"{path}: has no rows of (layer, token, experts); record some")
        request, layer = np.asarray(self.request), np.asarray(self.layer)
        token, step = np.asarray(self.token), np.asarray(self.step)
        order = np.lexsort((np.arange(len(token)), layer, token, step, request))
        key = np.stack([request, step, token, layer])[:, order]
        same = np.all(key[:, 1:] == key[:, :-1], axis=0)
        runs = np.flatnonzero(~np.concatenate([[False], same]))
        # The same token and layer again: a later forward pass.
        passes = np.arange(len(order)) - np.repeat(runs, np.diff(runs, append=len(order)))
        by_pass = np.lexsort((key[3], key[2], passes, key[1], key[0]))
        order, passes = order[by_pass], passes[by_pass]
        layers = np.unique(layer)
        wanted = np.tile(layers, len(order) // len(layers))
        if len(order) % len(layers) or np.any(layer[order] != wanted):
            self._missing(path, order, layer, layers)
        first = order[:: len(layers)]
        shape = (len(first), len(layers), self.k)
        chosen = np.asarray(self.experts).reshape(-1, self.k)[order].reshape(shape)
        weights = None
        if len(self.weights) == len(self.experts):
            weights = np.asarray(self.weights).reshape(-1, self.k)[order].reshape(shape)
        passes = passes[:: len(layers)]
        phase = np.asarray(self.phase, np.int8)[first]
        guess = np.where((passes == 0) & (passes.max() > 0), PREFILL, DECODE)
        if passes.max() == 0 and step.max() > 0:
            guess = np.where(step[first] == 0, PREFILL, DECODE)
        phase = np.where(phase < 0, guess, phase)
        steps = step[first] if step.min() >= 0 else passes if passes.max() > 0 else None
        experts = experts_of(chosen, asked)
        owner = request[first]
        starts = np.flatnonzero(np.diff(owner, prepend=-1))
        rows = max(BLOCK // (len(layers) * self.k), 1)
        begin = 0
        for end in [*starts[1:], len(first)]:
            if end - begin < rows and end < len(first):
                continue
            part = slice(begin, end)
            yield Trace(
                experts=experts,
                layers=tuple(map(int, layers)),
                chosen=chosen[part],
                weights=None if weights is None else weights[part],
                request=owner[part],
                phase=phase[part],
                domain=np.asarray(self.domain)[first][part],
                domains=tuple(self.domains),
                step=None if steps is None else steps[part],
                model=asked.model,
            )
            begin = end

    def _missing(self, path: Path, order: np.ndarray, layer: np.ndarray, layers: np.ndarray):
        """Says which token lacks a layer."""
        names = list(self.requests)
        for place in range(0, len(order), len(layers)):
            have = layer[order[place : place + len(layers)]]
            if len(have) < len(layers) or np.any(have != layers):
                lost = sorted(set(layers.tolist()) - set(have.tolist())) or layers[-1:].tolist()
                row = order[place]
                raise InputError(
                    f"{path}: token {self.token[row]} of request {names[self.request[row]]!r} has "
                    f"no row in layer {lost[0]}; record all {len(layers)} layers of all tokens"
                )


def _phase(phase: str | int | None) -> int:
    """The number of a phase."""
    for number, name in enumerate(PHASES):
        if str(phase).lower() in (name, str(number)):
            return number
    raise InputError(f"phase: {phase!r} is not known; give prefill or decode")
