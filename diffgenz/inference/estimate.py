"""Phases -> Estimate: what serving a model on a platform takes.

`estimate` is written for one configuration; `jax.vmap` batches it and `jax.grad` differentiates it with respect to any number in it.
"""

from typing import Any

import equinox as eqx
import jax

from diffgenz.core.checks import check_at_most, check_divides
from diffgenz.core.errors import InputError
from diffgenz.core.smooth import SHARPNESS, Leaf, Scalar, check_sharpness
from diffgenz.hardware.platform import Platform
from diffgenz.inference.drafting import Drafter, Drafting
from diffgenz.inference.encoding import Encoding, check_images, encoding_time, prompted
from diffgenz.inference.energy import encoding_energy, iteration_energy
from diffgenz.inference.iteration import Iteration, Machine, iteration_times
from diffgenz.inference.memory import Memory, memory_use
from diffgenz.inference.offloading import Offloading
from diffgenz.inference.prefill_decode import (
    chunk_count,
    decode_iteration,
    mixed_iteration,
    prefill_iteration,
    prompt_step,
)
from diffgenz.inference.timing.pipeline import Parts, Pipeline
from diffgenz.inference.uncertainty import by_delta, by_samples
from diffgenz.kernels.fits import fits_behind
from diffgenz.kernels.library import Library
from diffgenz.models.model import Model
from diffgenz.operators.precision import Precision
from diffgenz.scenario.parallelism import Parallelism, Workload
from diffgenz.scenario.serving_options import Serving, check_serving


class Estimate(eqx.Module):
    """What serving a workload takes. Times in s, energy in J, cost in USD.

    Arguments:
        ttft: until the first token of the last request of the batch, all having arrived together; images are encoded first.
        tpot: between tokens of one request, averaged over the generation.
        end_to_end: until the last token: ttft + (output_tokens - 1) tpot.
        throughput: output tokens/s of all requests, prefill included.
        tokens_per_second_per_user: 1 / tpot.
        tokens_per_second_per_accelerator: throughput over the accelerators in use.
        memory: B on the fullest accelerator.
        energy_per_output_token: of all accelerators in use, prefill included.
        cost_per_million_output_tokens: of all accelerators in use, prefill included; None where the accelerator has no price.
        mixed_tpot: between tokens of one request while each iteration carries a chunk of prompts too; None where prompts are not chunked.
        deviation: the standard deviation of each, where it was asked for.
    """

    ttft: Leaf
    tpot: Leaf
    end_to_end: Leaf
    throughput: Leaf
    tokens_per_second_per_user: Leaf
    tokens_per_second_per_accelerator: Leaf
    memory: Memory
    energy_per_output_token: Leaf
    cost_per_million_output_tokens: Leaf | None
    mixed_tpot: Leaf | None = None
    deviation: "Estimate | None" = None

    def __repr__(self) -> str:
        return eqx.tree_pformat(self, short_arrays=False)


def estimate(
    model: Model,
    platform: Platform,
    workload: Workload,
    plan: Parallelism | None = None,
    precision: Precision | None = None,
    *,
    serving: Serving | None = None,
    sharpness: float = SHARPNESS,
    uncertainty: bool = False,
    samples: int = 0,
) -> Estimate:
    """Latency, throughput, memory, energy and cost of serving `workload`.

    Arguments:
        model: from `load_model`, or built by hand.
        platform: from `load_platform`, or built by hand.
        workload: requests that arrive together.
        plan: default: one accelerator.
        precision: default: bf16 throughout.
        serving: chunked prefill, prefix caching, speculation, beams, offloading; default: none of them.
        sharpness: 1, 2, 4, 8 or `HARD`, see `smooth`.
        uncertainty: whether to give the standard deviation of every metric too (`Estimate.deviation`), from the fits of the platform's kernels.
            For one concrete configuration. samples: draws to take it from; 0: to first order (the delta method).

    Raises:
        InputError: more ranks than accelerators, heads or layers, a format the accelerator does not multiply, images for a model without a tower,
            drafts by a module that the model does not have, offloading to memory that the accelerator does not have, or uncertainty
            without fitted kernels.
    """
    plan, precision = plan or Parallelism(), precision or Precision()
    check_layout(model, platform, plan)
    check_images(model, workload)
    check_serving(serving, model, platform.accelerator, plan)
    check_sharpness(sharpness)
    result = _estimate(model, platform, workload, plan, precision, serving, sharpness)
    if not uncertainty:
        return result
    library = platform.accelerator.kernels
    fits = [] if library is None else fits_behind(library)
    if library is None or not fits:
        raise InputError(
            f"uncertainty: the kernels of {platform.accelerator.name} are not fitted; leave it out, or load the platform with a fit"
        )

    given = (model, platform, workload, plan, precision, serving, sharpness)
    deviation = (
        by_samples(_with_kernels, library, fits, samples, *given)
        if samples
        else by_delta(_with_kernels, library, fits, *given)
    )
    return eqx.tree_at(lambda r: r.deviation, result, deviation, is_leaf=lambda x: x is None)


