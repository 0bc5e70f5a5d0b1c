"""A closed loop of requests of one length, which stay together as they started.

Which prompts share an iteration is counted (`lockstep_schedule`). Where they go first, all of them
are prefilled before all decode together.
"""

import equinox as eqx

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar
from diffgenz.serving.demand import Demand
from diffgenz.serving.iteration_table import IterationTable
from diffgenz.serving.lockstep_schedule import schedule_of
from diffgenz.serving.runs import room_of, runs_of
from diffgenz.serving.saturation import Saturation
from diffgenz.serving.smoothing import larger, smaller
from diffgenz.serving.steady import Steady, closed_state


def lockstep(
    table: IterationTable,
    demand: Demand,
    most: Saturation,
    slots: Scalar,
    concurrency: Scalar,
) -> Steady:
    """The state that an engine runs in, all prompts and all answers of one length each.

    Arguments:
        table: how long iterations take.
        demand: the requests.
        most: the engine at its limit.
        slots: requests that may run at once.
        concurrency: requests under way.
    """
    admitted = smaller(concurrency, smaller(slots, most.cache))
    if table.prefill_first:
        return _prompts_first(table, demand, admitted, concurrency)
    plan = schedule_of(admitted, demand.prompt, demand.steps, table.budget, demand.queries)
    seconds = table.both(plan.beside, plan.tokens)
    idle, whole = table.decodes(larger(admitted, 1.0)), table.both(plan.beside, table.budget)
    own = (plan.own * seconds).sum()
    cycle = admitted * ((plan.each * seconds).sum() + plan.idle * idle)
    iteration = (cycle - own) / demand.steps
    rate = admitted / cycle
    carrying = plan.each.sum()
    part = carrying / (carrying + plan.idle)
    runs = runs_of(table, demand, larger(admitted, 1.0), demand.prompt)
    runs = eqx.tree_at(
        lambda r: (r.idle, r.part, r.full),
        runs,
        (idle, (plan.each * seconds).sum() / carrying, whole),
    )
    return closed_state(
        concurrency,
        admitted,
        demand.steps,
        runs=runs,
        tagged=larger(admitted, 1.0),
        iteration=iteration,
        rate=rate,
        own=own,
        full=0 * own,
        part=part,
        arrivals=rate * iteration,
    )


def _prompts_first(
    table: IterationTable, demand: Demand, admitted: Scalar, concurrency: Scalar
) -> Steady:
    """All prompts are computed one after the other, before all decode together.

    Arguments:
        table, demand, concurrency: as of `lockstep`.
        admitted: requests that run at once.
    """
    together = smaller(room_of(table, demand, admitted) / demand.prompt, admitted)
    times = xp.stop_gradient(xp.ceil(admitted / together - 1e-4))
    last = admitted - (times - 1) * together
    whole, rest = table.both(admitted, demand.prompt * xp.stack([together, last]))
    idle, run = table.decodes(admitted), (times - 1) * whole + rest
    # each of the full iterations, and all of them before the last one
    own = ((times - 1) * times / 2 * whole * together + run * last) / admitted
    cycle = run + demand.steps * idle
    iteration = (cycle - own) / demand.steps
    rate = admitted / cycle
    return closed_state(
        concurrency,
        admitted,
        demand.steps,
        runs=runs_of(table, demand, admitted, together * demand.prompt),
        tagged=admitted,
        iteration=iteration,
        rate=rate,
        own=own,
        full=(times - 1) / demand.steps,
        part=1 / demand.steps,
        arrivals=rate * iteration,
    )
