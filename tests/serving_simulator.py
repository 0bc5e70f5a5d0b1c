"""An event simulator of one engine that batches continuously: what the mean field must agree with.

It follows vLLM's scheduler: running requests first, each decode one token of the budget; then
prompts in order of arrival, in chunks, each admitted once a slot is free and its whole prompt fits
into the cache. Where the cache overflows, the request that was admitted last is preempted and
computed again. Engines that put prompts first compute whole prompts in iterations of their own, as
long as any that waits fits. With speculation each decode takes the tokens of a verification, and
yields as many as are accepted.
"""

import heapq
import itertools
from collections import deque
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Clock:
    """How long an iteration takes, in s: h + ((w^q + (f (n + p))^q)^(1/q) + k C + a A.

    Arguments:
        weights: s to read the weights.
        token: s of one token.
        context: s of one token of context that a decode reads.
        pair: s of one pair of a query and a key of prefill.
        power: how both first combine.
        host: s besides.
    """

    weights: float
    token: float
    context: float
    pair: float
    power: float
    host: float

    def __call__(self, decodes, contexts, prompts, pairs):
        tokens = self.token * (decodes + prompts)
        both = (self.weights**self.power + tokens**self.power) ** (1 / self.power)
        return self.host + both + self.context * contexts + self.pair * pairs


SMALL = Clock(6.23e-3, 19.5e-6, 45e-9, 0.92e-9, 1.47, 1e-3)
"""Llama-3.1-8B on one H100, about."""

LARGE = Clock(9.72e-3, 37.1e-6, 14e-9, 1.17e-9, 1.03, 1e-3)
"""Llama-3.1-70B on eight H100, about."""


@dataclass(frozen=True)
class Guesses:
    """Speculative decoding.

    Arguments:
        drafts: tokens that are proposed for each verification.
        acceptance: the probability that one is accepted if those before it were.
        draft: the clock of what proposes them, one after the other; it prefills, too.
    """

    drafts: int
    acceptance: float
    draft: Clock

    def verifications(self, tokens: int, rng) -> int:
        """How many it takes until so many tokens are there, at random."""
        count = 0
        while tokens > 0:
            # a geometric variable counts the trials to the first draft that is not accepted
            tokens -= min(int(rng.geometric(1 - self.acceptance)), self.drafts + 1)
            count += 1
        return count

    def seconds(self, decodes, contexts, prompts, pairs):
        """What proposing adds to an iteration."""
        found = self.drafts * self.draft(decodes, contexts, 0, 0) if decodes else 0.0
        return found + (self.draft(0, 0, prompts, pairs) if prompts else 0.0)


@dataclass
class Request:
    """One request; `need` are the tokens to prefill, `done` those in the cache.

    While it decodes its cache grows by `pace` tokens an iteration.
    """

    arrival: float
    need: int
    outputs: int
    generated: int = 0
    done: int = 0
    since: int = 0
    pace: float = 1.0
    first: float = 0.0
    last: float = 0.0


