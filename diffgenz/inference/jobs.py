"""Jobs: all that is done for a scenario, as iterations of a few kinds and how often each counts.

Three worked combinations:

- A dense model: a prefill that counts until the first token, and a decode that counts per token.
- A vision model: the tower's pass over the images counts until the first token, too.
- A chunked prefill with a draft model: the chunks of the prefill and of the draft's prefill count
  until the first token. The verification and the draft's decodes count per token; beside them
  stand the same jobs with a chunk of prompts in the iteration (`mixed`).

Time, energy, memory and breakdown are sums over the same jobs.
"""

import dataclasses

import equinox as eqx

from diffgenz.core import xp
from diffgenz.core.leaves import with_parts
from diffgenz.core.smooth import Scalar, share_of
from diffgenz.core.tree import Tree
from diffgenz.hardware.accelerator import Accelerator
from diffgenz.hardware.platform import Platform
from diffgenz.inference.energy import dynamic_energy
from diffgenz.inference.iteration import (
    Communication,
    Iteration,
    communication,
    executing_times,
    iteration_times,
)
from diffgenz.inference.memory import Memory, memory_of
from diffgenz.inference.offloading import Offloading, Resident
from diffgenz.inference.resolved import Resolved
from diffgenz.inference.served import Served
from diffgenz.inference.timing.execution import Execution
from diffgenz.inference.timing.machine import Machine
from diffgenz.inference.timing.pipeline import Every, Parts, Passes, PerToken, Pipeline, UntilFirst
from diffgenz.models.mtp import mtp_module
from diffgenz.operators.routing import Uniform
from diffgenz.scenario.scenario import Scenario, prompted
from diffgenz.scenario.serving_options import MTP, Serving


class Job(Tree):
    """Iterations of one kind.

    Arguments:
        name: what the job's rows in a breakdown begin with: "" or "draft ".
        iteration: what one device executes for one micro-batch.
        machine: where it runs.
        platform: what the machine is made of.
        execution: the peaks and kernels of its accelerators.
        overlap: the share of communication in the layers that hides behind computing, in [0, 1].
        passes: how often each part of the iteration counts in the time.
        executions: how often the iteration is executed for one micro-batch, counted over all ranks
            of a stage; the energy is multiplied by it.
        memory: what the layers wait for: slower memory, or nothing.
    """

    name: str = eqx.field(static=True)
    iteration: Iteration
    machine: Machine
    platform: Platform
    execution: Execution
    overlap: Scalar
    passes: Passes
    executions: Scalar
    memory: Offloading | Resident

    @property
    def waits(self) -> bool:
        """Whether something may live in slower memory."""
        return isinstance(self.memory, Offloading)

    def times(
        self, executing: Parts, messages: Communication, sharpness: float
    ) -> tuple[Parts, Scalar]:
        """Seconds of each part of one iteration, and seconds that its layers wait for memory.

        Arguments:
            executing: s of its operators.
            messages: the messages that go with them.
            sharpness: of all maxima and minima.
        """
        own = iteration_times(executing, messages, self.machine, self.overlap, sharpness)
        if not self.waits:
            return own, xp.zeros(())
        wait = self.memory.wait(own, self.iteration, sharpness)
        return Parts(own.layers + wait, own.head, own.rest), wait

    def seconds(self, sharpness: float) -> Scalar:
        """The job's part of the time to the first token, or of the time per token, in s.

        Arguments:
            sharpness: of all maxima and minima.
        """
        executing = executing_times(self.iteration, self.machine, sharpness)
        messages = communication(self.iteration, self.machine, sharpness)
        times, _ = self.times(executing, messages, sharpness)
        return times.total(self.passes.of(times))

    def energy(self) -> Scalar:
        """J that the job takes for one micro-batch, idle power not counted."""
        operators = self.iteration.operators
        energy = dynamic_energy(operators, self.machine, self.platform, self.execution)
        return self.executions * energy


class Jobs(Tree):
    """All that is done for a scenario.

    Arguments:
        until_first: the jobs that count in the time to the first token.
        per_token: the jobs that count in the time per output token.
        mixed: the jobs that count in the time per output token while each iteration carries a chunk
            of prompts, too; empty where nobody asks for it.
        micro_batches: the micro-batches of the whole batch, not rounded: requests that rounding up
            adds, and idle replicas, do no work.
        accelerators: the accelerators in use: how many of each kind.
        memory: B on the fullest accelerator.
    """

    until_first: tuple[Job, ...]
    per_token: tuple[Job, ...]
    mixed: tuple[Job, ...]
    micro_batches: Scalar
    accelerators: tuple[tuple[Scalar, Accelerator], ...]
    memory: Memory


