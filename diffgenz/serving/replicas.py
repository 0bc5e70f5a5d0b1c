"""`replicas_for`: how many copies of a deployment a load needs.

A router deals requests out to the copies, each of which serves its share as if it were alone.
"""

from typing import NamedTuple

import numpy as np

from diffgenz.core import xp
from diffgenz.core.checks import demand, enforce
from diffgenz.core.differences import as_double, in_double
from diffgenz.core.errors import NoSolution
from diffgenz.core.verb import as_if_traced
from diffgenz.inference.resolved import resolved
from diffgenz.scenario.scenario import Scenario
from diffgenz.serving.engine_state import EngineState, engine_state
from diffgenz.serving.limits import LOWEST, checked_kind, excess
from diffgenz.serving.load import Engine, Load
from diffgenz.serving.load_result import LoadResult
from diffgenz.serving.objectives import Objectives
from diffgenz.serving.open_loop import NEAR
from diffgenz.serving.serve import checked, fits, serve


class Replicas(NamedTuple):
    """Copies of a deployment that serve a load.

    Arguments:
        count: how many there are, the fewest that meet the objectives.
        share: the load of one of them.
        each: the figures of one of them; `serve` of its share.
    """

    count: int
    share: Load
    each: LoadResult


def replicas_for(
    case: Scenario,
    load: Load,
    objectives: Objectives,
    engine: Engine | None = None,
    of: str = "mean",
) -> Replicas:
    """The fewest replicas of a deployment of which each meets the objectives under its share.

    As a number that can be differentiated it is the rate over `max_rate`, not rounded up.

    Arguments:
        case: one replica, which may have data-parallel ranks of its own.
        load: how requests come to all replicas together.
        objectives: limits of latencies.
        engine: what each replica is set to; its router deals out the requests. Default: `Engine()`.
        of: what the limits are for: the "mean", "p50", "p90" or "p99".

    Raises:
        InputError: what `serve` refuses but for a load that is too high for one replica, or an
            unknown `of`.
        NoSolution: a replica that is all but idle misses an objective.
    """
    checked_kind(of)
    demand("objectives", objectives, Objectives, "Objectives(ttft=0.5, tpot=0.05)")
    demand("load", load, Load, "Load(rate=5.0)")
    case, load = xp.of_numpy(case), xp.of_numpy(load)
    alone = load if load.concurrency is None else load.replace(concurrency=1.0)
    engine = checked(case, alone, engine, objectives)
    with in_double(), as_if_traced():
        asked = as_double((resolved(case), alone, engine))
        state = engine_state(*asked)
    enforce([fits(case, state.fit)])
    doubled = as_double(load), as_double(objectives)

    def meet(count: int) -> bool:
        return _over(state, engine, *doubled, of, count) <= 0

    least, most = _ends(state, load)
    if not meet(most):
        raise NoSolution(
            f"objectives: a replica that is all but idle misses them by "
            f"{100 * _over(state, engine, *doubled, of, most):.3g} %; loosen them, or take faster "
            "replicas"
        )
    high = least
    while high < most and not meet(high):
        least, high = high + 1, min(2 * high, most)
    while least < high:
        middle = (least + high) // 2
        if meet(middle):
            high = middle
        else:
            least = middle + 1
    share = load.share_of(float(high), engine.router)
    return Replicas(high, share, serve(case, share, engine, objectives))


def _ends(state: EngineState, load: Load) -> tuple[int, int]:
    """The fewest replicas that might do, and as many as make each all but idle."""
    if load.rate is None:
        under_way = float(np.asarray(load.concurrency))
        slots = float(np.asarray(state.slots * state.engines))
        return int(np.ceil(under_way / slots)), int(under_way)
    saturates = float(np.asarray(state.most.rate * state.engines))
    rate = float(np.asarray(load.rate))
    return int(np.ceil(rate / (NEAR * saturates))), int(np.ceil(rate / (LOWEST * saturates)))


def _over(
    state: EngineState, engine: Engine, load: Load, objectives: Objectives, of: str, count: int
) -> float:
    """By how much each of some replicas exceeds the objectives, relatively."""
    with as_if_traced():
        share = load.share_of(np.float64(count), engine.router)
        amount = share.concurrency if share.rate is None else share.rate
        assert amount is not None  # one of both is given
        return float(excess(amount, state, share, objectives, of))
