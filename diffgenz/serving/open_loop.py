"""The mean field of continuous batching where requests arrive at a rate.

Two unknowns, the running decodes and the tokens of a prefill run, and two equations: Little's law,
and that the tokens of a run are those that arrive in a cycle. All else is explicit in them.
"""

from typing import NamedTuple

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar
from diffgenz.serving.demand import Demand
from diffgenz.serving.fixed_point import State, Tried, solve
from diffgenz.serving.iteration_table import IterationTable
from diffgenz.serving.own_prefill import Joining, own_prefill
from diffgenz.serving.runs import Runs, ends_of, next_tokens, runs_of
from diffgenz.serving.saturation import Saturation, arriving_tokens
from diffgenz.serving.smoothing import TAGGED, between, larger, smaller, smooth_smaller
from diffgenz.serving.steady import Rests, Sharing, Steady, piece_seconds
from diffgenz.serving.waiting import slot_wait

NEAR = 0.999
"""The load up to which there is a steady state to speak of."""


class Open(NamedTuple):
    """An engine and the requests that arrive at it.

    Arguments:
        table: how long iterations take.
        demand: the requests.
        most: the engine at its limit.
        slots: requests that may run at once.
        rate: requests/s, below saturation.
        burstiness: the squared coefficient of variation of the time between arrivals.
        waits: the probability that a request waits for a slot.
        slot_wait: s that it does, in the mean over all requests.
    """

    table: IterationTable
    demand: Demand
    most: Saturation
    slots: Scalar
    rate: Scalar
    burstiness: Scalar
    waits: Scalar
    slot_wait: Scalar


def open_loop(
    table: IterationTable,
    demand: Demand,
    most: Saturation,
    slots: Scalar,
    rate: Scalar,
    burstiness: Scalar,
) -> Steady:
    """The steady state of an engine at which requests arrive.

    Arguments:
        table: how long iterations take.
        demand: the requests.
        most: the engine at its limit.
        slots: requests that may run at once.
        rate: requests/s; beyond `NEAR` of saturation it is taken as that.
        burstiness: the squared coefficient of variation of the time between arrivals.
    """
    rate = smaller(rate, NEAR * most.rate)
    waits, wait = slot_wait(table, demand, most, slots, rate / most.rate, burstiness)
    theta = Open(table, demand, most, slots, rate, burstiness, waits, wait)
    return solve(_equations, _start, theta, 4)


def _start(theta: Open) -> tuple[State, State]:
    demand, most = theta.demand, theta.most
    steps = demand.steps
    idle = theta.rate * steps * theta.table.decodes(xp.ones_like(steps))
    tokens = 1000 * (theta.table.budget + demand.prompt)
    least = 1 / (1.1 * most.running), demand.prompt / tokens
    return (1 / smaller(idle, 0.98 * most.running), xp.ones_like(idle)), least


def _balances(steady: Steady, theta: Open) -> tuple[Scalar, Scalar]:
    """The running decodes that Little's law gives, and the tokens that arrive in a cycle."""
    demand, runs = theta.demand, steady.runs
    by_little = theta.rate * demand.outputs.mean(steady.generation(demand.rounds))
    by_time = theta.rate * demand.prompt * steady.iteration / larger(steady.part, 1e-30)
    by_completions = arriving_tokens(runs, demand, steady.running / demand.steps)
    waits = _regulated(theta, runs)
    return by_little, (1 - waits) * by_time + waits * by_completions


def _equations(state: State, theta: Open) -> Tried:
    table, demand = theta.table, theta.demand
    steady = _steady(state, theta)
    by_little, arriving = _balances(steady, theta)
    runs, running, tokens = steady.runs, steady.running, demand.prompt / state[1]
    share = theta.rate * demand.steps * steady.iteration / by_little
    elasticity = between(
        table.elasticity(steady.tagged) * running / (running + 1) * share, 0.0, 0.85
    )
    move = between((by_little / running - 1) / (1 - elasticity), -0.5, 2.0)
    better = smaller(running * (1 + move), 1.1 * theta.most.running)
    arrivals = theta.rate * demand.prompt
    rates = arrivals * runs.full / runs.room, arrivals * runs.idle / runs.room
    new = next_tokens(runs, tokens, arriving, rates)
    new = between(new, 0.3 * demand.prompt, 1000 * (runs.room + demand.prompt))
    off = xp.log(by_little / running), xp.log(arriving / tokens)
    return Tried(off, (1 / better, demand.prompt / new), steady.solving(off[0]))


