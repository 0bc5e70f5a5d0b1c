"""Energy of an iteration: power x time at full use, over its operators and messages.

Arithmetic at its peak draws `compute_power`, memory at its bandwidth draws `memory_power`, and a
network level at its bandwidth draws its `power`. Idle power is added elsewhere, for as long as
everything takes (`estimate`).

    J = compute_power FLOP / peak + memory_power B / bandwidth + sum_levels power B / bandwidth
"""

from collections.abc import Sequence

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar
from diffgenz.hardware.platform import Platform
from diffgenz.inference.timing.execution import Execution
from diffgenz.inference.timing.machine import Machine
from diffgenz.operators.layer_format import DTYPE, LINEAR
from diffgenz.operators.operator import Kind, Operator


def dynamic_energy(
    operators: Sequence[Operator], machine: Machine, platform: Platform, execution: Execution
) -> Scalar:
    """J that one rank spends on `operators` and their messages, idle power not counted.

    Arguments:
        operators: those of an iteration, of all stages.
        machine: where they run.
        platform: what the machine is made of.
        execution: the peaks of its accelerators.
    """
    accelerator = platform.accelerator
    zero = xp.zeros(())
    arithmetic = [op for op in operators if op.kind is not Kind.ELEMENTWISE]

    def flops(part: str) -> Scalar:
        found = (xp.asarray(op.repeats * op.flops) for op in arithmetic if op.part == part)
        return sum(found, start=zero)

    linear, wide = flops(LINEAR), flops(DTYPE)
    traffic = sum((op.repeats * op.traffic for op in operators), start=zero)
    # Divide FLOP by the peak, not power by the peak: XLA's CPU backend would store a quotient that
    # all iterations of a scenario share, and read it again for each of them.
    if execution.linear is None:
        computing = (linear + wide) / execution.wide
    else:
        computing = linear / execution.linear + wide / execution.wide
    for part, peak in execution.own.items():
        computing = computing + flops(part) / peak
    total = accelerator.compute_power * computing
    total = total + accelerator.memory_power * (traffic / accelerator.memory_bandwidth)
    for level, sent in zip(platform.network, _sent(operators, machine), strict=True):
        total = total + level.power * (sent / level.bandwidth)
    return total


def _sent(operators: Sequence[Operator], machine: Machine) -> list[Scalar]:
    """B that one rank sends on each network level."""
    totals = [xp.zeros(()) for _ in machine.links]
    for op in operators:
        for message in op.messages:
            for level, sent in enumerate(machine.sent(message)):
                totals[level] = totals[level] + op.repeats * sent
    return totals
