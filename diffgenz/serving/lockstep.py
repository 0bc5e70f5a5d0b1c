"""A closed loop of requests of one length, which stay together as they started.

Those that fit into one iteration's budget are prefilled together, and then for ever. While one
group is prefilled, the others decode beside it.
"""

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar
from diffgenz.serving.demand import Demand
from diffgenz.serving.iteration_table import IterationTable
from diffgenz.serving.runs import last_piece, pieces_of, room_of, runs_of
from diffgenz.serving.saturation import Saturation
from diffgenz.serving.smoothing import larger, smaller
from diffgenz.serving.steady import NOTHING, Steady


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
    room = larger(table.budget - demand.queries * admitted, 16.0)
    together = larger(xp.stop_gradient(xp.floor(room / demand.prompt)), 1.0)
    together = smaller(together, admitted)
    groups, others = admitted / together, admitted - together
    pieces = pieces_of(table, demand.prompt, room, larger(others, 1.0))
    last = last_piece(demand.prompt, pieces, room) + (together - 1) * demand.prompt
    whole = table.both(others, room)
    own = (pieces - 1) * whole + table.both(others, last)
    beside = smaller((groups - 1) * pieces, demand.steps)
    idle = table.decodes(larger(admitted, 1.0))
    cycle = larger(groups - 1, 0.0) * own + own + (demand.steps - beside) * idle
    iteration = (cycle - own) / demand.steps
    rate, zero = admitted / cycle, 0 * own
    running = rate * demand.steps * iteration
    part = beside / demand.steps
    runs = runs_of(table, demand, larger(admitted, 1.0), together * demand.prompt)
    waits = larger(1 - admitted / concurrency, 0.0) + zero
    return Steady(
        running=running,
        tagged=larger(admitted, 1.0) + zero,
        runs=runs,
        full=part * (pieces - 1) / pieces,
        part=part / pieces,
        iteration=iteration,
        waits_for_slot=waits,
        slot_wait=larger(concurrency / rate - cycle, 0.0),
        ahead=zero,
        ahead_busy=zero,
        rests=NOTHING,
        own=own,
        excess=zero,
        excess_pace=zero,
        rate=rate,
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
    rate, zero = admitted / cycle, 0 * own
    return Steady(
        running=rate * demand.steps * iteration,
        tagged=admitted + zero,
        runs=runs_of(table, demand, admitted, together * demand.prompt),
        full=(times - 1) / demand.steps,
        part=1 / demand.steps,
        iteration=iteration,
        waits_for_slot=larger(1 - admitted / concurrency, 0.0) + zero,
        slot_wait=larger(concurrency / rate - cycle, 0.0),
        ahead=zero,
        ahead_busy=zero,
        rests=NOTHING,
        own=own,
        excess=zero,
        excess_pace=zero,
        rate=rate,
        arrivals=rate * iteration,
    )
