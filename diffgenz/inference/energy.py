"""Energy of an iteration: power x time at full use, over the operators and messages it consists of.

Arithmetic at its peak draws `compute_power`, memory at its bandwidth `memory_power`, a network
level at its bandwidth its `power`; idle power is added outside, for as long as everything takes.
"""

from collections.abc import Sequence

import jax.numpy as jnp

from diffgenz.core.smooth import Scalar
from diffgenz.hardware.platform import Platform
from diffgenz.inference.timing.machine import Machine
from diffgenz.operators.operator import Kind, Operator


def dynamic_energy(operators: Sequence[Operator], machine: Machine, platform: Platform) -> Scalar:
    """J that one rank spends on `operators` and their messages, idle power not counted.

    Arguments:
        operators: of an iteration, of all stages.
        machine: where they run.
        platform: what the machine is made of.
    """
    accelerator, rates = platform.accelerator, machine.rates
    zero = jnp.zeros(())
    linear = sum((op.repeats * op.flops for op in operators if op.kind is Kind.LINEAR), start=zero)
    wide = sum(
        (op.repeats * op.flops for op in operators if op.kind in (Kind.ATTENTION, Kind.WIDE)),
        start=zero,
    )
    traffic = sum((op.repeats * op.traffic for op in operators), start=zero)
    computing = linear * rates.linear + wide * rates.wide  # seconds at what kernels reach
    total = accelerator.compute_power * accelerator.compute_efficiency * computing
    total = total + accelerator.memory_power * accelerator.memory_efficiency * (
        traffic * rates.memory
    )
    for level, sent in enumerate(_sent(operators, machine)):
        power = platform.network[level].power * platform.network[level].efficiency
        total = total + power * (sent * machine.links[level].per_byte)
    return total


def _sent(operators: Sequence[Operator], machine: Machine) -> list[Scalar]:
    """B that one rank sends on each network level."""
    totals = [jnp.zeros(()) for _ in machine.links]
    for op in operators:
        for message in op.messages:
            for level, sent in enumerate(machine.sent(message)):
                totals[level] = totals[level] + op.repeats * sent
    return totals
