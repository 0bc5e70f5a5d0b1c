"""Ranges of a space, reduced: the unit of work.

Devices, processes, machines and resumption are all made of it.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from diffgenz.core.errors import InputError
from diffgenz.studies.sweep.program import Program, Screened
from diffgenz.studies.sweep.reductions.reduction import Reduction, State
from diffgenz.studies.sweep.space import MOST_BATCH, Space

BATCH = 2**16
"""Configurations of one device call, for each device: what a CPU's caches like."""

_AHEAD = 2  # batches under way while one is absorbed


class Tally(NamedTuple):
    """How many configurations became what.

    Arguments:
        tried: all of them.
        legal: those whose numbers go together: their plan can be laid out, and so on.
        broken: legal ones with a metric that is not finite.
        feasible: those that meet all constraints.
    """

    tried: int = 0
    legal: int = 0
    broken: int = 0
    feasible: int = 0

    def plus(self, other: "Tally") -> "Tally":
        """The sum of both."""
        return Tally(*(a + b for a, b in zip(self, other, strict=True)))


class Outcome(NamedTuple):
    """What a range came to.

    Arguments:
        tally: the counts.
        states: of each reduction.
    """

    tally: Tally
    states: tuple[State, ...]


class Engine:
    """Reduces ranges of a space on this machine's devices.

    Arguments:
        space: what is swept.
        reductions: what is kept.
        batch: configurations of one call to one device.

    Raises:
        InputError: a batch below 1, or a reduction that does not fit the space.
    """

    def __init__(
        self,
        space: Space,
        reductions: Sequence[Reduction],
        *,
        batch: int = BATCH,
    ):
        self.space, self.reductions = space, tuple(reductions)
        if batch < 1:
            raise InputError(f"batch: {batch} is not allowed; it must be at least 1")
        devices = jax.local_devices()
        self.batch = min(batch * len(devices), MOST_BATCH // len(devices) * len(devices))
        self._sharding = None
        if len(devices) > 1:
            self._sharding = NamedSharding(
                Mesh(np.array(devices), ("configurations",)), PartitionSpec("configurations")
            )
        self._programs: dict[int, Program] = {}

    def __reduce__(self):
        return _rebuilt, (
            self.space,
            self.reductions,
            self.batch // len(jax.local_devices()),
        )

    def check_names(self) -> None:
        """Raise `InputError` for a name in a formula that nothing has; nothing is compiled."""
        self._next(0, self.space.size)

    def start(self) -> Outcome:
        """The outcome of no configurations."""
        levels = self.space.levels
        return Outcome(Tally(), tuple(reduction.start(levels) for reduction in self.reductions))

    def reduce(self, start: int, stop: int, known: Outcome | None = None) -> Outcome:
        """The outcome of the configurations from `start` up to `stop`, added to those `known`.

        What is known already serves as a threshold: it changes what is looked at twice, and never
        the result.
        """
        outcome = known or self.start()
        seen: list[State | None] = [None] * len(self.reductions)
        thresholds: list[Any] = [None] * len(self.reductions)
        waiting: deque[tuple[int, int, Screened]] = deque()
        while start < stop or waiting:
            if start < stop:
                program, count = self._next(start, stop)
                for number, reduction in enumerate(self.reductions):
                    state = outcome.states[number]
                    if state is not seen[number]:  # maps may be large, and seldom change
                        seen[number] = state
                        thresholds[number] = jax.device_put(reduction.threshold(state))
                waiting.append((start, count, program.dispatch(start, count, thresholds)))
                start += count
            if len(waiting) > _AHEAD or start >= stop:
                outcome = self._absorbed(outcome, *waiting.popleft())
        settled = (
            reduction.settled(state)
            for reduction, state in zip(self.reductions, outcome.states, strict=True)
        )
        return Outcome(outcome.tally, tuple(settled))

    def _next(self, start: int, stop: int) -> tuple[Program, int]:
        """The program of the variant that `start` is in, and the size of its next batch."""
        variant = self.space.split(start)[0]
        if variant not in self._programs:
            self._programs[variant] = Program(
                self.space, variant, self.reductions, self.batch, self._sharding
            )
        end = (variant + 1) * (self.space.size // self.space.variant_count)
        return self._programs[variant], min(self.batch, stop - start, end - start)

    def _absorbed(self, outcome: Outcome, start: int, count: int, screened: Screened) -> Outcome:
        columns = {name: np.asarray(column) for name, column in screened.columns.items()}
        states = []
        for reduction, state, keep, summary in zip(
            self.reductions, outcome.states, screened.keep, screened.summaries, strict=True
        ):
            kept = np.zeros(0, np.int64) if keep is None else np.flatnonzero(np.asarray(keep))
            rows = {name: column[kept] for name, column in columns.items()}
            rows["index"] = start + kept
            states.append(reduction.absorb(state, rows, summary))
        tally = Tally(count, int(screened.legal), int(screened.broken), int(screened.feasible))
        return Outcome(outcome.tally.plus(tally), tuple(states))

    def merge(self, one: Outcome, other: Outcome) -> Outcome:
        """The outcome of two disjoint ranges."""
        states = tuple(
            reduction.merge(a, b)
            for reduction, a, b in zip(self.reductions, one.states, other.states, strict=True)
        )
        return Outcome(one.tally.plus(other.tally), states)


def _rebuilt(space: Space, reductions: Sequence[Reduction], batch: int) -> Engine:
    """An engine on the machine where it is unpickled."""
    return Engine(space, reductions, batch=batch)
