"""Prefill and decode on pools of their own, in steady state under a load.

A prefill engine is a queue whose server takes up to a budget of tokens at once, without running
decodes; a decode engine waits for slots as any other, without prompts. What joins them is the
transfer of the cache over a shared link, itself a queue. The decode worker sends the first token,
as soon as it has the cache and a slot, at the start of its next iteration.
"""

from typing import NamedTuple

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar
from diffgenz.core.tree import Tree
from diffgenz.serving.demand import Demand
from diffgenz.serving.fixed_point import State, Tried, solve
from diffgenz.serving.host import Host
from diffgenz.serving.iteration_table import LEAST, IterationTable
from diffgenz.serving.open_loop import NEAR
from diffgenz.serving.own_prefill import Joining, own_prefill
from diffgenz.serving.runs import Runs, ends_of, next_tokens, runs_of
from diffgenz.serving.saturation import FILLED, Saturation
from diffgenz.serving.smoothing import (
    LIMITS,
    TAGGED,
    between,
    larger,
    smaller,
    smooth_smaller,
)
from diffgenz.serving.steady import Rests, Sharing, Steady, piece_seconds
from diffgenz.serving.waiting import slot_wait


class Pools(Tree):
    """Both pools and the link between them.

    Arguments:
        demand: the requests.
        fine: the same, their lengths told apart finely.
        table: how long iterations take: of decodes alone on a decode engine, and of prompts alone
            on a prefill engine, whatever decodes run elsewhere.
        slots: requests that may run at once on a decode engine.
        cache: requests that a decode engine's cache has room for, at their mean length.
        prefills: prefill engines.
        decodes: decode engines.
        transfer: s that the cache of one prompt token is on the link.
        latency: s that a transfer takes besides.
        host: what the hosts of workers add; `table` has what they add to iterations. Default:
            nothing.
    """

    demand: Demand
    fine: Demand
    table: IterationTable
    slots: Scalar
    cache: Scalar
    prefills: Scalar
    decodes: Scalar
    transfer: Scalar
    latency: Scalar
    host: Host = Host(0.0)

    @property
    def most(self) -> Saturation:
        """A decode engine at its limit, where prompts take nothing."""
        running = smooth_smaller(self.slots, FILLED * self.cache, LIMITS)
        rate = running / (self.demand.steps * self.table.decodes(running))
        one = xp.ones_like(running)
        return Saturation(1e9 * one, FILLED * self.cache, running, one, rate, rate)

    @property
    def sustained(self) -> Scalar:
        """Requests/s that the prefill engines, the link and the decode engines sustain; (3,)."""
        runs = self._runs(self.demand.prompt)
        mean, _ = piece_seconds(self.demand, runs, runs.full, self.table.pair)
        link = self.transfer * self.demand.prompt
        return xp.stack([self.prefills / mean, 1 / link, self.decodes * self.most.rate])

    def _runs(self, tokens: Scalar) -> Runs:
        """The prefill runs of some tokens, beside no decodes."""
        return runs_of(self.table, self.demand, 0 * self.table.budget, tokens)


class _Theta(NamedTuple):
    """What the steady state depends on: the pools, and requests/s of each engine of either pool."""

    pools: Pools
    most: Saturation
    prefill_rate: Scalar
    decode_rate: Scalar
    burstiness: Scalar


def pools_under(pools: Pools, rate: Scalar, burstiness: Scalar) -> Steady:
    """The steady state of pools at which requests arrive.

    It is that of a prefill engine, at whose end the transfer and the wait for a slot are part of
    the time to the first token, and of a decode engine from then on; its rate is a prefill
    engine's.

    Arguments:
        pools: the pools.
        rate: requests/s of all; beyond `NEAR` of saturation it is taken as that.
        burstiness: the squared coefficient of variation of the time between arrivals at a prefill
            engine. Those at decode engines are taken as Poisson.
    """
    first, link, second = pools.sustained
    rate = smaller(rate, NEAR * smaller(smaller(first, link), second))
    theta = _Theta(pools, pools.most, rate / pools.prefills, rate / pools.decodes, burstiness)
    return solve(_equations, _start, theta, 6)


def _start(theta: _Theta) -> tuple[State, State]:
    demand, table = theta.pools.demand, theta.pools.table
    idle = theta.decode_rate * demand.steps * table.decodes(xp.ones_like(demand.steps))
    tokens = 1000 * (table.budget + demand.prompt)
    least = 1 / (1.1 * theta.most.running), demand.prompt / tokens
    return (1 / smaller(idle, 0.98 * theta.most.running), xp.ones_like(idle)), least


