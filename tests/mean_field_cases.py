"""The mean field of the engines that `serving_simulator.py` simulates."""

import json
from typing import Any

import jax
import numpy as np
from serving_fixtures import FOLDER
from serving_simulator import CLOCKS, GUESSES, Guesses

from diffgenz.core.verb import as_if_traced
from diffgenz.scenario.serving_options import Speculation
from diffgenz.serving.demand import Demand, Verifying
from diffgenz.serving.engine_state import EngineState
from diffgenz.serving.figures import load_result, means_of
from diffgenz.serving.iteration_table import CHUNKS, DECODES, LEAST, IterationTable
from diffgenz.serving.lengths import Constant, Lognormal
from diffgenz.serving.load import Load
from diffgenz.serving.saturation import saturation_of

KINDS = {"constant": Constant(), "lognormal": Lognormal(0.7)}


def number(x: Any) -> Any:
    """A number in float64."""
    return np.float64(x)


def rows(name: str = "simulated") -> list[dict]:
    """What was simulated, of the fixture of a name."""
    found = json.loads((FOLDER / f"{name}.json").read_text())
    for row in found:
        row["case"][6] = np.inf if row["case"][6] is None else row["case"][6]
    return found


def demand_for(
    kind: str, prompt: float, output: float, fine: bool = False, guesses: Guesses | None = None
) -> Demand:
    """Requests without cached tokens."""
    of = KINDS[kind].quantiles if fine else KINDS[kind].nodes
    prompts, outputs = of(np.float64(prompt)), of(np.float64(output))
    pairs_of = prompts.tokens * (prompts.tokens + 1) / 2
    steps, verifying = outputs.tokens - 1, None
    if guesses is not None:
        verifying = Verifying.of(Speculation(number(guesses.drafts), number(guesses.acceptance)))
        steps = verifying.rounds(steps)
    mean = prompts.mean(prompts.tokens)
    return Demand(
        prompts=prompts,
        outputs=outputs,
        prompt=mean,
        steps=outputs.mean(steps),
        cached=number(0),
        pairs_of=pairs_of,
        pairs=prompts.mean(pairs_of) / mean,
        context=mean + outputs.mean(steps * outputs.tokens) / (2 * outputs.mean(steps)),
        most=prompts.tokens.max() + outputs.tokens.max(),
        verifying=verifying,
    )


def state_of(case) -> EngineState:
    """One of the engines, prepared for the mean field."""
    clock, kind, prompt, output, budget, slots, cache, *words = case
    guesses = GUESSES.get(words[0]) if words else None
    clock, demand = CLOCKS[clock], demand_for(kind, prompt, output, guesses=guesses)
    steps, sizes = np.arange(DECODES) / (DECODES - 1), np.arange(CHUNKS) / (CHUNKS - 1)
    some, few = slots**steps, (1 + slots) ** steps - 1
    first = "prefill_first" in words
    longest = max(budget, demand.prompts.tokens.max()) if first else budget
    tokens = LEAST * (longest / LEAST) ** sizes
    each = 1 if guesses is None else 1 + guesses.drafts
    read = few[:, None] * demand.context
    mixed = clock(each * few[:, None], read, tokens, tokens * demand.pairs)
    alone = clock(each * some, some * demand.context, 0, 0)
    if guesses is not None:
        proposing = guesses.drafts * guesses.draft(few[:, None], read, 0, 0)
        proposing[0] = 0  # nobody decodes
        mixed = mixed + proposing + guesses.draft(0, 0, tokens, tokens * demand.pairs)
        alone = alone + guesses.drafts * guesses.draft(some, some * demand.context, 0, 0)
    table = IterationTable(
        slots=number(slots),
        budget=number(budget),
        alone=np.log(alone),
        mixed=np.log(mixed),
        pair=number(clock.pair),
        prefill_first=first,
        longest=number(longest) if first else None,
    )
    # as many requests as the cache holds at their mean length, and never more than one can count
    fit = min(cache, 1e12) / (demand.context + 0.6 * demand.prompt / demand.steps)
    with as_if_traced():
        most = saturation_of(table, demand, number(slots), number(fit))
    fine = demand_for(kind, prompt, output, True, guesses)
    return EngineState(demand, fine, table, most, number(slots), number(fit), number(1))


def found_for(state: EngineState, load: Load) -> dict[str, float]:
    """The figures of a load, by the names of the simulator."""
    load = jax.tree.map(np.float64, load)
    with as_if_traced():
        result = load_result(state, state.under(load), load, None)
    found = {name: float(value) for name, value in result.to_dict().items()}
    for name in ("ttft", "tpot", "end_to_end"):
        found[name] = found[f"{name}_mean"]
    return found | {"throughput": found["requests_per_second"]}


def means_for(state: EngineState, load: Load) -> dict[str, float]:
    """Mean TTFT and TPOT of a load, without percentiles."""
    load = jax.tree.map(np.float64, load)
    with as_if_traced():
        means = means_of(state, state.under(load), load)
    return {"ttft": float(means.ttft), "tpot": float(means.tpot)}