@dataclass
class Engine:
    """An engine; times are those of `clock`."""

    clock: Clock
    budget: int
    slots: int
    cache: float = np.inf
    prefill_first: bool = False
    guesses: Guesses | None = None
    preemptions: int = 0
    recomputed: int = 0
    iterations: list[tuple[float, int]] = field(default_factory=list)

    def run(self, arrivals, prompts, outputs, concurrency=None) -> list[Request]:
        """All requests, served.

        Arguments:
            arrivals: s; with a concurrency only how many come at first counts.
            prompts: tokens.
            outputs: tokens.
            concurrency: requests under way all the time; None: they come as they arrive.
        """
        coming = deque(
            Request(float(a), int(i), int(o))
            for a, i, o in zip(arrivals, prompts, outputs, strict=True)
        )
        everyone = list(coming)
        waiting, partial, decoding = deque(), [], {}
        endings, order = [], itertools.count()
        now, step, contexts, growth = 0.0, 0, 0, 0
        each = 1 if self.guesses is None else 1 + self.guesses.drafts
        rng = np.random.default_rng(0)
        stalled = []  # s since they had a token, and how many: decodes beside prompts put first
        for _ in range(concurrency or 0):
            waiting.append(coming.popleft())
        while coming or waiting or partial or decoding:
            if concurrency is None:
                if not (waiting or partial or decoding):
                    now = max(now, coming[0].arrival)
                while coming and coming[0].arrival <= now:
                    waiting.append(coming.popleft())
            preempted = False
            alone = self.prefill_first and self._fits(waiting, contexts, len(decoding), 0)
            while True:
                n, left = len(decoding), self.budget - each * len(decoding)
                if alone:
                    n, left = 0, self.budget
                chunks = []
                for request in partial:
                    chunks.append(min(request.need - request.done, left))
                    left -= chunks[-1]
                used = contexts + sum(r.done for r in partial)
                if used + each * n + sum(chunks) <= self.cache:
                    break
                preempted = True
                self.preemptions += 1
                if partial:
                    victim = partial.pop()
                else:
                    key = next(reversed(decoding))
                    victim = decoding.pop(key)
                    made = (step - victim.since) * victim.pace
                    contexts, growth = contexts - victim.done - made, growth - victim.pace
                    victim.generated += round(made)
                    victim.need += 1 + round(made)
                self.recomputed += victim.need
                victim.done = 0
                waiting.appendleft(victim)
            owed = sum(r.need - r.done for r in partial)
            while waiting and left > 0 and not preempted:
                head = waiting[0]
                full = used + each * n + owed + head.need > self.cache
                if full or len(decoding) + len(partial) >= self.slots:
                    break
                if self.prefill_first:
                    if not self._fits(waiting, contexts, len(decoding) + len(partial), owed):
                        break
                    left = max(left, head.need)  # one that exceeds the budget is computed alone
                partial.append(waiting.popleft())
                chunks.append(min(head.need, left))
                left -= chunks[-1]
                owed += head.need
            pairs = sum(w * (r.done + (w + 1) / 2) for r, w in zip(partial, chunks, strict=True))
            read = contexts + n if n else 0
            took = self.clock(each * n, read, sum(chunks), pairs)
            if self.guesses is not None:
                took += self.guesses.seconds(n, read, sum(chunks), pairs)
            now += took
            if n or not self.prefill_first:
                old = n - sum(count for _, count in stalled[1:])
                waits = stalled[:1] or [(0.0, n)]
                for wait, count in [(waits[0][0], old), *stalled[1:]]:
                    self.iterations.append((took + wait, count))
                stalled = []
                step, contexts = step + 1, contexts + growth
            else:
                stalled = [(wait + took, count) for wait, count in stalled or [(0.0, 0)]]
                stalled.append((0.0, len(partial)))
            while endings and endings[0][0] == step:
                _, key, since = heapq.heappop(endings)
                if key not in decoding or decoding[key].since != since:
                    continue
                request = decoding.pop(key)
                contexts -= request.done + (step - request.since) * request.pace
                growth -= request.pace
                self._leave(request, now, concurrency, coming, waiting)
            remaining = []
            for request, chunk in zip(partial, chunks, strict=True):
                request.done += chunk
                if request.done < request.need:
                    remaining.append(request)
                    continue
                if not request.generated:
                    request.first = now
                request.generated += 1
                if request.generated >= request.outputs:
                    self._leave(request, now, concurrency, coming, waiting)
                    continue
                key, request.since = next(order), step
                decoding[key] = request
                contexts += request.done
                steps = left_over = request.outputs - request.generated
                if self.guesses is not None:
                    steps = self.guesses.verifications(left_over, rng)
                    request.pace = left_over / steps
                growth += request.pace
                heapq.heappush(endings, (step + steps, key, step))
            partial = remaining
        return everyone

    def _fits(self, waiting, contexts, running, chosen) -> bool:
        """Whether the head of those that wait can be prefilled beside some chosen tokens."""
        if not waiting or running >= self.slots:
            return False
        need = waiting[0].need
        within = chosen + need <= self.budget or chosen == 0
        return within and contexts + chosen + need <= self.cache

    @staticmethod
    def _leave(request, now, concurrency, coming, waiting):
        request.last = now
        if concurrency is not None and coming:
            following = coming.popleft()
            following.arrival = now
            waiting.append(following)


def lengths(kind: str, mean: float, count: int, rng) -> np.ndarray:
    """Tokens of requests: all alike, or lognormal of sigma 0.7."""
    if kind == "constant":
        return np.full(count, int(mean))
    drawn = mean * np.exp(0.7 * rng.standard_normal(count) - 0.7**2 / 2)
    return np.maximum(np.round(drawn), 2 if mean > 2 else 1)


def figures(engine: Engine, served: list[Request]) -> dict[str, float]:
    """What was measured of the middle of a run, with the standard error of the mean TTFT."""
    kept = served[int(0.15 * len(served)) : int(0.925 * len(served))]
    ttft = np.array([r.first - r.arrival for r in kept])
    tpot = np.array([(r.last - r.first) / (r.outputs - 1) for r in kept if r.outputs > 1])
    whole = np.array([r.last - r.arrival for r in kept])
    took, decodes = np.array(engine.iterations).T
    rank = np.argsort(took)
    share = np.cumsum(decodes[rank]) / decodes.sum()
    found = {"ttft": ttft.mean(), "tpot": tpot.mean(), "end_to_end": whole.mean()}
    batches = np.array([each.mean() for each in np.array_split(ttft, 20)])
    found["ttft_error"] = batches.std(ddof=1) / np.sqrt(20)
    for level in (50, 90, 99):
        found[f"ttft_p{level}"] = np.percentile(ttft, level)
        found[f"tpot_p{level}"] = np.percentile(tpot, level)
        found[f"end_to_end_p{level}"] = np.percentile(whole, level)
        found[f"itl_p{level}"] = took[rank][np.searchsorted(share, level / 100)]
    ends = np.sort([r.last for r in served])
    low, high = int(0.2 * len(ends)), int(0.8 * len(ends))
    found["throughput"] = (high - low) / (ends[high] - ends[low])
    found["preemptions"] = engine.preemptions
    return {name: float(f"{value:.5g}") for name, value in found.items()}


