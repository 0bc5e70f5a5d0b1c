"""Percentiles under load: of TTFT, of the time between tokens, and of whole answers.

TTFT is a sum of independent parts: a request's own prefill, which its length decides, the rest of
the running iteration, which is uniform, and waits that are zero or gamma distributed. Quantiles are
found by bisection, and take their derivatives from the implicit function theorem.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar
from diffgenz.core.tree import Tree
from diffgenz.serving.bisection import last_where
from diffgenz.serving.demand import Demand
from diffgenz.serving.implicit import moved_by
from diffgenz.serving.iteration_table import IterationTable
from diffgenz.serving.runs import last_piece, pieces_of
from diffgenz.serving.smoothing import between, larger, smaller, softplus
from diffgenz.serving.special import gamma_tail
from diffgenz.serving.steady import Steady, piece_seconds

LEVELS = (0.5, 0.9, 0.99)
"""P50, P90 and P99."""

_REST = np.array([0.125, 0.375, 0.625, 0.875])
_MARGIN = 3.0
"""Standard deviations by which a gamma variable is moved up to take in a normal one: it then has
their variance, and without a wait it is nearly normal."""

_LOGISTIC = math.sqrt(3) / math.pi
"""The scale of a logistic variable of standard deviation 1."""

_RANGE = 1e3
"""By which factor percentiles may differ from the mean, either way."""

_BISECTIONS = 40
"""They leave a ratio of 1 + 1e-11 of what is uncertain by `_RANGE` either way."""

_BLUR = 0.005
"""Of a request's own prefill, by which it varies: without it, tails of equal lengths would have
steps and no derivatives."""


class Tails(Tree):
    """The probabilities that the latencies of a steady state exceed some seconds.

    Arguments:
        steady: the steady state.
        table: how long iterations take.
        demand: the requests, their lengths told apart finely.
        queue: the shape of the wait for a slot, of those who do wait: 1 where it is exponential.
        burst: of requests that all come at once in the beginning: their share, and the s between
            the first tokens of the first and of the last of them.
        after: s that follow the prefill of the prompt of each node before its first token.
    """

    steady: Steady
    demand: Demand
    burst: tuple[Scalar, Scalar]
    own: Any
    wait: "_Wait"
    none: Any
    some: Any
    variance: Any

    def __init__(
        self,
        steady: Steady,
        table: IterationTable,
        demand: Demand,
        queue: Scalar,
        burst: tuple[Scalar, Scalar],
        after: Any = 0.0,
    ):
        self.burst = burst
        self.steady, self.demand = steady, demand
        runs = steady.runs
        beside = smaller(steady.running, steady.tagged)
        pieces = pieces_of(demand.prompts.tokens, runs.room, steady.tagged)
        last = last_piece(demand.prompts.tokens, pieces, runs.room)
        own = (pieces - 1) * table.both(beside, runs.room) + table.both(beside, last)
        own = larger(own + table.pair * demand.extra_pairs, 1e-9) + after
        self.own = own + steady.own - demand.prompts.mean(own)  # of the right mean
        busy = between(steady.ahead_busy, 1e-6, 1.0)
        _, square = piece_seconds(demand, runs, runs.full, table.pair)
        seconds = larger(demand.prompts.tokens * runs.full / runs.room, 1e-9)
        cube = demand.prompts.mean(seconds * seconds * seconds)
        wait = larger(steady.ahead, 1e-9)
        load = between(1 - steady.rate * square / (2 * wait), 0.0, 0.999)
        second = 2 * wait * wait + steady.rate * cube / (3 * (1 - load))
        ahead = _Wait.of(wait / busy, larger(second / busy, 1.02 * wait * wait / busy**2))
        waits = between(steady.waits_for_slot, 1e-9, 1.0)
        slot = steady.slot_wait / waits
        slot = _Wait.of(larger(slot, 1e-9), slot * slot * (1 + 1 / queue) + 1e-18)
        self.wait = _Wait(
            xp.stack([ahead.mean, slot.mean, ahead.mean + slot.mean]),
            xp.stack([ahead.variance, slot.variance, ahead.variance + slot.variance]),
        )
        self.none = (1 - busy) * (1 - waits)
        self.some = xp.stack([busy * (1 - waits), waits * (1 - busy), busy * waits])
        _, self.variance = per_token(steady, table, demand)

    def ttft(self, seconds: Any) -> Any:
        """The probability that TTFT exceeds some seconds; of any shape."""
        seconds = xp.asarray(seconds)
        tail = self._late(seconds[..., None], 0.0)
        share, spread = self.burst
        early = seconds[..., None] - self.own
        early = between(1 - early / larger(spread, 1e-3 * self.own), 0.0, 1.0)
        return (((1 - share) * tail + share * early) * self.demand.prompts.weights).sum(-1)

    def end_to_end(self, seconds: Any) -> Any:
        """The probability that a whole answer takes more than some seconds; of any shape."""
        outputs = self.demand.outputs
        steps = larger(outputs.tokens - 1, 0.0)
        decoding, apart = self.steady.generation(steps), xp.sqrt(self.variance) * steps
        left = (xp.asarray(seconds)[..., None] - decoding)[..., None]
        tail = self._late(left, apart[:, None])
        share, spread = self.burst
        early = left - self.own
        early = between(1 - early / larger(spread, 1e-3 * self.own), 0.0, 1.0)
        tail = (((1 - share) * tail + share * early) * self.demand.prompts.weights).sum(-1)
        return (outputs.weights * tail).sum(-1)

    def _late(self, seconds: Any, apart: Any) -> Any:
        """The probability that waits and prefill take longer, of the prompt of each node.

        Arguments:
            seconds: than these, with a last axis of 1.
            apart: the standard deviation, in s, of what else varies, about its mean; as `seconds`.
        """
        left = seconds - self.own
        scale = xp.sqrt((_BLUR * self.own) ** 2 + (_LOGISTIC * apart) ** 2)
        width = larger(2 * self.steady.rest, 0.1 * scale)
        above = softplus((width - left) / scale) - softplus(-left / scale)
        tail = self.none * above * scale / width  # the mean of a logistic step over the rest
        margin = _MARGIN * xp.asarray(apart)[..., None, None]
        wait = _Wait(self.wait.mean + margin, self.wait.variance + (margin / _MARGIN) ** 2)
        rest = 2 * self.steady.rest * _REST[:, None]
        late = wait.tail(left[..., None, None] - rest + margin).mean(-2)
        return tail + (self.some * late).sum(-1)


class _Wait(Tree):
    """Gamma distributed waits.

    Arguments:
        mean: s.
        variance: s^2.
    """

    mean: Any
    variance: Any

    @classmethod
    def of(cls, mean: Any, second: Any) -> "_Wait":
        """By its mean and mean square."""
        return cls(mean, larger(second - mean * mean, 1e-4 * mean * mean))

    def tail(self, seconds: Any) -> Any:
        """The probability that it exceeds some seconds, where it may be negative."""
        late = seconds > 0
        scaled = xp.where(late, seconds, self.mean) * self.mean / self.variance
        tail = gamma_tail(self.mean * self.mean / self.variance, scaled)
        return xp.where(late, tail, 1.0)


def quantiles(tail: Callable[[Any, Any], Any], of: Any, scale: Scalar) -> tuple[Scalar, ...]:
    """Where the tail of a latency falls to 1 - each of `LEVELS`.

    Arguments:
        tail: the probability of exceeding some seconds, of any shape; of `of` and them.
        of: what the tail depends on, and quantiles are differentiated by.
        scale: s of about that size; the answers are within a factor of `_RANGE` of it.
    """
    return tuple(_quantiles(tail, of, xp.stop_gradient(scale) * np.ones(len(LEVELS))))


def _found(tail: Callable[[Any, Any], Any], of: Any, middle: Any) -> Any:
    least = np.array([1 - level for level in LEVELS])
    ends = middle / _RANGE, middle * _RANGE
    return last_where(lambda x: tail(of, x) > least, *ends, _BISECTIONS)


_quantiles = xp.rule(_found, nondiff_argnums=(0,))


def _quantiles_jvp(tail: Callable[[Any, Any], Any], primals: Any, tangents: Any) -> tuple[Any, Any]:
    of, middle = primals
    found = _quantiles(tail, of, middle)
    _, slope = jax.jvp(lambda x: tail(of, x), (found,), (jnp.ones_like(found),))
    slope = jnp.where(slope < -1e-6 / found, slope, -1e-6 / found)
    off = moved_by(lambda changed: tail(changed, found), of, tangents[0])
    return found, jnp.zeros_like(found) if off is None else -off / slope


_quantiles.defjvp(_quantiles_jvp, symbolic_zeros=True)


def per_token(steady: Steady, table: IterationTable, demand: Demand) -> tuple[Scalar, Scalar]:
    """The mean and the variance of TPOT over requests, in s and s^2."""
    outputs = demand.outputs
    steps = larger(outputs.tokens - 1, 1e-9)
    mean = outputs.mean(xp.where(outputs.tokens > 1, steady.generation(steps) / steps, 0.0))
    idle = steady.runs.idle
    extra = larger(steady.iteration - idle, 1e-12)
    arrivals = larger(steady.arrivals, 1e-12)
    calm = larger(1 - extra / steady.iteration, 0.05)
    size = extra / arrivals / calm
    own = arrivals / demand.steps * size * size * (1 + demand.prompt_variation)
    elasticity = between(table.elasticity(steady.tagged), 0.0, 0.9)
    drift = elasticity * mean / steady.tagged
    return mean, own + drift * drift * steady.running / (1 - elasticity)
