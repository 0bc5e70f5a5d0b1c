"""The mean field of continuous batching where each reply is followed by the next request.

Replies and new requests meet between iterations, and a long iteration does not collect more of them
than a short one: the clock is the iteration, and nobody waits for the rest of a running one.
"""

from typing import NamedTuple

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar
from diffgenz.serving.demand import Demand
from diffgenz.serving.fixed_point import State, Tried, solve
from diffgenz.serving.iteration_table import IterationTable
from diffgenz.serving.own_prefill import Joining, own_prefill
from diffgenz.serving.runs import next_tokens, runs_of
from diffgenz.serving.saturation import Saturation, arriving_tokens, recomputed
from diffgenz.serving.smoothing import LIMITS, TAGGED, larger, smaller, smooth_smaller
from diffgenz.serving.steady import Steady, closed_state, piece_seconds

_FULL = 0.985
"""The share of the running decodes at which prompts fill every iteration up to which there are
runs to speak of: at 1 a run never ends."""

_OTHERS = 5.0
"""How soon prompts share the budget: of two requests all but exp(-5) of the time."""

_RATES = 48.0
"""The power of the smooth minimum of two rates; at a tie, which many closed loops come near to, it
gives 98.6 % of either."""


class Closed(NamedTuple):
    """An engine and the requests under way.

    Arguments:
        table: how long iterations take.
        demand: the requests.
        most: the engine at its limit.
        concurrency: requests under way.
        admitted: those of them that may run at once.
    """

    table: IterationTable
    demand: Demand
    most: Saturation
    concurrency: Scalar
    admitted: Scalar


def closed_loop(
    table: IterationTable,
    demand: Demand,
    most: Saturation,
    slots: Scalar,
    concurrency: Scalar,
) -> Steady:
    """The steady state of an engine with so many requests under way.

    Arguments:
        table: how long iterations take.
        demand: the requests.
        most: the engine at its limit.
        slots: requests that may run at once.
        concurrency: requests under way.
    """
    places = smaller(slots, most.cache)
    admitted = smaller(concurrency, places)
    theta = Closed(table, demand, most, concurrency, admitted)
    if table.prefill_first:
        return _prompts_first(theta)
    return solve(_equations, _start, theta, 6)


def _prompts_first(theta: Closed) -> Steady:
    """Whoever comes is prefilled before others decode on, so that all decode in each iteration."""
    table, demand, most, concurrency, admitted = theta
    ends = admitted / demand.steps
    again = most.crowded(concurrency) * recomputed(table, demand, admitted)
    arrivals = ends * (1 + again * demand.generated / demand.prompt)
    start = -xp.expm1(-arrivals)
    runs = runs_of(table, demand, admitted, demand.prompt * arrivals / start)
    cycle = runs.partly(start, 0 * start) * runs.cycle(start, 0 * start)
    rate = admitted / (demand.steps * cycle)
    # those that a request meets: others end in the same iteration as the one before it
    others = arrivals * larger(admitted - 1, 0.0) / larger(admitted, 1.0)
    mine = runs_of(table, demand, admitted, demand.prompt * (1 + others))
    further = mine.count - 1
    own = (further * mine.full + mine.part) / mine.count
    ahead = further / 2 * mine.full
    return closed_state(
        concurrency,
        admitted,
        demand.steps,
        runs=runs,
        tagged=admitted,
        iteration=cycle - (own + ahead) / demand.steps,
        rate=rate,
        own=own,
        full=start * (runs.count - 1),
        part=start,
        arrivals=arrivals,
        ahead=ahead,
        ahead_busy=larger(further / mine.count, 0.0),
    )


def _start(theta: Closed) -> tuple[State, State]:
    first = smaller(0.8 * theta.admitted, 0.8 * theta.most.running)
    tokens = 1000 * (theta.table.budget + theta.demand.prompt)
    return (1 / first, xp.ones_like(first)), (1 / theta.admitted, theta.demand.prompt / tokens)


def _equations(state: State, theta: Closed) -> Tried:
    table, demand, most, concurrency, admitted = theta
    running, tokens = 1 / state[0], demand.prompt / state[1]
    tagged = smooth_smaller(running + 1, larger(smaller(admitted, most.budget), 1.0), TAGGED)
    runs = runs_of(table, demand, tagged, tokens)
    arrivals = running / demand.steps * larger(admitted - 1, 1e-6) / larger(admitted, 1.0 + 1e-6)
    # those that are put back are computed again
    again = most.crowded(concurrency) * recomputed(table, demand, running)
    arrivals = arrivals * (1 + again * demand.generated / demand.prompt)
    start = -xp.expm1(-arrivals)
    part = runs.partly(start, start)
    full = part * (runs.count - 1)
    decoding = demand.steps * part * runs.cycle(start, start)

    random = smaller(4 * demand.output_variation, 1.0)
    mean, square = piece_seconds(demand, runs, runs.full, table.pair)
    in_steps = smaller(arrivals * demand.prompt / runs.room, 0.999)
    ahead = random * arrivals * square / runs.full / (2 * (1 - in_steps))

    chunks = table.beside(larger(running * (admitted - 1) / larger(admitted, 1.0), 0.0))
    # prompts of the same iteration share it; they come per iteration, not per second
    each = arrivals * demand.prompt
    joining = Joining(start=runs.pieces * each, inside=each)
    beside = chunks, chunks.seconds(runs.room)
    own = own_prefill(table, demand, runs, beside, joining, (full * random, mean)).seconds

    # prompts fill the budget up to a rate, and leave room for so many decodes
    free = admitted / (decoding + ahead + own)
    others = -xp.expm1(-_OTHERS * larger(admitted - 1, 1e-6))  # one alone shares with nobody
    most_rate = most.budget / (demand.steps * runs.full * others)
    rate = smooth_smaller(free, most_rate, _RATES)
    decodes = smooth_smaller(free * decoding, _FULL * most.budget, LIMITS)

    arriving = arriving_tokens(runs, demand, arrivals)
    filled = each / runs.room
    new = next_tokens(runs, tokens, arriving, (filled, filled))
    off = xp.log(decodes / running), xp.log(arriving / tokens)
    better = 1 / xp.sqrt(decodes * running), demand.prompt / new
    steady = closed_state(
        concurrency,
        admitted,
        demand.steps,
        runs=runs,
        tagged=tagged,
        iteration=running / (rate * demand.steps),  # full ones, where prompts fill the budget
        rate=rate,
        own=own,
        full=full,
        part=part,
        arrivals=arrivals,
        ahead=ahead,
        ahead_busy=larger(full, in_steps),
    )
    return Tried(off, better, steady.solving(off[0]))