def pooled(runs: list[list[Request]]) -> dict[str, float]:
    """Means and percentiles over the middles of several runs, with standard errors of TTFT.

    Arguments:
        runs: the requests of each, served.
    """
    kept = [served[int(0.15 * len(served)) : int(0.925 * len(served))] for served in runs]
    waits = [np.array([r.first - r.arrival for r in each]) for each in kept]
    every = [r for each in kept for r in each]
    values = {
        "ttft": np.concatenate(waits),
        "tpot": np.array([(r.last - r.first) / (r.outputs - 1) for r in every if r.outputs > 1]),
        "end_to_end": np.array([r.last - r.arrival for r in every]),
    }
    found = {name: each.mean() for name, each in values.items()}
    for name, each in values.items():
        for level in (50, 90, 99):
            found[f"{name}_p{level}"] = np.percentile(each, level)
    pieces = max(1, 20 // len(runs))
    batches = [part.mean() for each in waits for part in np.array_split(each, pieces)]
    tails = [np.percentile(each, 99) for each in waits]
    for name, parts in (("ttft_error", batches), ("ttft_p99_error", tails)):
        found[name] = np.std(parts, ddof=1) / np.sqrt(len(parts))
    return {name: float(f"{value:.5g}") for name, value in found.items()}


def decode_only(clock: Clock, slots: int, arrivals, prompts, outputs):
    """When each request that comes with its cache has its first and its last token.

    It joins at the start of an iteration, which is when its first token is sent.
    """
    order = deque(sorted(range(len(arrivals)), key=lambda i: arrivals[i]))
    first, last = np.zeros(len(arrivals)), np.zeros(len(arrivals))
    endings, now, step, contexts = [], 0.0, 0, 0.0
    while order or endings:
        if not endings:
            now = max(now, arrivals[order[0]])
        while order and arrivals[order[0]] <= now and len(endings) < slots:
            i = order.popleft()
            first[i] = now
            contexts += prompts[i]
            heapq.heappush(endings, (step + outputs[i] - 1, i))
        contexts += len(endings)
        now, step = now + clock(len(endings), contexts, 0, 0), step + 1
        while endings and endings[0][0] <= step:
            _, i = heapq.heappop(endings)
            last[i] = now
            contexts -= prompts[i] + outputs[i] - 1
    return first, last


def two_pools(clocks, workers, budget, slots, link, arrivals, prompts, outputs, rng):
    """Requests that prefill on some engines, cross a link and decode on others.

    Arguments:
        clocks: of a prefill engine, and of a decode engine.
        workers: how many there are of each; requests are dealt out at random.
        budget: prompt tokens of an iteration of a prefill engine.
        slots: requests that may run at once on a decode engine.
        link: s on it for each token of a prompt, one after the other, and s besides.
        arrivals, prompts, outputs: of each request.
        rng: of the dealing.

    Returns:
        When each request has its first and its last token.
    """
    done, first, last = np.zeros((3, len(arrivals)))
    at = rng.integers(workers[0], size=len(arrivals))
    for worker in range(workers[0]):
        mine = np.flatnonzero(at == worker)
        engine = Engine(clocks[0], budget, len(arrivals))
        served = engine.run(arrivals[mine], prompts[mine], np.ones(len(mine)))
        done[mine] = [request.first for request in served]
    free = 0.0
    for i in np.argsort(done):
        free = max(free, done[i]) + link[0] * prompts[i]
        done[i] = free + link[1]
    at = rng.integers(workers[1], size=len(arrivals))
    for worker in range(workers[1]):
        mine = np.flatnonzero(at == worker)
        first[mine], last[mine] = decode_only(
            clocks[1], slots, done[mine], prompts[mine], outputs[mine]
        )
    return first, last


CLOCKS = {"small": SMALL, "large": LARGE}
GUESSES = {
    "two": Guesses(2, 0.8, Clock(0.6e-3, 2e-6, 4e-9, 0.08e-9, 1.2, 0.0)),
    "four": Guesses(4, 0.6, Clock(0.6e-3, 2e-6, 4e-9, 0.08e-9, 1.2, 0.0)),
}
"""By name; a model of a tenth the size drafts."""