def _with_kernels(library: Library, model: Model, platform: Platform, *rest: Any) -> Estimate:
    return _estimate(model, eqx.tree_at(lambda p: p.accelerator.kernels, platform, library), *rest)


def check_layout(model: Model, platform: Platform, plan: Parallelism) -> None:
    """Raise `InputError` where `plan` needs more accelerators, heads or layers than there are. Traced numbers pass."""
    check_at_most(
        "tensor x context x attention_data x pipeline x data",
        plan.ranks,
        platform.accelerators,
        "the platform's accelerators; use fewer ranks or more accelerators",
    )
    check_at_most(
        "tensor",
        plan.tensor,
        model.most_shards,
        f"the heads of {model.name}; use fewer tensor-parallel ranks",
    )
    check_at_most(
        "pipeline", plan.pipeline, model.layers, f"the layers of {model.name}; use fewer stages"
    )
    if plan.context is not None and model.keeps_state:
        check_at_most(
            "context",
            plan.context,
            1,
            f"since {model.name} keeps a state per sequence; use tensor, pipeline or data",
        )
    if not model.experts:
        check_at_most("expert", plan.expert, 1, f"since {model.name} has no experts; leave it out")
        check_at_most(
            "attention_data", plan.attention_data, 1, f"since {model.name} has no experts; use data"
        )
    for experts in model.experts:
        check_divides("expert", plan.expert, experts, f"experts of {model.name}")


class Phases(eqx.Module):
    """The iterations of a request, the encoding of its images, what they run on, and how micro-batches share it.

    Arguments:
        prefill: of a micro-batch, or of one of its `chunks`. decode: of a micro-batch. mixed: both in one, where prompts are chunked.
        encoding: of images, where the model has a tower.
        tokens: of each sequence in a decode iteration; None: one.
        drafting: the part of what proposes tokens, if it takes any time.
        offloading: slower memory, where something may live there.
    """

    pipeline: Pipeline
    machine: Machine
    prefill: Iteration
    decode: Iteration
    encoding: Encoding | None
    chunks: Scalar | None
    mixed: Iteration | None
    tokens: Scalar | None
    drafting: Drafting | None
    offloading: Offloading | None

    @classmethod
    def of(
        cls,
        model: Model,
        platform: Platform,
        workload: Workload,
        plan: Parallelism,
        precision: Precision,
        serving: Serving | None = None,
    ) -> "Phases":
        """The phases of `workload`."""
        pipeline = Pipeline.of(workload, plan, model.layers)
        drafter = Drafter.of(serving, model, plan, precision, pipeline.requests)
        encoding = Encoding.of(model, workload, plan, precision, pipeline.requests)
        workload = prompted(model, workload)
        prompt = prompt_step(workload, plan, precision, pipeline.micro_batch, serving)
        chunks = chunk_count(prompt, serving)
        prefill, decode = (
            prefill_iteration(model, prompt, chunks),
            decode_iteration(model, prompt, workload, serving),
        )
        offloading = None
        if serving is not None and serving.offload is not None:
            memory = memory_use(
                model, platform.accelerator, workload, plan, precision, pipeline, serving, encoding
            )
            offloading = Offloading.of(serving.offload, memory, platform.accelerator, pipeline)
        return cls(
            pipeline,
            Machine.of(platform, plan, precision),
            prefill,
            decode,
            encoding,
            chunks,
            None if chunks is None else mixed_iteration(model, prompt, prefill, decode),
            None if serving is None or serving.speculation is None else serving.speculation.tokens,
            None
            if drafter is None or serving is None
            else Drafting.of(drafter, platform, workload, serving),
            offloading,
        )

    def times(
        self, iteration: Iteration, model: Model, plan: Parallelism, sharpness: float
    ) -> Parts:
        """Seconds of each part of `prefill`, `decode` or `mixed`, the wait for slower memory included."""
        return self.slowed(
            iteration_times(iteration, model, self.machine, plan, sharpness), iteration
        )

    def slowed(self, times: Parts, iteration: Iteration) -> Parts:
        """`times` of `iteration` with the wait for slower memory, where something may live there."""
        return times if self.offloading is None else self.offloading.slowed(times, iteration)

    def prefill_passes(self, times: Parts) -> Parts:
        """How often each part of `prefill` counts in the time to first token."""
        return self.pipeline.first_pass(times, self.chunks)

    def decode_passes(self, times: Parts) -> Parts:
        """How often each part of a decode iteration counts in the time per output token."""
        passes = self.pipeline.steady_state(times)
        return (
            passes
            if self.tokens is None
            else jax.tree.map(lambda count: count / self.tokens, passes)
        )


