"""Energy of an iteration: joules per FLOP and per byte, over the same operators that times come from. Idle power is added outside."""

import jax.numpy as jnp

from diffgenz.hardware import Platform
from diffgenz.iteration import Iteration
from diffgenz.models.model import Model
from diffgenz.operators import Kind
from diffgenz.precision import Precision
from diffgenz.smooth import Scalar
from diffgenz.workload import Parallelism


def iteration_energy(iteration: Iteration, model: Model, platform: Platform, plan: Parallelism, precision: Precision) -> Scalar:
    """J that one tensor-parallel rank spends on one micro-batch over all stages, idle power apart.

    Messages cost the innermost level's energy per byte: an all-reduce sends 2 (n - 1) / n of its volume from each rank, a token on its way
    to experts and back one copy for each that another rank holds.
    """
    accelerator = platform.accelerator
    linear = sum((op.repeats * op.flops for op in iteration.operators if op.kind is Kind.LINEAR), start=jnp.zeros(()))
    wide = sum((op.repeats * op.flops for op in iteration.operators if op.kind in (Kind.ATTENTION, Kind.WIDE)), start=jnp.zeros(()))
    traffic = sum((op.repeats * op.traffic for op in iteration.operators), start=jnp.zeros(()))
    computing = linear * accelerator.flop_energy(precision.linear_peak) + wide * accelerator.flop_energy(precision.attention_peak)
    if not platform.network:
        return computing + traffic * accelerator.energy_per_byte
    sent = 2 * (1 - 1 / plan.tensor) * (model.reductions + 1) * iteration.hidden_volume + (plan.pipeline - 1) * iteration.hidden_volume
    for exchange in iteration.exchanges:
        away = jnp.where(plan.attention_data > 1, exchange.picks * (1 - 1 / plan.expert), 0.0)
        sent = sent + exchange.repeats * away * (exchange.dispatch + exchange.combine)
    return computing + traffic * accelerator.energy_per_byte + sent * platform.network[0].energy_per_byte