def _steady(state: State, theta: Open) -> Steady:
    """All that is explicit in the two unknowns."""
    table, demand, most, slots, rate, _, waits, wait = theta
    running, tokens = 1 / state[0], demand.prompt / state[1]
    tagged = smooth_smaller(running + 1, most.running, TAGGED)
    runs = runs_of(table, demand, tagged, tokens)
    by_slots = _regulated(theta, runs)
    at_completions = -xp.expm1(-running / demand.steps)
    after_idle = -(1 - by_slots) * xp.expm1(-rate * runs.idle) + by_slots * at_completions
    after_part = -(1 - by_slots) * xp.expm1(-rate * runs.part)
    if not runs.apart:
        after_part = after_part + by_slots * at_completions
    part = runs.partly(after_idle, after_part)
    full = part * (runs.count - 1)
    iteration = part * runs.cycle(after_idle, after_part)
    busy, partly = full * runs.full / iteration, part * runs.part / iteration

    idle = runs.idle * -xp.expm1(-running)
    token = (runs.full if runs.apart else runs.full - runs.idle) / runs.room
    ends, each = ends_of(demand, runs, token), token * demand.prompt
    anyway = Rests(xp.stack([idle, ends.seconds]), xp.stack([1 - busy - partly, partly]))
    rests = Rests(anyway.lengths * (1 - by_slots), anyway.shares)
    rest = rests.mean
    mean, square = piece_seconds(demand, runs, runs.full, table.pair)
    load = smaller(rate * mean, 0.999)
    freely = _ahead(theta, mean, (square, ends.square, each * rest), load, iteration)
    arrivals = running / demand.steps
    in_steps = smaller(arrivals * mean / runs.full, 0.999)
    regulated = arrivals * square / runs.full / (2 * (1 - in_steps))
    if runs.apart:
        regulated = (runs.count - 1) / 2 * runs.full
    ahead = (1 - by_slots) * freely + by_slots * regulated

    chunks = table.beside(smaller(running, most.running))
    arriving = rate * demand.prompt
    beside = chunks, chunks.seconds(runs.room)
    meanwhile = rest + (runs.pieces - 1) * beside[1]
    joining = Joining(start=arriving * meanwhile, inside=arriving * ahead)
    mine = own_prefill(table, demand, runs, beside, joining, (busy, mean))
    own = mine.seconds
    left = larger(arriving * (freely + anyway.mean + own) - mine.shared, 1e-3)
    left = smaller(left, larger(slots - running, 1e-3) * demand.prompt)
    excess, pace = _excess(runs, iteration, left, busy + partly)
    if runs.apart:
        started = arriving * runs.idle / after_idle
        follow = -xp.expm1(-left / demand.prompt)
        further = larger(left - follow * started, 0.0) * runs.full / runs.room / (1 - load)
        stall = iteration - runs.idle
        excess, pace = stall * (follow / after_idle - 1) + further, 0 * pace + 50.0
    else:  # no answer takes longer than at saturation
        excess = smaller(excess, larger(most.running / most.rate - demand.steps * iteration, 1e-12))
    return Steady(
        running=running,
        tagged=tagged,
        runs=runs,
        full=full,
        part=part,
        iteration=iteration,
        waits_for_slot=waits,
        slot_wait=wait,
        ahead=ahead,
        ahead_busy=larger(busy, load),
        rests=rests,
        own=own,
        excess=excess * (1 - by_slots),
        excess_pace=pace,
        rate=rate,
        arrivals=rate * iteration,
        sharing=Sharing(mine.inside, mine.joined, each, ends.seconds),
    )


def _regulated(theta: Open, runs: Runs) -> Scalar:
    """To what degree requests come as others end: where they wait for slots longer than for the
    iterations that run, of which the rest is then part of that wait."""
    return theta.waits * theta.slot_wait / (theta.slot_wait + theta.waits * runs.part + 1e-12)


def _excess(runs: Runs, iteration: Scalar, left: Scalar, prefills: Scalar) -> tuple[Scalar, Scalar]:
    """Seconds that an answer takes beyond the mean iteration behind its prefill, and their pace.

    Arguments:
        runs: the prefill runs.
        iteration: s of an iteration, in the mean.
        left: prompt tokens that are left when its own are computed.
        prefills: the share of time in which prompts are computed.
    """
    # up to those of a last iteration they take less than their share of a full one, as long as
    # weights take longer to read than they to compute
    few = smaller(left, runs.last)
    each = larger(runs.part - runs.idle, 1e-9) / runs.last
    more = (runs.full - runs.part) / larger(runs.room - runs.last, 1.0)
    longer = few * each + (left - few) * larger(more, 0.0)
    share = left / runs.room
    lull = larger(1 - iteration / runs.full, 0.0)
    calm = larger(runs.idle / iteration, 1e-3)
    excess = larger(longer * lull / calm, 1e-12)
    first = runs.idle - longer * xp.expm1(-prefills / share)
    return excess, larger(first - iteration, 0.0) / excess


def _ahead(
    theta: Open, mean: Scalar, squares: tuple[Scalar, ...], load: Scalar, iteration: Scalar
) -> Scalar:
    """Seconds of waiting for the prompts before, were there no slots to wait for.

    It is that of an M/G/1 queue at the speed of full iterations: by Little's law so many are ahead
    as come while one waits. Who finds a prompt in the last iteration of a run waits for the rest of
    that, as counted elsewhere, and then shares an iteration with those who came before. Arrivals in
    clumps wait even at low load. In a long backlog decodes pile up and service slows down.

    Arguments:
        theta: the engine and its load.
        mean: s of a prompt at the speed of full iterations.
        squares: s^2: the mean square of that; the part of it in last iterations; and what another
            prompt adds to an iteration, times the rest of a running one that is not full.
        load: the share of time in which prompts would be computed at that speed.
        iteration: s of one.
    """
    square, last, others = squares
    rate, most, bursts = theta.rate, theta.most, theta.burstiness
    clumps = (bursts - 1) / 2 * mean * xp.exp(xp.log(load) / bursts)
    found = rate * larger((square - last) / 2, 0.0) + rate * others
    total = larger(found + clumps, 0.05 * found + 1e-12)
    short, backlog = total / (1 - load), total / ((1 - load) * (1 - load))
    lag = backlog / (backlog + theta.demand.steps * iteration / 2) * (1 - most.queues)
    slower = xp.log((1 - load) / (1 - rate / most.rate))
    return short * xp.exp(lag * larger(slower, 0.0))
