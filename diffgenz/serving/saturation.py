"""How many requests run at once when as many wait as may be, and how many are then done per second.

In a saturated engine admissions happen at completions, so that requests per iteration are the
running ones over the iterations that each takes, and everything is explicit in their number.
"""

from typing import Any

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar
from diffgenz.core.tree import Tree
from diffgenz.serving.demand import Demand
from diffgenz.serving.fixed_point import State, Tried, solve
from diffgenz.serving.iteration_table import IterationTable
from diffgenz.serving.runs import Runs, next_tokens, pieces_of, room_of, runs_of
from diffgenz.serving.smoothing import LIMITS, between, larger, smaller, smooth_smaller

FILLED = 0.97
"""The share of the cache that holds anything: blocks are not full, and the next request waits."""


class Saturation(Tree):
    """An engine at its limit.

    Arguments:
        budget: running decodes whose requests' prompts fill every iteration.
        cache: running decodes when the cache is full.
        running: running decodes: the least of these.
        queues: to what degree requests wait for slots or cache, not for other prompts, in [0, 1].
        rate: requests/s.
        calm: requests/s that it would do if nobody were put back.
    """

    budget: Scalar
    cache: Scalar
    running: Scalar
    queues: Scalar
    rate: Scalar
    calm: Scalar

    def crowded(self, concurrency: Scalar) -> Scalar:
        """To what degree so many requests fill the cache, in [0, 1]."""
        return xp.sigmoid(60 * (1 - smaller(self.cache / concurrency, 2.0)))


def saturation_of(
    table: IterationTable, demand: Demand, slots: Scalar, cache: Scalar
) -> Saturation:
    """Where an engine saturates.

    Arguments:
        table: how long iterations take.
        demand: its requests.
        slots: requests that may run at once.
        cache: requests that the cache has room for, at the length that they have in the mean while
            they run.
    """
    steps, mean = demand.steps, demand.prompt
    by_budget, by_slots = table.budget * steps / (steps * demand.queries + mean), slots
    if table.prefill_first:
        by_budget = 1e6 * slots  # whoever decodes does so beside nobody's prompts
    else:
        for _ in range(2):
            room = table.budget - smaller(demand.queries * by_slots, 0.9 * table.budget)
            pieces = pieces_of(table, demand.prompts.tokens, room, by_slots)
            by_slots = slots / (1 + demand.prompts.mean(pieces) / steps)
    by_cache = FILLED * cache
    least = smooth_smaller(by_slots, by_cache, LIMITS)
    running = smooth_smaller(by_budget, least, LIMITS)
    queues = xp.sigmoid(60 * (1 - smaller(least / by_budget, 2.0)))
    binds = xp.sigmoid(60 * (1 - smaller(by_cache / by_slots, 2.0)))
    again = binds * recomputed(table, demand, running)
    arrivals = running / steps * (1 + again * demand.generated / mean)
    runs = _full_runs(table, demand, running, arrivals)
    start = -xp.expm1(-arrivals)
    later = 0 * start if table.prefill_first else start
    shared = runs.partly(start, later) * runs.cycle(start, later)
    iteration = queues * shared + (1 - queues) * runs.full
    rate = running / (steps * iteration)
    token = runs.full / runs.room if table.prefill_first else (runs.full - runs.idle) / runs.room
    calm = larger(1 - running * demand.pace * again * token / iteration, 0.1)
    return Saturation(by_budget, by_cache, running, queues, rate, rate / calm)


def recomputed(table: IterationTable, demand: Demand, running: Scalar) -> Scalar:
    """Prompt tokens that preemption computes again, for each token that is decoded.

    Whatever room there is in a full cache is given to the next prompts at once, so that caches
    which grow by a token take it from somebody: the request that came last is put back, and its
    prompt computed again. It needs not be where another request ends in that iteration, or where
    prompts in the making have the budget to themselves, so that no further one is let in.

    Arguments:
        table: how long iterations take.
        demand: the requests.
        running: decodes that fill the cache.
    """
    room = room_of(table, demand, running)
    ends = running / demand.steps
    # requests of equal lengths end together with those that were let in together
    random = smaller(4 * (demand.output_variation + demand.prompt_variation), 1.0)
    together = random + (1 - random) * larger(room / demand.prompt, 1.0)
    quiet = xp.exp(-ends / together)
    if table.prefill_first:
        return quiet
    idle = larger(1 - ends * demand.prompt / room, 0.0)
    return quiet * idle / (1 + quiet * running * demand.pace / room)


def arriving_tokens(runs: Runs, demand: Demand, arrivals: Scalar) -> Scalar:
    """Prompt tokens that arrive in a cycle, of which each iteration brings `arrivals` requests."""
    start = -xp.expm1(-arrivals)
    if runs.apart:  # nobody's answer ends meanwhile
        return arrivals * demand.prompt / start
    return arrivals * demand.prompt * ((1 - start) / start + runs.count)


def _full_runs(table: IterationTable, demand: Demand, running: Scalar, arrivals: Scalar) -> Runs:
    """The prefill runs of an engine at its limit; their tokens are the one unknown."""
    if table.prefill_first:
        tokens = arrivals * demand.prompt / -xp.expm1(-arrivals)
        return runs_of(table, demand, running, tokens)
    return solve(_equations, _start, (table, demand, running, arrivals), 4)


def _start(theta: Any) -> tuple[State, State]:
    table, demand, running, _ = theta
    tokens = 1000 * (table.budget + demand.prompt)
    return (xp.ones_like(running),), (demand.prompt / tokens,)


def _equations(state: State, theta: Any) -> Tried:
    table, demand, running, arrivals = theta
    tokens = demand.prompt / state[0]
    runs = runs_of(table, demand, running, tokens)
    arriving = arriving_tokens(runs, demand, arrivals)
    each = arrivals * demand.prompt / runs.room
    new = next_tokens(runs, tokens, arriving, (each, each))
    new = between(new, 0.3 * demand.prompt, 1000 * (runs.room + demand.prompt))
    return Tried((xp.log(arriving / tokens),), (demand.prompt / new,), runs)
