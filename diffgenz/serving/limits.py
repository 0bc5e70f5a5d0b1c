"""`max_rate` and `max_concurrency`: how much load a scenario takes within its objectives.

Both are found by bisection, and one Newton step more, of which only the derivatives are left, makes
them differentiable: d load / d theta = -(d metric / d theta) / (d metric / d load).
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from diffgenz.core import xp
from diffgenz.core.checks import demand, enforce
from diffgenz.core.errors import InputError
from diffgenz.core.smooth import Leaf, Scalar
from diffgenz.core.verb import verb
from diffgenz.inference.resolved import Resolved, resolved
from diffgenz.scenario.scenario import Scenario
from diffgenz.serving.bisection import last_where
from diffgenz.serving.engine_state import EngineState, engine_state
from diffgenz.serving.figures import load_result, means_of
from diffgenz.serving.load import Engine, Load
from diffgenz.serving.objectives import KINDS, Objectives
from diffgenz.serving.open_loop import NEAR
from diffgenz.serving.serve import checked, fits

_STEPS = 30
"""Bisections: of ends a factor of 1000 apart they leave a ratio of 1 + 1e-8, which float32 does not
tell from 1."""

LOWEST = 1e-3
"""The share of the saturation rate at which waits are still those of an idle server."""


def max_rate(
    case: Scenario,
    objectives: Objectives,
    load: Load | None = None,
    engine: Engine | None = None,
    of: str = "mean",
) -> Leaf:
    """The highest rate of requests/s at which all objectives are met.

    Arguments:
        case: the scenario, as of `serve`.
        objectives: limits of latencies.
        load: how requests come; its rate does not count. Default: Poisson arrivals, all alike.
        engine: what the engine is set to. Default: `Engine()`.
        of: what the limits are for: the "mean", "p50", "p90" or "p99".

    Returns:
        requests/s; 0 where even an idle server misses an objective.

    Raises:
        InputError: what `serve` refuses, a closed loop, or an unknown `of`.
    """
    load = Load(rate=1.0) if load is None else load
    if isinstance(load, Load) and load.rate is None:
        raise InputError("load: a highest rate is that of an open loop; give Load(rate=1.0, ...)")
    return _limit(case, objectives, load, engine, of)


def max_concurrency(
    case: Scenario,
    objectives: Objectives,
    load: Load | None = None,
    engine: Engine | None = None,
    of: str = "mean",
) -> Leaf:
    """The most requests under way at once with which all objectives are met, not rounded.

    Arguments:
        case, objectives, engine, of: as of `max_rate`.
        load: how requests come; its concurrency does not count. Default: a closed loop, all alike.

    Returns:
        Requests over all replicas, at most `max_num_seqs` of each; 0 where even a single one misses
        an objective.

    Raises:
        InputError: what `serve` refuses, an open loop, or an unknown `of`.
    """
    load = Load(concurrency=1.0) if load is None else load
    if isinstance(load, Load) and load.concurrency is None:
        raise InputError(
            "load: concurrency is that of a closed loop; give Load(concurrency=1, ...)"
        )
    if isinstance(load, Load) and (load.requests is not None or load.lockstep):
        raise InputError(
            "load: requests and lockstep have steps in the concurrency; leave them out"
        )
    return _limit(case, objectives, load, engine, of)


def _limit(
    case: Scenario, objectives: Objectives, load: Load, engine: Engine | None, of: str
) -> Leaf:
    checked_kind(of)
    demand("objectives", objectives, Objectives, "Objectives(ttft=0.5, tpot=0.05)")
    engine = checked(case, load, engine, objectives)
    found, fit = _SOLVERS[of](resolved(case), load, engine, objectives)
    enforce([fits(case, fit)])
    return found


def checked_kind(of: str) -> None:
    """Raise `InputError` for an `of` that is not one of `KINDS`."""
    if of not in KINDS:
        raise InputError(f"of: {of!r} is not known; use one of {', '.join(KINDS)}")


def _solver(of: str) -> Callable[..., tuple[Scalar, Scalar]]:
    """The function that finds the highest load for one kind of limits."""

    def limit(
        question: Resolved, load: Load, engine: Engine, objectives: Objectives
    ) -> tuple[Scalar, Scalar]:
        state = engine_state(question, load, engine)
        return highest_load(state, load, objectives, of), state.fit

    return verb(limit)


def highest_load(state: EngineState, load: Load, objectives: Objectives, of: str) -> Scalar:
    """The highest load at which all objectives are met; of a scenario, `max_rate`.

    Arguments:
        state: the engine.
        load: how requests come; a rate or a concurrency.
        objectives: the limits.
        of: what they are for.
    """
    if load.rate is not None:
        ends = state.most.rate * state.engines * np.array([LOWEST, NEAR])
    else:
        ends = state.engines * xp.stack([xp.ones_like(state.slots), state.slots])

    def over(amount: Scalar, theta: Any) -> Scalar:
        return excess(amount, theta[0], theta[1], theta[2], of)

    return _highest(over, ends, (state, load, objectives))


def excess(
    amount: Scalar, state: EngineState, load: Load, objectives: Objectives, of: str
) -> Scalar:
    """By how much the latency that is nearest to its limit, or beyond it, exceeds it, relatively.

    Arguments:
        amount: requests/s, or requests under way.
        state: the engine.
        load: how requests come.
        objectives: the limits.
        of: what they are for.
    """
    name = "concurrency" if load.rate is None else "rate"
    load = load.replace(**{name: amount})
    steady = state.under(load)
    if of == "mean":
        means = means_of(state, steady, load)
        found = {name: getattr(means, name) for name in objectives.limits}
    else:
        result = load_result(state, steady, load, None)
        found = {name: getattr(getattr(result, name), of) for name in objectives.limits}
    each = [found[name] / limit - 1 for name, limit in objectives.limits.items()]
    worst = each[0]
    for other in each[1:]:
        worst = xp.where(other > worst, other, worst)
    return worst


def _highest(excess: Callable[[Scalar, Any], Scalar], ends: Any, theta: Any) -> Scalar:
    """The highest load between two ends without an excess; 0 if there is one at the lower end.

    Arguments:
        excess: grows with the load, and depends on `theta`.
        ends: the least and the most, of which the derivatives count where the most is met.
        theta: what the answer is differentiated by.
    """
    fixed = xp.stop_gradient(theta)
    low, high = xp.stop_gradient(ends[0]), xp.stop_gradient(ends[1])
    never, always = excess(low, fixed) > 0, excess(high, fixed) <= 0

    root = last_where(lambda load: excess(load, fixed) <= 0, low, high, _STEPS)
    if not xp.is_jax(root):
        found = root
    else:
        slope = jax.jvp(lambda x: excess(x, fixed), (root,), (xp.ones_like(root),))[1]
        here = excess(root, theta)
        found = root - (here - jax.lax.stop_gradient(here)) / jax.lax.stop_gradient(slope)
    return xp.where(never, 0.0, xp.where(always, ends[1], found))


_SOLVERS = {kind: _solver(kind) for kind in KINDS}
