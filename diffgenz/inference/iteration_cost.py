"""`iteration_cost`: what one iteration of any mix of prompt chunks and running decodes takes.

Serving under load is built on it, since a server's iterations are such mixes, each different from
the one before.
"""

import jax

from diffgenz.core import xp
from diffgenz.core.checks import demand
from diffgenz.core.errors import InputError
from diffgenz.core.smooth import Leaf, as_leaf
from diffgenz.core.tree import Tree
from diffgenz.core.verb import verb
from diffgenz.inference.energy import dynamic_energy
from diffgenz.inference.estimate import constant_ranks
from diffgenz.inference.iteration import communication, executing_times, iteration_times
from diffgenz.inference.prefill_decode import Decodes, Prompts, any_mix
from diffgenz.inference.resolved import Resolved, resolved
from diffgenz.inference.timing.machine import Machine
from diffgenz.inference.timing.pipeline import Pipeline
from diffgenz.scenario.scenario import Scenario, demand_scenario, prompted


class IterationCost(Tree):
    """What one iteration of one replica takes.

    Arguments:
        seconds: s from its start until its last token is sampled, through all pipeline stages.
        stage_seconds: s that the slowest stage is busy with it, which with a full pipeline is the
            time from one iteration to the next.
        energy: J of all ranks of the replica, idle power not counted.
    """

    seconds: Leaf
    stage_seconds: Leaf
    energy: Leaf


def iteration_cost(
    case: Scenario, prompts: Prompts | None = None, decodes: Decodes | None = None
) -> IterationCost:
    """The cost of one iteration of a replica that computes prompt tokens, decodes, or both.

    Operators that both have in common run once and read their weights once. Attention runs for
    each.

    Arguments:
        case: the scenario; its workload does not count. Where it speculates, drafts are verified.
            The cost includes neither the proposing of drafts, nor the wait for slower memory, nor
            the encoding of images.
        prompts: prompt tokens of the iteration; None: there are none.
        decodes: running requests; None: there are none.

    Raises:
        InputError: there are neither prompts nor decodes.
    """
    demand_scenario(case)
    if prompts is not None:
        demand("prompts", prompts, Prompts, "Prompts(sequences, tokens)")
    if decodes is not None:
        demand("decodes", decodes, Decodes, "Decodes(sequences, context)")
    if prompts is None and decodes is None:
        raise InputError("iteration: it computes nothing; give prompts, decodes, or both")
    as_leaves = jax.tree.map(as_leaf, (prompts, decodes))
    return _iteration_cost(resolved(case), *as_leaves)


def cost_of(question: Resolved, prompts: Prompts | None, decodes: Decodes | None) -> IterationCost:
    """`iteration_cost` of a resolved scenario, for formulas that ask for many iterations."""
    case = prompted(constant_ranks(question).case)
    iteration = any_mix(case, prompts, decodes)
    machine = Machine.of(case.platform, case.plan, question.execution)
    executing = executing_times(iteration, machine, case.sharpness)
    messages = communication(iteration, machine, case.sharpness)
    times = iteration_times(executing, messages, machine, case.plan.overlap, case.sharpness)
    pipeline = Pipeline.of(case.workload, case.plan, case.model.layers, case.smooth_batch)
    seconds = times.layers + times.head + times.rest
    slowest = times.total(pipeline.slowest_stage(times))
    energy = dynamic_energy(iteration.operators, machine, case.platform, question.execution)
    return IterationCost(
        seconds=seconds,
        stage_seconds=xp.where(pipeline.widest < 1, slowest, seconds),  # one stage does it all
        energy=case.plan.stage * energy,
    )


_iteration_cost = verb(cost_of)
