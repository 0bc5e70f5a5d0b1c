"""Energy of an iteration: joules per FLOP and per byte, over the same operators that times come from. Idle power is added outside."""

from collections.abc import Sequence

import jax.numpy as jnp

from diffgenz.core.smooth import Scalar
from diffgenz.hardware.platform import Accelerator, Platform
from diffgenz.inference.encoding import Encoding
from diffgenz.inference.iteration import Iteration
from diffgenz.models.model import Model
from diffgenz.operators.operator import Kind, Operator
from diffgenz.operators.precision import Precision
from diffgenz.scenario.parallelism import Parallelism


def iteration_energy(
    iteration: Iteration, model: Model, platform: Platform, plan: Parallelism, precision: Precision
) -> Scalar:
    """J that one tensor-parallel rank spends on one micro-batch over all stages, idle power apart.

    Messages cost the innermost level's energy per byte: an all-reduce sends 2 (n - 1) / n of its volume from each rank, an all-gather half of
    that, a token on its way to experts and back one copy for each that another rank holds (as all-to-all sends it).
    """
    computing = _operators_energy(iteration.operators, platform.accelerator, precision)
    if not platform.network:
        return computing
    sent = (
        2 * (1 - 1 / plan.tensor) * (model.reductions + 1) * iteration.hidden_volume
        + (plan.pipeline - 1) * iteration.hidden_volume
    )
    for exchange in iteration.exchanges:
        away = jnp.where(exchange.groups > 1, exchange.picks * (1 - 1 / plan.expert), 0.0)
        sent = sent + exchange.repeats * away * exchange.busiest * (
            exchange.dispatch + exchange.combine
        )
    if plan.context is not None:
        gathered = sum(
            (op.repeats * op.gathered for op in iteration.layers if op.gathered is not None),
            start=jnp.zeros(()),
        )
        merged = sum(
            (op.repeats * op.merged for op in iteration.layers if op.merged is not None),
            start=jnp.zeros(()),
        )
        sent = sent + (1 - 1 / plan.context) * (gathered + 2 * merged)
    return computing + sent * platform.network[0].energy_per_byte


def encoding_energy(
    encoding: Encoding, platform: Platform, plan: Parallelism, precision: Precision
) -> Scalar:
    """J that one tensor-parallel rank spends on the images of one replica, idle power apart."""
    computing = _operators_energy(encoding.operators, platform.accelerator, precision)
    if platform.network:
        volume = sum((count * volume for count, volume in encoding.reductions), start=jnp.zeros(()))
        computing = (
            computing + 2 * (1 - 1 / plan.tensor) * volume * platform.network[0].energy_per_byte
        )
    return encoding.passes * computing


def _operators_energy(
    operators: Sequence[Operator], accelerator: Accelerator, precision: Precision
) -> Scalar:
    linear = sum(
        (op.repeats * op.flops for op in operators if op.kind is Kind.LINEAR), start=jnp.zeros(())
    )
    wide = sum(
        (op.repeats * op.flops for op in operators if op.kind in (Kind.ATTENTION, Kind.WIDE)),
        start=jnp.zeros(()),
    )
    traffic = sum((op.repeats * op.traffic for op in operators), start=jnp.zeros(()))
    computing = linear * accelerator.flop_energy(
        precision.linear_peak
    ) + wide * accelerator.flop_energy(precision.attention_peak)
    return computing + traffic * accelerator.energy_per_byte
