"""Phases -> Estimate: what serving a model on a platform takes.

`estimate` is written for one configuration; `jax.vmap` batches it and `jax.grad` differentiates it with respect to any number in it.
"""

import equinox as eqx

from diffgenz.checks import check_at_most, check_divides
from diffgenz.encoding import Encoding, check_images, encoding_time, prompted
from diffgenz.energy import encoding_energy, iteration_energy
from diffgenz.footprint import Memory, memory_use
from diffgenz.hardware import Platform
from diffgenz.iteration import Iteration, Machine, iteration_times, mean_decode, prefill_step
from diffgenz.models.model import Model
from diffgenz.pipeline import Pipeline
from diffgenz.precision import Precision
from diffgenz.smooth import SHARPNESS, Leaf, check_sharpness
from diffgenz.workload import Parallelism, Workload


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

    def __repr__(self) -> str:
        return eqx.tree_pformat(self, short_arrays=False)


def estimate(
    model: Model,
    platform: Platform,
    workload: Workload,
    plan: Parallelism | None = None,
    precision: Precision | None = None,
    *,
    sharpness: float = SHARPNESS,
) -> Estimate:
    """Latency, throughput, memory, energy and cost of serving `workload`.

    Arguments:
        model: from `load_model`, or built by hand.
        platform: from `load_platform`, or built by hand.
        workload: requests that arrive together.
        plan: default: one accelerator.
        precision: default: bf16 throughout.
        sharpness: 1, 2, 4, 8 or `HARD`, see `smooth`.

    Raises:
        InputError: more ranks than accelerators, heads or layers, a format the accelerator does not multiply, or images for a model without a tower.
    """
    plan, precision = plan or Parallelism(), precision or Precision()
    check_layout(model, platform, plan)
    check_images(model, workload)
    check_sharpness(sharpness)
    return _estimate(model, platform, workload, plan, precision, sharpness)


def check_layout(model: Model, platform: Platform, plan: Parallelism) -> None:
    """Raise `InputError` where `plan` needs more accelerators, heads or layers than there are. Traced numbers pass."""
    check_at_most(
        "tensor x attention_data x pipeline x data",
        plan.ranks,
        platform.accelerators,
        "the platform's accelerators; use fewer ranks or more accelerators",
    )
    check_at_most("tensor", plan.tensor, model.most_shards, f"the heads of {model.name}; use fewer tensor-parallel ranks")
    check_at_most("pipeline", plan.pipeline, model.layers, f"the layers of {model.name}; use fewer stages")
    if not model.experts:
        check_at_most("expert", plan.expert, 1, f"since {model.name} has no experts; leave it out")
        check_at_most("attention_data", plan.attention_data, 1, f"since {model.name} has no experts; use data")
    for experts in model.experts:
        check_divides("expert", plan.expert, experts, f"experts of {model.name}")


class Phases(eqx.Module):
    """The two iterations of a request and the encoding of its images, what they run on, and how micro-batches share it."""

    pipeline: Pipeline
    machine: Machine
    prefill: Iteration
    decode: Iteration
    encoding: Encoding | None

    @classmethod
    def of(cls, model: Model, platform: Platform, workload: Workload, plan: Parallelism, precision: Precision) -> "Phases":
        """The phases of `workload`."""
        pipeline = Pipeline.of(workload, plan, model.layers)
        encoding = Encoding.of(model, workload, plan, precision, pipeline.requests)
        workload = prompted(model, workload)
        prompt = prefill_step(workload, plan, precision, pipeline.micro_batch)
        return cls(pipeline, Machine.of(platform, plan, precision), Iteration.of(model, prompt), mean_decode(model, prompt, workload), encoding)


@eqx.filter_jit
def _estimate(model: Model, platform: Platform, workload: Workload, plan: Parallelism, precision: Precision, sharpness: float) -> Estimate:
    plan = plan.as_structure()
    phases = Phases.of(model, platform, workload, plan, precision)
    pipeline, accelerator, encoding = phases.pipeline, platform.accelerator, phases.encoding
    workload = prompted(model, workload)
    prefill = iteration_times(phases.prefill, model, phases.machine, plan, sharpness)
    decode = iteration_times(phases.decode, model, phases.machine, plan, sharpness)
    ttft = prefill.total(pipeline.first_pass(prefill))
    if encoding is not None:
        ttft = ttft + encoding_time(encoding, phases.machine, plan, sharpness)
    tpot = decode.total(pipeline.steady_state(decode))
    further = workload.output_tokens - 1
    end_to_end = ttft + further * tpot

    tokens = workload.batch * workload.output_tokens
    throughput = tokens / end_to_end
    per_accelerator = (
        throughput * phases.machine.shard * (1 / plan.attention_data) * (1 / plan.pipeline) * (1 / plan.data)
    )  # reciprocals that exist already
    prefill_energy = iteration_energy(phases.prefill, model, platform, plan, precision)
    decode_energy = iteration_energy(phases.decode, model, platform, plan, precision)
    busy = plan.stage * workload.batch / pipeline.micro_batch  # passes of a micro-batch: rounded-up ones and idle replicas do no work
    energy = plan.ranks * accelerator.idle_power * end_to_end + busy * (prefill_energy + further * decode_energy)
    if encoding is not None:
        encoding_passes = plan.stage * workload.batch / pipeline.requests
        energy = energy + encoding_passes * encoding_energy(encoding, platform, plan, precision)
    prompt = prefill_step(workload, plan, precision, pipeline.micro_batch)
    return Estimate(
        ttft=ttft,
        tpot=tpot,
        end_to_end=end_to_end,
        throughput=throughput,
        tokens_per_second_per_user=1 / tpot,
        tokens_per_second_per_accelerator=per_accelerator,
        memory=memory_use(model, accelerator, workload, plan, pipeline, prompt, encoding),
        energy_per_output_token=energy / tokens,
        cost_per_million_output_tokens=None if accelerator.price is None else 1e6 * accelerator.price / per_accelerator,
    )
