"""The policy of a server that batches continuously, iteration by iteration, for a finite log.

It is vLLM's: running requests first, in the order in which they were admitted, each decode one
token of the budget and each unfinished prompt what is left of it; then requests that wait, in
their order, each admitted once a slot is free and its whole prompt fits into the cache. Where the
cache overflows, the request that was admitted last is put back and computed again.

Where prompts go first, whole prompts that wait are computed as long as any of them fits, as many in
an iteration as its budget takes, and decodes stand still meanwhile.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_TOLD = 500
"""Iterations between two reports of progress."""

Seconds = Callable[[int, float, int, float], float]
"""Seconds of an iteration: of its decodes, the tokens in their caches, its prompt tokens, and the
pairs of a query and a key in the attention of those."""


class Limits(NamedTuple):
    """What bounds an iteration.

    Arguments:
        budget: tokens.
        slots: requests that run at once.
        cache: tokens that the KV cache holds.
        prefill_first: whether whole prompts go first, in iterations of their own.
    """

    budget: int
    slots: int
    cache: float
    prefill_first: bool = False


class Times(NamedTuple):
    """When each request had its first and its last token, in s; and how many were put back."""

    first: np.ndarray
    last: np.ndarray
    preemptions: int


class Scheduler:
    """One engine and its requests.

    Arguments:
        seconds: of an iteration.
        limits: of an engine; each request has to fit into its cache alone.
        arrivals: s, in increasing order; shape (requests,).
        prompts: tokens of each.
        outputs: tokens of each, at least 1.
        cached: tokens of each prompt that need not be computed, less than all.
    """

    def __init__(
        self,
        seconds: Seconds,
        limits: Limits,
        arrivals: np.ndarray,
        prompts: np.ndarray,
        outputs: np.ndarray,
        cached: np.ndarray,
    ):
        self.seconds, self.limits = seconds, limits
        self.arrivals, self.outputs, self.cached = arrivals, outputs, cached
        self.done, self.need = cached.copy(), prompts.copy()
        self.prompts, self.generated = prompts, np.zeros_like(prompts)
        self.first, self.last = np.zeros(len(prompts)), np.zeros(len(prompts))
        self.decoding = np.zeros(len(prompts), bool)
        self.waiting: deque[int] = deque()
        self.running: list[int] = []
        self.now, self.come, self.preemptions = 0.0, 0, 0

    def run(self, told: Callable[[int], None] | None = None) -> Times:
        """All requests, served.

        Arguments:
            told: called now and then with how many are done.
        """
        count, iterations = len(self.arrivals), 0
        while self.come < count or self.waiting or self.running:
            if not (self.waiting or self.running):
                self.now = max(self.now, float(self.arrivals[self.come]))
            while self.come < count and self.arrivals[self.come] <= self.now:
                self.waiting.append(self.come)
                self.come += 1
            self._iterate()
            iterations += 1
            if told is not None and iterations % _TOLD == 0:
                told(self.come - len(self.waiting) - len(self.running))
        return Times(self.first, self.last, self.preemptions)

    def _iterate(self) -> None:
        """One iteration, from the choice of its tokens to those that they give."""
        chunks, put_back = self._chunks(), self.limits.prefill_first
        if put_back:
            new = self._admit_whole()
            chunks = np.concatenate([0 * chunks if len(new) else chunks, new])
        while self.done[self.running].sum() + chunks.sum() > self.limits.cache:
            self._put_back(self.running.pop())
            chunks, put_back = self._chunks(), True
        if not put_back:
            chunks = np.concatenate([chunks, self._admit(int(self.limits.budget - chunks.sum()))])
        at, done = np.array(self.running), self.done[self.running]
        prefills, decodes = ~self.decoding[at], self.decoding[at] & (chunks > 0)
        prompt = chunks[prefills]
        pairs = float((prompt * (done[prefills] + (prompt + 1) / 2)).sum())
        contexts = float((done[decodes] + 1).sum())
        self.now += self.seconds(int(decodes.sum()), contexts, int(prompt.sum()), pairs)
        self.done[at] += chunks
        ready = at[self.done[at] == self.need[at]]
        self.first[ready[self.generated[ready] == 0]] = self.now
        self.generated[ready] += 1
        self.need[ready] += 1
        self.decoding[ready] = True
        over = ready[self.generated[ready] >= self.outputs[ready]]
        self.last[over] = self.now
        if len(over):
            gone = set(over.tolist())
            self.running = [each for each in self.running if each not in gone]

    def _chunks(self) -> np.ndarray:
        """Tokens of each running request, as far as the budget goes."""
        owed = self.need[self.running] - self.done[self.running]
        before = np.cumsum(owed) - owed
        return np.clip(self.limits.budget - before, 0, owed)

    def _put_back(self, victim: int) -> None:
        """To the head of those that wait, to be computed again with what it has generated."""
        self.preemptions += 1
        self.done[victim], self.decoding[victim] = self.cached[victim], False
        self.need[victim] = self.prompts[victim] + self.generated[victim]
        self.waiting.appendleft(victim)

    def _admit(self, left: int) -> np.ndarray:
        """Let requests in that fit; tokens of each in this iteration."""
        chunks = []
        held = int(self.need[self.running].sum())
        while self.waiting and left > 0 and len(self.running) < self.limits.slots:
            head = self.waiting[0]
            held += int(self.need[head])
            if held > self.limits.cache:
                break
            self.running.append(self.waiting.popleft())
            chunks.append(min(int(self.need[head] - self.done[head]), left))
            left -= chunks[-1]
        return np.array(chunks, dtype=self.need.dtype)

    def _admit_whole(self) -> np.ndarray:
        """Let whole prompts in that fit, a single one whatever the budget; tokens of each."""
        chunks: list[int] = []
        held = int(self.done[self.running].sum())
        while self.waiting and len(self.running) < self.limits.slots:
            head = self.waiting[0]
            owed = int(self.need[head] - self.done[head])
            held += int(self.need[head])
            if (chunks and sum(chunks) + owed > self.limits.budget) or held > self.limits.cache:
                break
            self.running.append(self.waiting.popleft())
            chunks.append(owed)
        return np.array(chunks, dtype=self.need.dtype)
