"""Where the time goes: an estimate's TTFT and TPOT by operator and by what takes it.

A function of its own, since in a sweep each of its outputs would cost as much as an estimate. The rows sum to the times of `estimate`: pipeline
bubbles are counted with the operators of the stage that causes them.
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp

from diffgenz.hardware import Platform
from diffgenz.inference import Phases, check_layout
from diffgenz.iteration import Iteration, exposed, iteration_times
from diffgenz.models.model import Model
from diffgenz.operators import Operator
from diffgenz.pipeline import Parts, hop_time
from diffgenz.precision import Precision
from diffgenz.roofline import operator_shares, operators_time
from diffgenz.smooth import SHARPNESS, Scalar, check_sharpness
from diffgenz.workload import Parallelism, Workload


class Row(NamedTuple):
    """Seconds of one operator by what takes them."""

    compute: Scalar
    memory: Scalar
    communication: Scalar
    launch: Scalar

    @property
    def total(self) -> Scalar:
        """Their sum."""
        return self.compute + self.memory + self.communication + self.launch


class Breakdown(eqx.Module):
    """The seconds of each operator, by name, in the time to first token and in the time per output token."""

    ttft: dict[str, Row]
    tpot: dict[str, Row]

    def by_resource(self, phase: str) -> Row:
        """The sum over operators of `phase`, "ttft" or "tpot"."""
        rows = list(getattr(self, phase).values())
        return Row(*(sum((row[i] for row in rows), start=jnp.zeros(())) for i in range(4)))

    def bound_by(self, phase: str) -> str:
        """What takes most of `phase`: compute, memory, communication or launch. For concrete numbers."""
        resources = self.by_resource(phase)
        return max(Row._fields, key=lambda field: float(getattr(resources, field)))


def breakdown(
    model: Model,
    platform: Platform,
    workload: Workload,
    plan: Parallelism | None = None,
    precision: Precision | None = None,
    *,
    sharpness: float = SHARPNESS,
) -> Breakdown:
    """TTFT and TPOT by operator and resource. Arguments and errors are those of `estimate`."""
    plan, precision = plan or Parallelism(), precision or Precision()
    check_layout(model, platform, plan)
    check_sharpness(sharpness)
    return _breakdown(model, platform, workload, plan, precision, sharpness)


@eqx.filter_jit
def _breakdown(model: Model, platform: Platform, workload: Workload, plan: Parallelism, precision: Precision, sharpness: float) -> Breakdown:
    phases = Phases.of(model, platform, workload, plan.as_structure(), precision)
    prefill = iteration_times(phases.prefill, model, phases.machine, plan, sharpness)
    decode = iteration_times(phases.decode, model, phases.machine, plan, sharpness)
    return Breakdown(
        _rows(phases, phases.prefill, phases.pipeline.first_pass(prefill), model, plan, sharpness),
        _rows(phases, phases.decode, phases.pipeline.steady_state(decode), model, plan, sharpness),
    )


def _rows(phases: Phases, iteration: Iteration, passes: Parts, model: Model, plan: Parallelism, sharpness: float) -> dict[str, Row]:
    machine = phases.machine
    rows: dict[str, Row] = {}

    def add(name: str, row: Row, times: Scalar) -> None:
        before = rows.get(name, Row(*(jnp.zeros(()),) * 4))
        rows[name] = Row(*(old + times * new for old, new in zip(before, row, strict=True)))

    def add_operators(operators: tuple[Operator, ...], times: Scalar) -> None:
        for op in operators:
            shares = operator_shares(op, machine.rates, sharpness)
            add(op.name, Row(shares.compute, shares.memory, jnp.zeros(()), shares.launch), times)

    def add_collective(name: str, seconds: Scalar, launch: Scalar, times: Scalar) -> None:
        add(name, Row(jnp.zeros(()), jnp.zeros(()), seconds - launch, launch), times)

    all_reduce = machine.group.all_reduce(iteration.hidden_volume, sharpness) + machine.collective_launch
    gather = machine.group.all_gather(iteration.logits_volume, sharpness) + machine.collective_launch
    computing = operators_time(iteration.layers, machine.rates, sharpness)
    total = model.reductions * all_reduce
    visible = exposed(total, computing, plan, sharpness)
    add_operators(iteration.embedding, passes.rest)
    add_operators(iteration.layers, passes.layers)
    add_operators(iteration.head, passes.head)
    add_collective("all_reduce", visible, model.reductions * machine.collective_launch * visible / jnp.maximum(total, 1e-30), passes.layers)
    add_collective("all_reduce", all_reduce, machine.collective_launch, passes.rest)
    add_collective("all_gather", gather, machine.collective_launch, passes.head)
    add_collective("send", hop_time(plan, machine.links, iteration.hidden_volume), jnp.zeros(()), passes.rest)
    return rows