def _balances(state: State, theta: _Theta) -> tuple[Scalar, Scalar, Runs]:
    """The running decodes that Little's law gives, and the tokens that arrive in a cycle."""
    demand, table = theta.pools.demand, theta.pools.table
    running = 1 / state[0]
    tagged = smooth_smaller(running + 1, theta.most.running, TAGGED)
    runs = theta.pools._runs(demand.prompt / state[1])
    by_little = theta.decode_rate * demand.steps * table.decodes(tagged)
    return by_little, theta.prefill_rate * demand.prompt * _cycle(runs, theta), runs


def _cycle(runs: Runs, theta: _Theta) -> Scalar:
    """Seconds from the start of a prefill run to that of the next, of which some may be idle."""
    rate = theta.prefill_rate
    return xp.exp(-rate * runs.part) / rate + (runs.count - 1) * runs.full + runs.part


def _equations(state: State, theta: _Theta) -> Tried:
    demand, table, most = theta.pools.demand, theta.pools.table, theta.most
    by_little, arriving, runs = _balances(state, theta)
    running, tokens = 1 / state[0], demand.prompt / state[1]
    elasticity = between(table.elasticity(running + 1) * running / (running + 1), 0.0, 0.85)
    move = between((by_little / running - 1) / (1 - elasticity), -0.5, 2.0)
    better = smaller(running * (1 + move), 1.1 * most.running)
    busy = theta.prefill_rate * demand.prompt * runs.full / runs.room
    new = next_tokens(runs, tokens, arriving, (busy, 0 * busy))
    new = between(new, 0.3 * demand.prompt, 1000 * runs.room)
    off = xp.log(by_little / running), xp.log(arriving / tokens)
    steady = _steady(state, theta).solving(off[0])
    return Tried(off, (1 / better, demand.prompt / new), steady)


def _steady(state: State, theta: _Theta) -> Steady:
    """All that is explicit in the running decodes and the tokens of a prefill run."""
    pools, most = theta.pools, theta.most
    demand, table, rate = pools.demand, pools.table, theta.prefill_rate
    running = 1 / state[0]
    tagged = smooth_smaller(running + 1, most.running, TAGGED)
    runs = pools._runs(demand.prompt / state[1])
    cycle = _cycle(runs, theta)
    busy, partly = (runs.count - 1) * runs.full / cycle, runs.part / cycle
    token = (runs.full - table.both(0 * running, LEAST + 0 * running)) / runs.room
    ends, each = ends_of(demand, runs, token), token * demand.prompt
    rests = Rests(xp.stack([0 * partly, ends.seconds]), xp.stack([1 - busy - partly, partly]))
    mean, square = piece_seconds(demand, runs, runs.full, table.pair)
    load = smaller(rate * mean, NEAR)
    clumps = (theta.burstiness - 1) / 2 * mean * xp.exp(xp.log(load) / theta.burstiness)
    found = rate * larger((square - ends.square) / 2, 0.0) + rate * each * rests.mean
    ahead = larger(found + clumps, 0.05 * found + 1e-12) / (1 - load)
    arriving = rate * demand.prompt
    joining = Joining(arriving * (rests.mean + (runs.pieces - 1) * runs.full), arriving * ahead)
    beside = table.beside(0 * running), runs.full
    mine = own_prefill(table, demand, runs, beside, joining, (busy, mean))
    iteration = table.decodes(tagged)
    until_next = 0.5 * iteration * -xp.expm1(-running)
    share = theta.decode_rate / most.rate
    waits, wait = slot_wait(table, demand, most, pools.slots, share, xp.ones_like(rate))
    zero = 0 * mine.seconds
    return Steady(
        running=running,
        tagged=tagged,
        runs=Runs(runs.room, runs.pieces, runs.count, iteration, runs.full, runs.part, runs.last),
        full=zero,
        part=zero,
        iteration=iteration,
        waits_for_slot=waits,
        slot_wait=wait,
        ahead=ahead,
        ahead_busy=larger(busy, load),
        rests=rests,
        own=mine.seconds + _transfer(theta) + until_next,
        excess=zero,
        excess_pace=zero,
        rate=rate,
        arrivals=theta.decode_rate * iteration,
        sharing=Sharing(mine.inside, mine.joined, each, ends.seconds),
    )


def _transfer(theta: _Theta) -> Scalar:
    """Seconds from the end of a prefill until its cache is there, waiting for the link included."""
    pools = theta.pools
    each = pools.transfer * pools.demand.prompts.tokens
    mean, square = pools.demand.prompts.mean(each), pools.demand.prompts.mean(each * each)
    rate = theta.prefill_rate * pools.prefills
    wait = rate * square / (2 * (1 - smaller(rate * mean, NEAR)))
    return pools.latency + mean + wait
