"""`UnderLoad`: a scenario under a load as one question, as sweeps and `optimize` ask it.

Its metrics are those of `serve`, by the names of `LoadResult.to_dict`, with those of one batch that
make sense under a load: the cost of tokens, and tokens/s of each accelerator.
"""

from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any, Self

import equinox as eqx
import jax
import numpy as np

from diffgenz.core import xp
from diffgenz.core.checks import Condition, all_hold
from diffgenz.core.errors import InputError
from diffgenz.core.leaves import with_parts
from diffgenz.core.record import conditions_within
from diffgenz.core.smooth import Scalar
from diffgenz.core.verb import as_if_traced
from diffgenz.inference.mix import metrics_with_flags
from diffgenz.inference.resolved import resolved
from diffgenz.scenario.mix import Composed, Question
from diffgenz.scenario.scenario import Scenario
from diffgenz.serving.demand import demand_of
from diffgenz.serving.engine_state import (
    EngineState,
    Measured,
    engine_state,
    measure,
    memory_for_one,
)
from diffgenz.serving.figures import load_result
from diffgenz.serving.limits import checked_kind, highest_load
from diffgenz.serving.load import Engine, Load
from diffgenz.serving.load_metrics import LOAD_METRICS
from diffgenz.serving.objectives import Objectives
from diffgenz.serving.serve import refuse_options, settings

SUSTAINED = "sustained"
"""The condition that a rate is below saturation."""

NEEDED, ROOM = "_needed[0]", "_room[0]"
"""Bytes that weights and one request need of an accelerator's memory, and those that there are."""


_HIGHEST = ("max_rate", "max_concurrency")
"""The highest load within the objectives, in an open and in a closed loop."""


class UnderLoad(Composed):
    """A scenario under a load.

    Arguments:
        scenario: the scenario. Its batch does not count.
        load: how requests come: a rate, or a concurrency.
        engine: what the engine is set to.
        objectives: the limits of goodput and of the highest load; None: there are neither.
        of: which latencies the highest load takes the limits for: "mean", "p50", "p90" or "p99".

    Raises:
        InputError: what `serve` refuses of a question, or an unknown `of`.
    """

    scenario: Scenario
    load: Load
    engine: Engine = eqx.field(default_factory=Engine)
    objectives: Objectives | None = None
    of: str = eqx.field(static=True, default="mean")

    def conditions(self) -> Iterable[Condition]:
        checked_kind(self.of)
        refuse_options(self.scenario)
        return settings(self.scenario, self.load, self.engine)

    @property
    def parts(self) -> tuple[Scenario, ...]:
        return (self.scenario,)

    def with_parts_changed(self, changed: Callable[[Scenario], Scenario]) -> Self:
        return with_parts(self, {"scenario": changed(self.scenario)})


_OF_TOKENS = ("throughput", "tokens_per_second_per_accelerator")


def names_of(question: Question) -> set[str]:
    """The names of what `answers_of` answers."""
    if not isinstance(question, UnderLoad):
        return {*jax.eval_shape(metrics_with_flags, question)}
    names = {"fits", "legal", SUSTAINED, *_OF_TOKENS, *LOAD_METRICS}
    if question.scenario.platform.accelerator.price is not None:
        names.add("cost_per_million_output_tokens")
    if question.objectives is None:
        names -= {"goodput", *_HIGHEST}
    is_open = question.load.rate is not None
    return names - ({"max_concurrency"} if is_open else {"max_rate", "concurrency"})


def answers_of(question: Question, wanted: Container[str] | None = None) -> dict[str, Scalar]:
    """Every metric of a question by name, and the conditions "fits", "legal" and "sustained".

    Of a load that is beyond saturation there is nothing to say but where that is, and that the
    goodput is 0: other metrics are NaN.

    Arguments:
        question: a scenario, a mix, or a scenario under a load.
        wanted: of what takes long, what is wanted; None: all.
    """
    if not isinstance(question, UnderLoad):
        return metrics_with_flags(question)
    columns = any(isinstance(leaf, np.ndarray) and leaf.ndim for leaf in jax.tree.leaves(question))
    answered: Callable[..., dict[str, Any]] = in_columns if columns else metrics_under_load
    found = answered(question, _HIGHEST if wanted is None else wanted)
    saturated = found.pop("saturated")
    known = ("saturation_rate", "goodput", "fits", *_HIGHEST)
    hidden = {
        name: value if name in known else xp.where(saturated, np.nan, value)
        for name, value in found.items()
    }
    legal = all_hold(conditions_within(question))
    return hidden | {"fits": found["fits"], "legal": legal, SUSTAINED: ~saturated}


