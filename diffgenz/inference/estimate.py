"""`estimate`: what serving a scenario takes.

It is written for one configuration; `jax.vmap` batches it and `jax.grad` differentiates it with
respect to any number in the scenario.
"""

from typing import TYPE_CHECKING

import equinox as eqx
import numpy as np

from diffgenz.core import xp
from diffgenz.core.files import optional
from diffgenz.core.reprs import text_of_record
from diffgenz.core.smooth import Leaf, Scalar
from diffgenz.core.tree import Tree
from diffgenz.core.verb import verb
from diffgenz.hardware.accelerator import Accelerator
from diffgenz.inference.jobs import Jobs, jobs_of
from diffgenz.inference.memory import Memory
from diffgenz.inference.metrics import METRICS, metrics_of
from diffgenz.inference.resolved import Resolved, resolved
from diffgenz.scenario.scenario import Scenario

if TYPE_CHECKING:
    import pandas


class Estimate(Tree):
    """What serving a workload takes. Times are in s, energy in J, cost in USD.

    Arguments:
        ttft: s until the first token of the last request of the batch, where all arrive together;
            images are encoded first.
        tpot: s between tokens of one request, averaged over the generation.
        end_to_end: s until the last token: ttft + (output_tokens - 1) tpot.
        throughput: output tokens/s of all requests, with the time of prefill included.
        tokens_per_second_per_user: output tokens/s of one request, 1 / tpot.
        tokens_per_second_per_accelerator: throughput / the accelerators in use.
        memory: B on the fullest accelerator.
        energy_per_output_token: J of all accelerators in use, with prefill included.
        power: W that an accelerator in use draws, averaged over them and over the batch.
        cost_per_million_output_tokens: USD of all accelerators in use, with prefill included; None
            where an accelerator has no price.
        mixed_tpot: s between tokens of one request while each iteration carries a chunk of prompts
            too; None unless `Serving.mixed` asks for it.
    """

    ttft: Leaf
    tpot: Leaf
    end_to_end: Leaf
    throughput: Leaf
    tokens_per_second_per_user: Leaf
    tokens_per_second_per_accelerator: Leaf
    memory: Memory
    energy_per_output_token: Leaf
    power: Leaf
    cost_per_million_output_tokens: Leaf | None
    mixed_tpot: Leaf | None = None

    def __repr__(self) -> str:
        units = {name: metric.unit for name, metric in METRICS.items()}
        rate = dict.fromkeys((name for name, unit in units.items() if unit == "1/s"), "tokens/s")
        return text_of_record(self, units | rate)

    def to_dict(self) -> dict[str, np.ndarray]:
        """Every metric in SI by name, and "fits": whether it fits into memory.

        Returns:
            NumPy arrays: of shape () for one configuration, else of the shape of the batch.
        """
        found = {**metrics_of(self), "fits": self.memory.fits}
        return {name: np.asarray(value) for name, value in found.items()}

    def to_pandas(self) -> "pandas.DataFrame":
        """Every metric as a column of a table, with one row for each configuration of a batch.

        Raises:
            InputError: pandas is not installed.
        """
        pandas = optional("pandas", "tables", "to_pandas")
        columns = {name: np.atleast_1d(value).ravel() for name, value in self.to_dict().items()}
        return pandas.DataFrame(columns)


def estimate(case: Scenario) -> Estimate:
    """Latency, throughput, memory, energy and cost of a scenario.

    One program is compiled for each structure. Names of models, accelerators and formats are no
    part of the structure, and neither are numbers.

    Arguments:
        case: the scenario. `case.sharpness` says how hard its maxima are.
    """
    return compiled_estimate(resolved(case))


@verb
def compiled_estimate(question: Resolved) -> Estimate:
    """`estimate` of a resolved scenario."""
    question = constant_ranks(question)
    return estimate_of(jobs_of(question), question.case)


def estimate_of(jobs: Jobs, case: Scenario) -> Estimate:
    """The estimate that the jobs of a scenario add up to."""
    workload, plan = case.workload, case.plan
    ttft, tpot = (
        sum((job.seconds(case.sharpness) for job in part), start=xp.zeros(()))
        for part in (jobs.until_first, jobs.per_token)
    )
    mixed_tpot = None
    if jobs.mixed:
        mixed_tpot = sum((job.seconds(case.sharpness) for job in jobs.mixed), start=xp.zeros(()))
    further = workload.output_tokens - 1
    end_to_end = ttft + further * tpot
    tokens = workload.batch * workload.output_tokens
    throughput = tokens / end_to_end
    if len(jobs.accelerators) == 1:  # multiply by reciprocals that exist already
        share = jobs.until_first[0].machine.shard * (1 / plan.attention_data)
        per_accelerator = throughput * share * (1 / plan.pipeline) * (1 / plan.data)
        if plan.context is not None:
            per_accelerator = per_accelerator / plan.context
    else:
        per_accelerator = throughput / sum(count for count, _ in jobs.accelerators)
    energy = _energy(jobs, end_to_end, further) / tokens
    price = _price(jobs.accelerators)
    return Estimate(
        ttft=ttft,
        tpot=tpot,
        end_to_end=end_to_end,
        throughput=throughput,
        tokens_per_second_per_user=1 / tpot,
        tokens_per_second_per_accelerator=per_accelerator,
        memory=jobs.memory,
        energy_per_output_token=energy,
        power=energy * per_accelerator,
        cost_per_million_output_tokens=None if price is None else 1e6 * price / per_accelerator,
        mixed_tpot=mixed_tpot,
    )


def constant_ranks(question: Resolved) -> Resolved:
    """The scenario with the ranks of its plan constant under differentiation."""
    if not xp.is_jax(question.case.plan):
        return question
    return eqx.tree_at(lambda q: q.case.plan, question, question.case.plan.as_structure())


def _energy(jobs: Jobs, end_to_end: Scalar, further: Scalar) -> Scalar:
    """J of the whole batch: idle power for as long as it takes, and the energy of all jobs."""
    idle = sum(count * each.idle_power for count, each in jobs.accelerators) * end_to_end
    first = sum((job.energy() for job in jobs.until_first), start=xp.zeros(()))
    each = sum((job.energy() for job in jobs.per_token), start=xp.zeros(()))
    return idle + jobs.micro_batches * (first + further * each)


def _price(accelerators: tuple[tuple[Scalar, Accelerator], ...]) -> Scalar | None:
    """USD/s of an average accelerator in use; None where one of them has no price."""
    if len(accelerators) == 1:
        return accelerators[0][1].price
    counts, total = xp.zeros(()), xp.zeros(())
    for count, accelerator in accelerators:
        if accelerator.price is None:
            return None
        counts, total = counts + count, total + count * accelerator.price
    return total / counts
