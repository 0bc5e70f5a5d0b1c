"""`probability_of_meeting`: how likely a deployment keeps its promises, with kernels uncertain.

Fits of kernels have a covariance and a scatter (`inference.uncertainty`). Each draw of them is a
table of iterations of its own; requests, slots and cache are the same in all.
"""

from typing import NamedTuple

import jax
import numpy as np

from diffgenz.core.batches import COMPILED_QUICKLY
from diffgenz.core.checks import demand, enforce
from diffgenz.core.differences import as_double, in_double
from diffgenz.core.errors import InputError
from diffgenz.core.smooth import Flag
from diffgenz.core.verb import as_if_traced
from diffgenz.inference.estimate import constant_ranks
from diffgenz.inference.resolved import resolved
from diffgenz.inference.uncertainty import drawn_library, steps_of, uncertain_in, with_kernels
from diffgenz.scenario.scenario import Scenario
from diffgenz.serving.engine_state import EngineState, engine_state
from diffgenz.serving.iteration_table import IterationTable, tabulate
from diffgenz.serving.limits import checked_kind, excess
from diffgenz.serving.load import Engine, Load
from diffgenz.serving.objectives import Objectives
from diffgenz.serving.serve import checked, fits

DRAWS = 100
"""Draws where nothing else is said."""

_COMPILED_FROM = 400
"""Draws from which compiling takes less time than answering one after the other in NumPy."""


class Probability(NamedTuple):
    """A probability, and how sure draws make it.

    Arguments:
        value: in [0, 1].
        standard_error: of `value`, by the number of draws alone. None met or all of them leaves
            less than 3 / draws of doubt at 95 %, and an error of 0 here.
        draws: how many were made.
    """

    value: float
    standard_error: float
    draws: int


def probability_of_meeting(
    case: Scenario,
    load: Load,
    objectives: Objectives,
    engine: Engine | None = None,
    *,
    of: str = "mean",
    draws: int = DRAWS,
    seed: int = 0,
) -> Probability:
    """The probability that all objectives are met at once, over the uncertainty of kernels.

    A draw in which the load is beyond saturation misses them.

    Arguments:
        case: the scenario, as of `serve`, whose platform was loaded with fitted kernels.
        load: how requests come.
        objectives: limits of latencies.
        engine: what the engine is set to. Default: `Engine()`.
        of: what the limits are for: the "mean", "p50", "p90" or "p99".
        draws: how many draws of the fits' parameters are made, at least 2.
        seed: of the draws: the same one gives the same answer.

    Raises:
        InputError: what `serve` refuses but for a rate beyond saturation, kernels that are not
            fitted, an unknown `of`, or fewer than two draws.
    """
    checked_kind(of)
    demand("objectives", objectives, Objectives, "Objectives(ttft=0.5, tpot=0.05)")
    if draws < 2:
        raise InputError(f"draws: {draws} is not allowed; it must be at least 2")
    engine = checked(case, load, engine, objectives)
    state, tables = _drawn_tables(case, load, engine, draws, seed)
    load, objectives = as_double((load, objectives))
    asked = state, load, objectives
    if draws < _COMPILED_FROM:
        each = (jax.tree.map(lambda leaf, i=i: leaf[i], tables) for i in range(draws))
        with as_if_traced():
            met = np.array([bool(_met(table, *asked, of)) for table in each])
    else:
        with in_double():
            met = np.asarray(_all_met(tables, *asked, of))
    share = float(met.mean())
    return Probability(share, float(np.sqrt(share * (1 - share) / draws)), draws)


def _drawn_tables(
    case: Scenario, load: Load, engine: Engine, draws: int, seed: int
) -> tuple[EngineState, IterationTable]:
    """The engine as its kernels are in the mean, and a table of iterations of each draw."""
    essence, library, uncertain = uncertain_in(case, "probability")
    with in_double(), as_if_traced():
        state = engine_state(as_double(resolved(case)), as_double(load), as_double(engine))
    enforce([fits(case, state.fit)])
    with in_double(), as_if_traced():
        steps = steps_of(uncertain, draws, seed)
        moved = drawn_library(library, uncertain, steps, further=1)
        there = with_kernels(as_double(essence), moved)
        tables = tabulate(
            constant_ranks(resolved(there)),
            state.demand,
            state.slots,
            state.table.budget,
        ).changed(state.host.on)
    return state, jax.tree.map(lambda leaf: np.broadcast_to(leaf, (draws, *leaf.shape[1:])), tables)


def _met(
    table: IterationTable, state: EngineState, load: Load, objectives: Objectives, of: str
) -> Flag:
    """Whether an engine with other iterations meets the objectives."""
    state = state.timed_by(table)
    amount = load.concurrency if load.rate is None else load.rate
    assert amount is not None  # one of both is given
    met = excess(amount, state, load, objectives, of) <= 0
    return met if load.rate is None else met & (amount < state.most.rate * state.engines)


_all_met = jax.jit(
    jax.vmap(_met, (0, None, None, None, None)),
    static_argnums=4,
    compiler_options=COMPILED_QUICKLY,
)
