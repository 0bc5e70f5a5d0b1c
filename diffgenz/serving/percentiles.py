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

_REST = 0.25, 0.75
"""Nodes of a uniform variable."""

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
        demand: the requests.
        fine: the same, their lengths told apart finely.
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
    rest: Any
    variance: Any

    def __init__(
        self,
        steady: Steady,
        table: IterationTable,
        demand: Demand,
        fine: Demand,
        queue: Scalar,
        burst: tuple[Scalar, Scalar],
        after: Any = 0.0,
    ):
        self.burst = burst
        self.steady, self.demand = steady, fine
        runs = steady.runs
        beside = smaller(steady.running, steady.tagged)
        pieces = pieces_of(table, fine.prompts.tokens, runs.room, steady.tagged)
        last = last_piece(fine.prompts.tokens, pieces, runs.room)
        own = (pieces - 1) * table.both(beside, runs.room) + table.both(beside, last)
        own = larger(own + table.pair * fine.extra_pairs, 1e-9) + after
        self.none, self.some, self.rest, self.wait = _states(steady, table, demand, queue)
        waits = (self.none * steady.rests.lengths).sum(-1) / 2
        waits = waits + (self.some * (self.rest + self.wait.mean)).sum(-1)
        self.own = own + steady.ttft - waits - fine.prompts.mean(own)  # of the right mean
        _, self.variance = per_token(steady, table, fine)

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
        decoding = self.steady.generation(self.demand.rounds)
        apart = xp.sqrt(self.variance) * larger(outputs.tokens - 1, 0.0)
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
        left, scale = left[..., None], scale[..., None]
        width = larger(self.steady.rests.lengths, 0.1 * scale)
        above = softplus((width - left) / scale) - softplus(-left / scale)
        # the mean of a logistic step over the rest
        tail = (self.none * above * scale / width).sum(-1)
        margin = _MARGIN * xp.asarray(apart)[..., None]
        wait = _Wait(self.wait.mean + margin, self.wait.variance + (margin / _MARGIN) ** 2)
        late = wait.tail(left - self.rest + margin)
        return tail + (self.some * late).sum(-1)


def _states(
    steady: Steady, table: IterationTable, demand: Demand, queue: Scalar
) -> tuple[Any, Any, Any, "_Wait"]:
    """What an arriving request finds.

    An iteration that only decodes, or the last one of a run: others that come in the same iteration
    may share the next one, Poisson in number. A full one, behind which prompts wait. Or that all
    slots are taken.

    Arguments:
        steady, table, demand, queue: as of `Tails`.

    Returns:
        The probabilities that nobody shares the next iteration; those of all other states; the s
        before a wait in each; and the waits.
    """
    runs, sharing, lengths = steady.runs, steady.sharing, steady.rests.lengths
    shares = between(steady.rests.shares, 0.0, 1.0)
    full = between(1 - shares.sum(-1), 0.0, 1.0)
    wait, one = larger(steady.ahead, 1e-9), xp.ones_like(steady.ahead)[None]
    waiting = between(steady.ahead_busy, 1e-6, 1.0)
    mean, square = piece_seconds(demand, runs, runs.full, table.pair)
    seconds = demand.prompts.tokens * runs.full / runs.room + table.pair * demand.extra_pairs
    seconds = larger(seconds, 1e-9)
    cube = demand.prompts.mean(seconds * seconds * seconds)

    slots = between(steady.waits_for_slot, 1e-9, 1.0)
    stops = between(sharing.end / runs.part, 0.0, 1.0)
    busy = between(full + (1 - stops) * (waiting - full), 1e-6, 1.0)
    before = steady.rate * sharing.each * lengths / 2
    before = before * smaller(wait / larger((before * shares).sum(-1), 1e-12), 1.0)
    left = larger(wait - (before * shares).sum(-1), 1e-6 * wait)
    behind = smaller(left, busy * (wait / waiting + stops * runs.full / 2))
    before = before + larger(left - behind, 0.0) / larger(shares[1], 1e-6) * np.array([0.0, 1.0])
    # of an M/G/1 queue, of those who wait
    spread = 2 * waiting + (1 - waiting) * 4 / 3 * mean * cube / (square * square)
    ahead = behind / busy
    ahead = _Wait.of(ahead, ahead * ahead * larger(spread, 1.02))

    further = demand.prompts.mean(runs.pieces - 1) * runs.full
    time = lengths / 2 + further + 1e-9
    typical = (time * shares).sum(-1) / larger(shares.sum(-1), 1e-6)
    company = larger(before + sharing.joined * time / typical, 1e-9)
    each = larger(sharing.each, 1e-9)
    alone = xp.exp(-company / each)
    met = larger(1 - alone, 1e-9)
    second = (each * (1 + demand.prompt_variation) + company) * company
    joined = _Wait.of(company / met, second / met)
    # last iterations are of all lengths, and whoever meets a long one also meets more others
    uneven = larger(sharing.end - runs.part, 0.0) * runs.part
    more = 0.5 + steady.rate * sharing.each
    joined = _Wait(joined.mean, joined.variance + more * more * uneven * np.array([0.0, 1.0]))

    slot = larger(steady.slot_wait / slots, 1e-9)
    slot = _Wait(slot + steady.ahead + steady.rests.mean, slot * slot / queue + wait * wait)
    shares = shares * (1 - busy) / larger(1 - full, 1e-6) * (1 - slots)

    def twice(each: Any) -> Any:
        return (each[:, None] * np.ones(len(_REST))).ravel()

    some = xp.concatenate([twice(shares * met) / len(_REST), (1 - slots) * busy * one, slots * one])
    rest = (lengths[:, None] * np.array(_REST)).ravel()
    waits = _Wait(
        xp.concatenate([twice(joined.mean), ahead.mean * one, slot.mean * one]),
        xp.concatenate([twice(joined.variance), ahead.variance * one, slot.variance * one]),
    )
    offsets = xp.concatenate([rest, sharing.inside * one, 0 * one])
    return shares * alone, some, offsets, waits


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
        # of 1 ns, squares are all that float32 holds: no higher powers in derivatives
        shape = 1 / (self.variance / (self.mean * self.mean))
        tail = gamma_tail(shape, shape * (xp.where(late, seconds, self.mean) / self.mean))
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
    left = larger(outputs.tokens - 1, 1e-9)
    each = steady.generation(demand.rounds) / left
    mean = outputs.mean(xp.where(outputs.tokens > 1, each, 0.0))
    idle = steady.runs.idle
    extra = larger(steady.iteration - idle, 1e-12)
    arrivals = larger(steady.arrivals, 1e-12)
    calm = larger(1 - extra / steady.iteration, 0.05)
    size = extra / arrivals / calm
    own = arrivals / demand.steps * size * size * (1 + demand.prompt_variation)
    elasticity = between(table.elasticity(steady.tagged), 0.0, 0.9)
    drift = elasticity * mean / steady.tagged
    own = own / (demand.pace * demand.pace)
    if demand.verifying is not None:
        own = own + demand.verifying.variation * mean * mean / demand.steps
    return mean, own + drift * drift * steady.running / (1 - elasticity)
