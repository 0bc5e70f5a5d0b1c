"""Where the time goes: an estimate's TTFT and TPOT by operator and by what takes it.

A function of its own, since in a sweep each of its outputs would cost as much as an estimate. The rows sum to the times of `estimate`: pipeline
bubbles are counted with the operators of the stage that causes them.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from diffgenz.core.smooth import SHARPNESS, Scalar, check_sharpness
from diffgenz.hardware.platform import Platform
from diffgenz.inference.encoding import Encoding, check_images, encoding_communication
from diffgenz.inference.estimate import Phases, check_layout
from diffgenz.inference.iteration import Iteration, Machine, exposed, iteration_times
from diffgenz.inference.timing.pipeline import Parts, hop_time
from diffgenz.inference.timing.roofline import Shares, operator_shares
from diffgenz.models.model import Model
from diffgenz.operators.operator import Operator
from diffgenz.operators.precision import Precision
from diffgenz.scenario.parallelism import Parallelism, Workload
from diffgenz.scenario.serving_options import Serving, check_serving

RESOURCES = ("compute", "memory", "communication", "launch")
"""What takes time; the columns of a `Breakdown`."""

Seconds = Float[Array, "*batch operators 4"]


class Breakdown(eqx.Module):
    """The seconds of each operator, by resource, in the time to first token and in the time per output token.

    Arguments:
        operators: their names, the rows. ttft, tpot: s, shape (operators, 4), columns as in `RESOURCES`; each sums to the estimate's time.
    """

    operators: tuple[str, ...] = eqx.field(static=True)
    ttft: Seconds
    tpot: Seconds

    def rows(self, phase: str) -> dict[str, dict[str, float]]:
        """The seconds of `phase`, "ttft" or "tpot", by operator and resource. For one concrete configuration."""
        seconds = np.asarray(getattr(self, phase), dtype=float)
        return {
            name: dict(zip(RESOURCES, row.tolist(), strict=True))
            for name, row in zip(self.operators, seconds, strict=True)
        }

    def by_resource(self, phase: str) -> dict[str, float]:
        """The seconds of `phase` by resource, over all operators. For one concrete configuration."""
        return dict(
            zip(
                RESOURCES,
                np.asarray(getattr(self, phase), dtype=float).sum(axis=0).tolist(),
                strict=True,
            )
        )

    def bound_by(self, phase: str) -> str:
        """The resource that takes most of `phase`. For one concrete configuration."""
        resources = self.by_resource(phase)
        return max(resources, key=lambda resource: resources[resource])


def breakdown(
    model: Model,
    platform: Platform,
    workload: Workload,
    plan: Parallelism | None = None,
    precision: Precision | None = None,
    *,
    serving: Serving | None = None,
    sharpness: float = SHARPNESS,
) -> Breakdown:
    """TTFT and TPOT by operator and resource. Arguments and errors are those of `estimate`."""
    plan, precision = plan or Parallelism(), precision or Precision()
    check_layout(model, platform, plan)
    check_images(model, workload)
    check_serving(serving, model, platform.accelerator, plan)
    check_sharpness(sharpness)
    return _breakdown(model, platform, workload, plan, precision, serving, sharpness)


@eqx.filter_jit
def _breakdown(
    model: Model,
    platform: Platform,
    workload: Workload,
    plan: Parallelism,
    precision: Precision,
    serving: Serving | None,
    sharpness: float,
) -> Breakdown:
    phases = Phases.of(model, platform, workload, plan.as_structure(), precision, serving)
    machine, drafting = phases.machine, phases.drafting
    found = []
    for iteration, passes_of in (
        (phases.prefill, phases.prefill_passes),
        (phases.decode, phases.decode_passes),
    ):
        shares = operator_shares(iteration.operators, machine.rates, sharpness)
        own = iteration_times(
            iteration, model, machine, plan, sharpness, _executing(iteration, shares)
        )
        passes = passes_of(phases.slowed(own, iteration))
        rows = _rows(machine, iteration, shares, passes, model, plan, sharpness)
        if phases.offloading is not None:
            wait = passes.layers * phases.offloading.wait(own, iteration)
            rows["offload"] = jnp.zeros(4).at[RESOURCES.index("memory")].set(wait)
        found.append(rows)
    ttft, tpot = found
    if phases.encoding is not None:
        ttft = _encoding_rows(phases, phases.encoding, plan, sharpness) | ttft
    if drafting is not None:
        for rows, iteration, passes in (
            (ttft, drafting.prefill, drafting.prefills),
            (tpot, drafting.decode, drafting.decodes),
        ):
            shares = operator_shares(iteration.operators, drafting.machine.rates, sharpness)
            own = _rows(
                drafting.machine,
                iteration,
                shares,
                passes,
                drafting.model,
                drafting.plan,
                sharpness,
            )
            rows |= {f"draft {name}": seconds for name, seconds in own.items()}
    names = tuple(
        dict.fromkeys([*ttft, *tpot])
    )  # prefill and decode may differ: latent attention does
    seconds = [jnp.stack([rows.get(name, jnp.zeros(4)) for name in names]) for rows in (ttft, tpot)]
    return Breakdown(names, *seconds)


def _executing(iteration: Iteration, shares: Shares) -> Parts:
    """The `execution_times` that the shares of its operators add up to."""
    seconds = shares.compute + shares.memory + shares.launch
    first, last = len(iteration.embedding), len(iteration.embedding) + len(iteration.layers)
    return Parts(
        layers=seconds[first:last].sum(), head=seconds[last:].sum(), rest=seconds[:first].sum()
    )


def _rows(
    machine: Machine,
    iteration: Iteration,
    shares: Shares,
    passes: Parts,
    model: Model,
    plan: Parallelism,
    sharpness: float,
) -> dict[str, Float[Array, "4"]]:
    parts = (
        (iteration.embedding, passes.rest),
        (iteration.layers, passes.layers),
        (iteration.head, passes.head),
    )
    times = jnp.stack([times for operators, times in parts for _ in operators])
    rows = _named(iteration.operators, shares, times)

    def add(
        name: str,
        times: Scalar,
        compute: Scalar | float,
        memory: Scalar | float,
        communication: Scalar | float,
        launch: Scalar,
    ) -> None:
        rows[name] = rows.get(name, jnp.zeros(4)) + times * jnp.stack(
            [jnp.asarray(x) for x in (compute, memory, communication, launch)]
        )

    launch, reduction_launch = machine.collective_launch, machine.reduction_launch
    all_reduce = machine.group.all_reduce(iteration.hidden_volume, sharpness) + reduction_launch
    travels = [
        [exchange.repeats * seconds for seconds in machine.exchange_time(exchange, plan)]
        for exchange in iteration.exchanges
    ]
    exchanged, exchange_launches = (
        sum((each[index] for each in travels), start=jnp.zeros(())) for index in (0, 1)
    )
    gathered, merged = (
        sum(
            (op.repeats * machine.context_time(op, sharpness)[index] for op in iteration.layers),
            start=jnp.zeros(()),
        )
        for index in (0, 1)
    )
    reduced = model.reductions * all_reduce
    total = reduced + exchanged + gathered + merged
    shown = exposed(total, _executing(iteration, shares).layers, plan) / jnp.maximum(total, 1e-30)
    launching = model.reductions * reduction_launch
    add("all_reduce", passes.layers, 0.0, 0.0, shown * (reduced - launching), shown * launching)
    if iteration.exchanges:
        add(
            "exchange",
            passes.layers,
            0.0,
            0.0,
            shown * (exchanged - exchange_launches),
            shown * exchange_launches,
        )
    if machine.context_launch is not None:
        for name, seconds, count in (
            (
                "context_all_gather",
                gathered,
                sum(op.repeats for op in iteration.layers if op.gathered is not None),
            ),
            (
                "context_merge",
                merged,
                sum(op.repeats for op in iteration.layers if op.merged is not None),
            ),
        ):
            launching = jnp.asarray(count * machine.context_launch)
            add(name, passes.layers, 0.0, 0.0, shown * (seconds - launching), shown * launching)
    add("all_reduce", passes.rest, 0.0, 0.0, all_reduce - reduction_launch, reduction_launch)
    add(
        "all_gather",
        passes.head,
        0.0,
        0.0,
        machine.group.all_gather(iteration.logits_volume, sharpness),
        launch,
    )
    add(
        "send",
        passes.rest,
        0.0,
        0.0,
        hop_time(plan, machine.links, iteration.hidden_volume),
        jnp.zeros(()),
    )
    return rows


def _named(
    operators: tuple[Operator, ...], shares: Shares, times: Float[Array, " operators"]
) -> dict[str, Float[Array, "4"]]:
    """The seconds of operators by name, each so many times."""
    seconds = times[:, None] * jnp.stack(
        [shares.compute, shares.memory, 0 * shares.memory, shares.launch], axis=1
    )
    members: dict[str, list[int]] = {}
    for index, op in enumerate(operators):
        members.setdefault(op.name, []).append(index)
    return {name: seconds[np.array(indices)].sum(axis=0) for name, indices in members.items()}


def _encoding_rows(
    phases: Phases, encoding: Encoding, plan: Parallelism, sharpness: float
) -> dict[str, Float[Array, "4"]]:
    times = jnp.broadcast_to(encoding.passes, (len(encoding.operators),))
    rows = _named(
        encoding.operators,
        operator_shares(encoding.operators, phases.machine.rates, sharpness),
        times,
    )
    visible, launching = encoding_communication(encoding, phases.machine, plan, sharpness)
    rows["vision_all_reduce"] = visible * jnp.stack(
        [jnp.zeros(()), jnp.zeros(()), 1 - launching, launching]
    )
    return rows
