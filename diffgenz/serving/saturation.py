"""How many requests run at once when as many wait as may be, and how many are then done per second.

In a saturated engine admissions happen at completions, so that requests per iteration are the
running ones over the iterations that each takes, and everything is explicit in their number.
"""

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar
from diffgenz.core.tree import Tree
from diffgenz.serving.demand import Demand
from diffgenz.serving.fixed_point import State, solve
from diffgenz.serving.iteration_table import IterationTable
from diffgenz.serving.runs import Runs, next_tokens, pieces_of, runs_of
from diffgenz.serving.smoothing import LIMITS, between, smaller, smooth_smaller

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
    """

    budget: Scalar
    cache: Scalar
    running: Scalar
    queues: Scalar
    rate: Scalar


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
    by_budget = table.budget * steps / (steps + mean)
    by_slots = slots
    for _ in range(2):
        room = table.budget - smaller(by_slots, 0.9 * table.budget)
        held = demand.prompts.mean(pieces_of(demand.prompts.tokens, room, by_slots))
        by_slots = slots / (1 + held / steps)
    by_cache = FILLED * cache
    least = smooth_smaller(by_slots, by_cache, LIMITS)
    running = smooth_smaller(by_budget, least, LIMITS)
    queues = xp.sigmoid(60 * (1 - smaller(least / by_budget, 2.0)))
    arrivals = running / steps
    tokens = _run_tokens(table, demand, running, arrivals)
    runs = runs_of(table, demand, running, tokens)
    start = -xp.expm1(-arrivals)
    shared = runs.partly(start, start) * runs.cycle(start, start)
    iteration = queues * shared + (1 - queues) * runs.full
    rate = running / (steps * iteration)
    return Saturation(by_budget, by_cache, running, queues, rate)


def arriving_tokens(runs: Runs, demand: Demand, arrivals: Scalar) -> Scalar:
    """Prompt tokens that arrive in a cycle, of which each iteration brings `arrivals` requests."""
    start = -xp.expm1(-arrivals)
    return arrivals * demand.prompt * ((1 - start) / start + runs.count)


def _run_tokens(table: IterationTable, demand: Demand, running: Scalar, arrivals: Scalar) -> Scalar:
    """Prompt tokens of a run; one unknown, beside which the other stays zero."""
    theta = (table, demand, running, arrivals)

    def of(state: State, theta) -> tuple[Scalar, Scalar, Runs]:
        table, demand, running, arrivals = theta
        tokens = xp.exp(state[1])
        runs = runs_of(table, demand, running, tokens)
        return tokens, arriving_tokens(runs, demand, arrivals), runs

    def residual(state: State, theta) -> State:
        tokens, arriving, _ = of(state, theta)
        return state[0], xp.log(arriving / tokens)

    def step(state: State, theta) -> State:
        tokens, arriving, runs = of(state, theta)
        per_token = theta[3] * theta[1].prompt / runs.room
        new = next_tokens(runs, tokens, arriving, (per_token, per_token))
        most = 1000 * (runs.room + theta[1].prompt)
        return state[0], xp.log(between(new, 0.3 * theta[1].prompt, most))

    def start(theta) -> State:
        mean = theta[1].prompt
        return 0 * mean, xp.log(mean)

    return xp.exp(solve(residual, step, start, theta, 14)[1])
