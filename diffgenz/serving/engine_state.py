"""One engine of a deployment, prepared: its iterations tabulated, its limits known.

A deployment is as many engines as it has replicas and pipeline stages: those that share a pipeline
take turns, and share slots and cache. Ranks of attention data parallelism are one engine, whose
slots and budget are those of all.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np

from diffgenz.core import xp
from diffgenz.core.leaves import with_parts
from diffgenz.core.smooth import Scalar
from diffgenz.core.tree import Tree
from diffgenz.inference.estimate import constant_ranks
from diffgenz.inference.jobs import jobs_of
from diffgenz.inference.memory import Memory
from diffgenz.inference.resolved import Resolved
from diffgenz.scenario.scenario import prompted
from diffgenz.serving.closed_loop import closed_loop
from diffgenz.serving.demand import Demand, demand_of
from diffgenz.serving.host import Host
from diffgenz.serving.iteration_table import IterationTable, tabulate
from diffgenz.serving.load import Engine, Load
from diffgenz.serving.lockstep import lockstep
from diffgenz.serving.open_loop import open_loop
from diffgenz.serving.saturation import FILLED, Saturation, saturation_of
from diffgenz.serving.steady import Steady

_UNLIMITED = 1e9
"""Requests that fit where they keep nothing."""


class EngineState(Tree):
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
        router: how requests are dealt out to the engines.
    """

    demand: Demand
    fine: Demand
    table: IterationTable
    most: Saturation
    slots: Scalar
    fit: Scalar
    engines: Scalar
    host: Host = Host(0.0)
    router: str = eqx.field(static=True, default="random")

    def timed_by(self, table: IterationTable) -> "EngineState":
        """The same engine, whose iterations take as long as another table says."""
        most = saturation_of(table, self.demand, self.slots, self.most.cache / FILLED)
        changed = self.demand, self.fine, table, most, self.slots, self.fit, self.engines
        return EngineState(*changed, self.host, self.router)

    def under(self, load: Load) -> Steady:
        """The steady state of the engine under its share of a load."""
        known = self.table, self.demand, self.most, self.slots
        share = load.share_of(self.engines, self.router)
        if share.rate is not None:
            return open_loop(*known, share.rate, share.burstiness)
        assert share.concurrency is not None  # one of both is given
        loop = lockstep if load.lockstep else closed_loop
        return self.host.closed(loop(*known, share.concurrency), share.concurrency)


class Measured(NamedTuple):
    """What an engine's model and platform say of it.

    Arguments:
        table: how long iterations take.
        cache: requests that the cache has room for, at the length that they have in the mean while
            they run.
        fit: requests of the longest kind that it has room for.
    """

    table: IterationTable
    cache: Scalar
    fit: Scalar


def engine_state(
    question: Resolved, load: Load, engine: Engine, measured: Measured | None = None
) -> EngineState:
    """The engine of a scenario.

    Arguments:
        question: the scenario.
        load: how its requests come, of which only the lengths count.
        engine: what the engine is set to.
        measured: what `measure` says of it, where that is known.
    """
    case = question.case
    demand, fine = demand_of(case, load), demand_of(case, load, fine=True)
    if measured is None:
        measured = measure(question, demand, engine)
    table, cache, fit = measured
    slots, _, engines = size_of(question, engine)
    host = host_of(engine, case.model.layers)
    if not xp.is_jax(table):
        demand, fine, table, slots, cache, fit, engines, host = double(
            (demand, fine, table, slots, cache, fit, engines, host)
        )
    most = saturation_of(table, demand, slots, cache)
    return EngineState(demand, fine, table, most, slots, fit, engines, host, engine.router)


def measure(question: Resolved, demand: Demand, engine: Engine) -> Measured:
    """What the model and the platform of a scenario say of an engine.

    Arguments:
        question: the scenario. Where its numbers, those of the engine and means of the demand are
            columns of NumPy, of shape (n, 1), the answer is of n engines, on the first axis.
        demand: its requests.
        engine: what it is set to.
    """
    question = constant_ranks(question)
    slots, budget, engines = size_of(question, engine)
    table = tabulate(question, demand, slots, budget, engine.prefill_first)
    table = table.changed(host_of(engine, question.case.model.layers).on)
    typical = demand.context + 0.6 * demand.prompt / demand.steps
    lengths = xp.stack([typical, demand.most - 1])
    if np.ndim(typical) == 0:
        room = xp.mapped(lambda tokens: room_for(question, tokens))(lengths) / engines
        return Measured(table, room[0], room[1])
    room = room_for(question, lengths[..., 0].T) / engines
    return Measured(table, room[:, 0], room[:, 1])


def size_of(question: Resolved, engine: Engine) -> tuple[Scalar, Scalar, Scalar]:
    """Slots and token budget of an engine, and how many engines there are."""
    plan = question.case.plan
    assert question.case.serving.chunk is not None  # `serve` refuses whole prompts
    slots = engine.max_num_seqs * plan.attention_data / plan.pipeline
    budget = question.case.serving.chunk * plan.attention_data
    return slots, budget, plan.data * plan.pipeline


def host_of(engine: Engine, layers: Any) -> Host:
    """What the host of an engine adds.

    Arguments:
        engine: what it is set to.
        layers: of the model.
    """
    launched = (engine.layer_seconds, engine.prompt_layer_seconds)
    launches, prompts = (None if each is None else layers * each for each in launched)
    return Host(
        engine.host_seconds,
        launches,
        engine.request_seconds,
        engine.stream_interval,
        engine.pace,
        prompts,
        engine.request_iterations,
    )


def room_for(question: Resolved, tokens: Scalar) -> Scalar:
    """Requests that keep so many tokens each for which the memory has room, over all replicas.

    It is `inference.capacity.requests_that_fit`, not rounded, beside the activations of a full
    chunk.
    """
    memory, count = _memory(question, tokens)
    left = memory.kv_cache + memory.margin
    left = xp.where(left > 0, left, 0.0)
    keeps = memory.kv_cache > 0
    found = count * left / xp.where(keeps, memory.kv_cache, 1.0)
    return xp.where(keeps, found, _UNLIMITED)


def memory_for_one(question: Resolved, demand: Demand) -> tuple[Scalar, Scalar]:
    """B that weights and one of the longest requests of each engine need, and those there are.

    Arguments:
        question: the scenario.
        demand: its requests.
    """
    memory, count = _memory(constant_ranks(question), demand.most - 1)
    plan = question.case.plan
    others = memory.capacity - memory.margin - memory.kv_cache
    return others + memory.kv_cache * plan.data * plan.pipeline / count, memory.capacity


def _memory(question: Resolved, tokens: Scalar) -> tuple[Memory, Scalar]:
    """The memory of some requests that keep so many tokens each, and how many they are."""
    case = prompted(question.case)
    groups = case.plan.data * case.plan.attention_data
    assert case.serving.chunk is not None
    each = xp.stop_gradient(xp.ceil(case.serving.chunk / tokens))
    workload = case.workload.replace(batch=groups * each, input_tokens=tokens, output_tokens=1.0)
    parts: dict[str, Any] = {"workload": workload}
    memory = jobs_of(eqx.tree_at(lambda q: q.case, question, with_parts(case, parts))).memory
    return memory, groups * each


def double(tree: Any) -> Any:
    """In float64, which costs NumPy nothing."""
    return jax.tree.map(lambda x: np.asarray(x, np.float64)[()], tree)
