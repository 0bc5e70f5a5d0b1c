"""One engine of a deployment, prepared: its iterations tabulated, its limits known.

A deployment is as many engines as it has replicas and pipeline stages: those that share a pipeline
take turns, and share slots and cache. Ranks of attention data parallelism are one engine, whose
slots and budget are those of all.
"""

from typing import Any

import equinox as eqx
import jax
import numpy as np

from diffgenz.core import xp
from diffgenz.core.leaves import with_parts
from diffgenz.core.smooth import Scalar
from diffgenz.inference.estimate import constant_ranks
from diffgenz.inference.jobs import jobs_of
from diffgenz.inference.resolved import Resolved
from diffgenz.scenario.scenario import prompted
from diffgenz.serving.closed_loop import closed_loop
from diffgenz.serving.demand import Demand, demand_of
from diffgenz.serving.host import Host
from diffgenz.serving.iteration_table import IterationTable, tabulate
from diffgenz.serving.load import Engine, Load
from diffgenz.serving.lockstep import lockstep
from diffgenz.serving.open_loop import open_loop
from diffgenz.serving.saturation import Saturation, saturation_of
from diffgenz.serving.steady import Steady

_UNLIMITED = 1e9
"""Requests that fit where they keep nothing."""


class EngineState(eqx.Module):
    """One engine and its requests.

    Arguments:
        demand: the requests.
        fine: the same, their lengths told apart finely.
        table: how long iterations take.
        most: the engine at its limit.
        slots: requests that may run at once.
        fit: requests of the longest kind that the cache has room for.
        engines: how many there are in the deployment.
        host: what the host adds; `table` has what it adds to iterations. Default: nothing.
    """

    demand: Demand
    fine: Demand
    table: IterationTable
    most: Saturation
    slots: Scalar
    fit: Scalar
    engines: Scalar
    host: Host = Host(0.0)

    def under(self, load: Load) -> Steady:
        """The steady state of the engine under its share of a load."""
        known = self.table, self.demand, self.most, self.slots
        if load.rate is not None:
            return open_loop(*known, load.rate / self.engines, load.burstiness)
        assert load.concurrency is not None  # one of both is given
        loop = lockstep if load.lockstep else closed_loop
        own = load.concurrency / self.engines
        return self.host.closed(loop(*known, own), own)


def engine_state(question: Resolved, load: Load, engine: Engine) -> EngineState:
    """The engine of a scenario.

    Arguments:
        question: the scenario.
        load: how its requests come, of which only the lengths count.
        engine: what the engine is set to.
    """
    question = constant_ranks(question)
    case = question.case
    plan = case.plan
    demand, fine = demand_of(case, load), demand_of(case, load, fine=True)
    slots = engine.max_num_seqs * plan.attention_data / plan.pipeline
    assert case.serving.chunk is not None  # `serve` refuses whole prompts
    budget = case.serving.chunk * plan.attention_data
    host = host_of(engine, case.model.layers)
    table = tabulate(question, demand, slots, budget).changed(host.on)
    engines = plan.data * plan.pipeline
    typical = demand.context + 0.6 * demand.prompt / demand.steps
    lengths = xp.stack([typical, demand.most - 1])
    cache, fit = xp.mapped(lambda tokens: room_for(question, tokens))(lengths) / engines
    if not xp.is_jax(table):
        demand, fine, table, slots, cache, fit, engines, host = _double(
            (demand, fine, table, slots, cache, fit, engines, host)
        )
    most = saturation_of(table, demand, slots, cache)
    return EngineState(demand, fine, table, most, slots, fit, engines, host)


def host_of(engine: Engine, layers: Any) -> Host:
    """What the host of an engine adds.

    Arguments:
        engine: what it is set to.
        layers: of the model.
    """
    each = engine.layer_seconds
    launches = None if each is None else layers * each
    return Host(
        engine.host_seconds,
        launches,
        engine.request_seconds,
        engine.stream_interval,
        engine.pace,
    )


def room_for(question: Resolved, tokens: Scalar) -> Scalar:
    """Requests that keep so many tokens each for which the memory has room, over all replicas.

    It is `inference.capacity.requests_that_fit`, not rounded, beside the activations of a full
    chunk.
    """
    case = prompted(question.case)
    groups = case.plan.data * case.plan.attention_data
    assert case.serving.chunk is not None
    each = xp.stop_gradient(xp.ceil(case.serving.chunk / tokens))
    workload = case.workload.replace(batch=groups * each, input_tokens=tokens, output_tokens=1.0)
    parts: dict[str, Any] = {"workload": workload}
    memory = jobs_of(eqx.tree_at(lambda q: q.case, question, with_parts(case, parts))).memory
    left = memory.kv_cache + memory.margin
    left = xp.where(left > 0, left, 0.0)
    keeps = memory.kv_cache > 0
    found = each * left / xp.where(keeps, memory.kv_cache, 1.0) * groups
    return xp.where(keeps, found, _UNLIMITED)


def _double(tree: Any) -> Any:
    """In float64, which costs NumPy nothing."""
    return jax.tree.map(lambda x: np.asarray(x, np.float64)[()], tree)