def metrics_under_load(question: UnderLoad, wanted: Container[str] = ()) -> dict[str, Scalar]:
    """Every metric by name, and the conditions "fits" and "saturated".

    Beyond saturation the metrics are those just below it.

    Arguments:
        question: the question.
        wanted: of what takes long, or is asked for rarely, what is wanted too: the highest
            load, `NEEDED` and `ROOM`.
    """
    with as_if_traced():
        state = engine_state(resolved(question.scenario), question.load, question.engine)
        return _metrics(question, state, wanted)


def _metrics(question: UnderLoad, state: EngineState, wanted: Container[str]) -> dict[str, Scalar]:
    case, load, objectives = question.scenario, question.load, question.objectives
    result = load_result(state, state.under(load), load, objectives)
    found: dict[str, Any] = result.figures
    del found["preempts"]
    if load.concurrency is not None:
        del found["concurrency"]  # it is a number of the load
    each = result.throughput / case.plan.ranks
    found["tokens_per_second_per_accelerator"] = each
    price = case.platform.accelerator.price
    if price is not None:
        found["cost_per_million_output_tokens"] = 1e6 * price / each
    most = "max_concurrency" if load.rate is None else "max_rate"
    if objectives is not None and most in wanted:
        found[most] = highest_load(state, load, objectives, question.of)
    if NEEDED in wanted or ROOM in wanted:
        memory = memory_for_one(resolved(case), state.demand)
        found |= dict(zip((NEEDED, ROOM), memory, strict=True))
    return found | {"fits": state.fit >= 1}


def in_columns(question: UnderLoad, wanted: Container[str] = ()) -> dict[str, np.ndarray]:
    """`metrics_under_load` of many questions at once, in NumPy.

    Iterations are tabulated for all of them together; the rest follows one by one.

    Arguments:
        question: some of its numbers are columns of NumPy, of shape (n,).
        wanted: as of `metrics_under_load`.
    """
    leaves, structure = jax.tree.flatten(question)
    count = max([np.size(leaf) for leaf in leaves], default=1)

    def row(i: int) -> UnderLoad:
        own = [np.asarray(leaf)[i] if np.ndim(leaf) else leaf for leaf in leaves]
        return jax.tree.unflatten(structure, own)

    with as_if_traced():
        rows = [row(i) for i in range(count)]
        found = [
            _metrics(
                each, engine_state(resolved(each.scenario), each.load, each.engine, of), wanted
            )
            for each, of in zip(rows, _measured(leaves, structure, rows), strict=True)
        ]
    return {name: np.array([each[name] for each in found]) for name in found[0]}


def _measured(leaves: Sequence[Any], structure: Any, rows: Sequence[UnderLoad]) -> list[Measured]:
    """What models and platforms say of each row."""
    columns = [np.asarray(leaf)[:, None] if np.ndim(leaf) else leaf for leaf in leaves]
    question: UnderLoad = jax.tree.unflatten(structure, columns)
    demands = [demand_of(each.scenario, each.load) for each in rows]
    demand = jax.tree.map(lambda *each: np.stack(each)[:, None], *demands)
    every = measure(resolved(question.scenario), demand, question.engine)
    count = len(rows)

    def part(leaf: Any, i: int) -> Any:
        many = np.ndim(leaf) and np.shape(leaf)[0] == count
        value = np.asarray(leaf)[i] if many else leaf
        return value[0] if np.shape(value) == (1,) else value

    return [jax.tree.map(lambda leaf, i=i: part(leaf, i), every) for i in range(count)]


def demand_sensible(question: Question, name: str, field: str) -> None:
    """Raise `InputError` for a metric of one batch in a formula about a load.

    Arguments:
        question: what the formula is about.
        name: a name in it.
        field: where it stands.
    """
    if not isinstance(question, UnderLoad) or name not in _OF_BATCHES:
        return
    latency = name in ("ttft", "tpot", "end_to_end")
    remedy = ", ".join(f"{name}_{kind}" for kind in ("mean", "p50", "p90", "p99"))
    raise InputError(
        f"{field}: {name} is that of one batch; under a load "
        + (f"write one of {remedy}" if latency else "it is not modelled; leave it out")
    )


_OF_BATCHES = (
    "ttft",
    "tpot",
    "end_to_end",
    "mixed_tpot",
    "tokens_per_second_per_user",
    "power",
    "energy_per_output_token",
)