@eqx.filter_jit
def _estimate(
    model: Model,
    platform: Platform,
    workload: Workload,
    plan: Parallelism,
    precision: Precision,
    serving: Serving | None,
    sharpness: float,
) -> Estimate:
    plan = plan.as_structure()
    phases = Phases.of(model, platform, workload, plan, precision, serving)
    pipeline, accelerator, drafting, encoding = (
        phases.pipeline,
        platform.accelerator,
        phases.drafting,
        phases.encoding,
    )
    workload = prompted(model, workload)
    prefill, decode = (
        phases.times(iteration, model, plan, sharpness)
        for iteration in (phases.prefill, phases.decode)
    )
    ttft = prefill.total(phases.prefill_passes(prefill))
    if encoding is not None:
        ttft = ttft + encoding_time(encoding, phases.machine, plan, sharpness)
    tpot = decode.total(phases.decode_passes(decode))
    mixed_tpot = None
    if phases.mixed is not None:
        mixed = phases.times(phases.mixed, model, plan, sharpness)
        mixed_tpot = mixed.total(phases.decode_passes(mixed))
    if drafting is not None:
        proposing = drafting.times(drafting.decode, sharpness).total(drafting.decodes)
        ttft = ttft + drafting.times(drafting.prefill, sharpness).total(drafting.prefills)
        tpot = tpot + proposing
        mixed_tpot = None if mixed_tpot is None else mixed_tpot + proposing
    further = workload.output_tokens - 1
    end_to_end = ttft + further * tpot

    tokens = workload.batch * workload.output_tokens
    throughput = tokens / end_to_end
    per_accelerator = (
        throughput
        * phases.machine.shard
        * (1 / plan.attention_data)
        * (1 / plan.pipeline)
        * (1 / plan.data)
    )  # reciprocals that exist already
    if plan.context is not None:
        per_accelerator = per_accelerator / plan.context
    prefill_energy = iteration_energy(phases.prefill, model, platform, plan, precision)
    decode_energy = iteration_energy(phases.decode, model, platform, plan, precision)
    if phases.chunks is not None:
        prefill_energy = phases.chunks * prefill_energy
    if phases.tokens is not None:
        decode_energy = decode_energy / phases.tokens
    busy = (
        plan.stage * workload.batch / pipeline.micro_batch
    )  # passes of a micro-batch: rounded-up ones and idle replicas do no work
    energy = plan.ranks * accelerator.idle_power * end_to_end + busy * (
        prefill_energy + further * decode_energy
    )
    if drafting is not None:
        groups = plan.attention_data * workload.batch / pipeline.requests
        energy = energy + groups * drafting.energy(further)
    price = accelerator.price
    if drafting is not None and drafting.apart:
        more, other = (
            drafting.plan.tensor * plan.attention_data * plan.data,
            drafting.platform.accelerator,
        )
        energy = energy + more * other.idle_power * end_to_end
        if price is not None:  # of an average accelerator
            price = (
                None
                if other.price is None
                else (plan.ranks * price + more * other.price) / (plan.ranks + more)
            )
        per_accelerator = throughput / (plan.ranks + more)
    if encoding is not None:
        encoding_passes = plan.stage * workload.batch / pipeline.requests
        energy = energy + encoding_passes * encoding_energy(encoding, platform, plan, precision)
    return Estimate(
        ttft=ttft,
        tpot=tpot,
        end_to_end=end_to_end,
        throughput=throughput,
        tokens_per_second_per_user=1 / tpot,
        tokens_per_second_per_accelerator=per_accelerator,
        memory=memory_use(
            model, accelerator, workload, plan, precision, pipeline, serving, encoding
        ),
        energy_per_output_token=energy / tokens,
        cost_per_million_output_tokens=None if price is None else 1e6 * price / per_accelerator,
        mixed_tpot=mixed_tpot,
    )
