"""Which prompts share which iterations where requests of one length go in lockstep.

In a closed loop of equal lengths requests come as others end, between iterations, so that what an
iteration computes follows from whole numbers alone, however long it takes. It is counted here,
request by request.
"""

from collections import deque
from typing import Any, NamedTuple

import jax
import numpy as np

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar

BINS = 12
"""Sizes of iterations that are told apart."""

_GENERATIONS, _KEPT = 40, 8
"""Requests of each that is under way that are followed, and how many of the first are not counted:
they all came at once."""


class Schedule(NamedTuple):
    """The iterations of a lockstep by the prompt tokens that they carry.

    Arguments:
        tokens: prompt tokens of each size of iteration, in the mean; shape (BINS,).
        own: iterations of each size from the arrival of a request to its first token; shape
            (BINS,).
        each: iterations of each size for each request that is served; shape (BINS,).
        idle: iterations without prompts for each request that is served.
        beside: decodes beside prompts, in the mean.
    """

    tokens: Any
    own: Any
    each: Any
    idle: Scalar
    beside: Scalar


def schedule_of(
    concurrency: Scalar, prompt: Scalar, steps: Scalar, budget: Scalar, queries: Scalar | float
) -> Schedule:
    """The schedule of an engine, constant under differentiation.

    Arguments:
        concurrency: requests under way, all of which may run; counted as a whole number.
        prompt: tokens of each prompt.
        steps: decode iterations of each request.
        budget: tokens of an iteration.
        queries: tokens of a decode in an iteration.
    """
    numbers = tuple(map(xp.stop_gradient, (concurrency, prompt, steps, budget, queries)))
    if xp.is_jax(numbers):
        kind = np.result_type(*numbers)
        shape = jax.ShapeDtypeStruct((3 * BINS + 2,), kind)
        found = jax.pure_callback(
            lambda *given: _counted(*given).astype(kind), shape, *numbers, vmap_method="sequential"
        )
    else:
        found = _counted(*numbers)
    tokens, own, each = (found[i * BINS : (i + 1) * BINS] for i in range(3))
    return Schedule(tokens, own, each, found[-2], found[-1])


def _counted(*numbers: Any) -> np.ndarray:
    """The numbers of a `Schedule`, in a row; arguments as of `schedule_of`."""
    count, prompt, steps, budget, queries = (max(1, round(float(each))) for each in numbers)
    served, asked = 0, _GENERATIONS * count
    first, last = _KEPT * count, asked
    waiting = deque((prompt, np.zeros(BINS)) for _ in range(count))
    ends: dict[int, int] = {}
    now = decoding = 0
    seen, tokens, beside, idle = np.zeros(BINS), np.zeros(BINS), 0.0, 0
    own, since = np.zeros(BINS), (np.zeros(BINS), 0)
    while served < last:
        if not waiting:
            upcoming = min(ends)
            idle += upcoming - now
            now = upcoming
        else:
            room = left = max(budget - queries * decoding, 1)
            done = []
            while waiting and left > 0:
                owed, before = waiting.popleft()
                taken = min(owed, left)
                left -= taken
                if owed > taken:
                    waiting.appendleft((owed - taken, before))
                else:
                    done.append(before)
            at = min(BINS - 1, (room - left) * BINS // budget)
            seen[at] += 1
            tokens[at] += room - left
            beside += decoding
            now += 1
            for before in done:
                served += 1
                if served == first:
                    since = seen.copy(), idle
                if served > first:
                    own += seen - before
            decoding += len(done)
            if done:
                ends[now + steps] = ends.get(now + steps, 0) + len(done)
        over = ends.pop(now, 0)
        decoding -= over
        waiting.extend((prompt, seen.copy()) for _ in range(over))
    kept = served - first
    mean = np.where(seen > 0, tokens / np.maximum(seen, 1), budget / 2)
    total = (seen - since[0]) / kept
    rest = np.array([(idle - since[1]) / kept, beside / seen.sum()])
    return np.concatenate([mean, own / kept, total, rest])