def jobs_of(question: Resolved) -> Jobs:
    """The jobs of a scenario."""
    case, execution = question.case, question.execution
    pipeline = Pipeline.of(case.workload, case.plan, case.model.layers, case.smooth_batch)
    machine = Machine.of(case.platform, case.plan, execution)
    tower = _tower(case, pipeline)
    case = prompted(case)
    serving, plan, accelerator = case.serving, case.plan, case.platform.accelerator
    served = Served.of(case, pipeline.micro_batch, pipeline.requests)
    draft = _draft(case, pipeline)
    its_execution = execution if question.draft is None else question.draft
    tiles = (execution.tiles, its_execution.tiles)
    memory = memory_of(case, pipeline, served, tower, draft, tiles)
    slower: Offloading | Resident = Resident()
    if serving.offload is not None:
        slower = Offloading.of(serving.offload, memory, accelerator, pipeline)
    tokens = None if serving.speculation is None else serving.speculation.tokens
    verifying = plan.stage if tokens is None else plan.stage / tokens
    prefilling = plan.stage if served.chunks is None else plan.stage * served.chunks

    def job(iteration: Iteration, passes: Passes, executions: Scalar) -> Job:
        platform, overlap = case.platform, plan.overlap
        return Job("", iteration, machine, platform, execution, overlap, passes, executions, slower)

    first = [job(served.prefill, UntilFirst(pipeline, served.chunks), prefilling)]
    each = [job(served.decode, PerToken(pipeline, tokens), verifying)]
    both = []
    if served.mixed is not None:
        both.append(job(served.mixed, PerToken(pipeline, tokens), verifying))
    if tower is not None:
        iteration, filled = tower
        executions = plan.stage * filled * (pipeline.micro_batch / pipeline.requests)
        seeing = job(iteration, Every(filled), executions)
        first.insert(0, dataclasses.replace(seeing, memory=Resident()))
    in_use = [(plan.ranks, accelerator)]
    if draft is not None:
        prefills, proposals = _draft_jobs(case, pipeline, *draft, its_execution)
        first.append(prefills)
        each.append(proposals)
        both += [proposals] if both else []
        if serving.draft_platform is not None:
            ranks = draft[0].plan.tensor * plan.attention_data * plan.data
            in_use.append((ranks, draft[0].platform.accelerator))
    micro_batches = case.workload.batch / pipeline.micro_batch
    return Jobs(tuple(first), tuple(each), tuple(both), micro_batches, tuple(in_use), memory)


def _tower(case: Scenario, pipeline: Pipeline) -> tuple[Iteration, Scalar] | None:
    """The vision tower's pass over the images of a batch, before its prompts are prefilled.

    There is one pass per attention group, over all images of its requests at once. It runs on the
    first pipeline stage, whose tensor-parallel ranks share it. With fewer than one image (where the
    number is a mean, for example) it is that share of a pass over one image.

    Returns:
        The iteration, of at least one image, and the share of it that counts, at most 1; None
        where the model has no tower.
    """
    tower, plan = case.model.vision, case.plan
    if tower is None:
        return None
    requests = share_of(pipeline.requests, 1 / plan.attention_data, case.smooth_batch)
    images = requests * case.workload.images
    few = images < 1
    operators = tower.operators(xp.where(few, 1.0, images), case.precision, 1 / plan.tensor)
    none = xp.zeros(())
    iteration = Iteration(operators, (), (), tokens=none, sampled=none, residual=none)
    return iteration, xp.where(few, images, 1.0)


def _draft(case: Scenario, pipeline: Pipeline) -> tuple[Scenario, Served] | None:
    """What drafts for a scenario, as a scenario of its own, and the requests that it serves.

    A draft model is there once for each attention group, on the ranks of its own plan, and takes
    all requests of the group at once. The model's own module takes the ranks of one stage, all
    attention groups together, as the model's layers do.

    Returns:
        The scenario and its requests; None where nothing drafts, or where drafting is free.
    """
    draft, speculation, serving = case.serving.draft, case.serving.speculation, case.serving
    if draft is None or speculation is None:
        return None
    options = Serving(chunk=serving.chunk, prefix_hit=serving.prefix_hit, beams=serving.beams)
    if isinstance(draft, MTP):
        plan = case.plan.replace(pipeline=1.0, data=1.0).as_structure()
        parts = {"model": mtp_module(case.model), "plan": plan, "serving": options}
        its = with_parts(case, parts | {"routing": case.routing.of_last_kind()})
        requests = pipeline.requests
    else:
        platform = case.platform if draft.platform is None else draft.platform
        its = with_parts(
            case,
            {
                "model": draft.model,
                "platform": platform,
                "plan": draft.plan,
                "precision": draft.precision,
                "serving": options,
                "routing": Uniform(),
            },
        )
        groups = case.plan.attention_data
        requests = share_of(pipeline.requests, 1 / groups, case.smooth_batch)
    return its, Served.of(its, requests, requests, drafted=speculation.drafts)


def _draft_jobs(
    case: Scenario, pipeline: Pipeline, its: Scenario, served: Served, execution: Execution
) -> tuple[Job, Job]:
    """The draft's prefill, and its proposals for one verification, made token by token."""
    speculation, plan = case.serving.speculation, its.plan
    assert speculation is not None
    groups = xp.ones(()) if isinstance(case.serving.draft, MTP) else case.plan.attention_data
    executions = plan.stage * groups * (pipeline.micro_batch / pipeline.requests)
    machine = Machine.of(its.platform, plan, execution)

    def job(iteration: Iteration, count: Scalar) -> Job:
        return Job(
            "draft ",
            iteration,
            machine,
            its.platform,
            execution,
            plan.overlap,
            Every(count),
            executions * count,
            Resident(),
        )

    prefills = xp.ones(()) if served.chunks is None else served.chunks
    proposals = speculation.drafts / speculation.tokens
    return job(served.prefill, prefills), job(served.decode, proposals)
