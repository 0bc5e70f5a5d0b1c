"""`timed_by`: what times the kernels and collectives of a scenario."""

from collections.abc import Collection
from typing import NamedTuple

import equinox as eqx

from diffgenz.core import xp
from diffgenz.core.verb import as_if_traced
from diffgenz.inference.jobs import jobs_of
from diffgenz.inference.resolved import resolved
from diffgenz.inference.timing.execution import fitted_exchanges, kernel_format
from diffgenz.inference.timing.roofline import kernel_key
from diffgenz.kernels.selection import ROOFLINE, sources
from diffgenz.operators.message import AllGather, AllReduce, Axis, Exchange, Message
from diffgenz.scenario.scenario import Scenario


class Run(NamedTuple):
    """What a scenario runs, as kernels are told apart, in whatever formats.

    Arguments:
        kernels: families, and the part of the model in whose formats they run (`kernel_key`).
        others: names of operators of no family, such as attention over a cache that GEAR
            compressed.
        messages: kinds of messages, and the axis of the ranks that exchange them.
    """

    kernels: tuple[tuple[str, str], ...]
    others: tuple[str, ...]
    messages: frozenset[tuple[type[Message], Axis]]


def timed_by(case: Scenario) -> dict[str, str]:
    """What times each family of kernels that a scenario runs, and the collectives between ranks.

    Operators of no family stand under their own names: the roofline times them. Those of a draft
    model are left out: it is a model of its own.

    Arguments:
        case: one concrete scenario.

    Returns:
        By family and format, such as "gemm bf16": the software whose kernels were measured
        ("vllm-0.24.0"), "transferred" from other accelerators, "by hand", or "roofline". Where
        kernels of another format stand in, it is "vllm-0.24.0 for bf16".
    """
    plan = case.plan
    ranks = {Axis.TENSOR: plan.tensor, Axis.EXPERT: plan.groups, Axis.PIPELINE: plan.pipeline}
    ranks[Axis.CONTEXT] = 1.0 if plan.context is None else plan.context
    return sources_of(case, run_by(case), {axis for axis in Axis if float(ranks[axis]) > 1})


def run_by(case: Scenario) -> Run:
    """What a scenario runs, without a draft model."""
    question = resolved(case)
    if xp.is_jax(question):
        jobs = eqx.filter_eval_shape(jobs_of, question)
    else:
        with as_if_traced():
            jobs = jobs_of(question)
    own = [job for job in (*reversed(jobs.until_first), *jobs.per_token) if not job.name]
    operators = [op for job in own for op in job.iteration.operators]
    return Run(
        tuple(dict.fromkeys(kernel_key(op) for op in operators if op.shape is not None)),
        tuple(sorted({op.name for op in operators if not op.kernel})),
        frozenset((type(m), m.over) for op in operators for m in op.messages),
    )


def sources_of(case: Scenario, run: Run, axes: Collection[Axis]) -> dict[str, str]:
    """What times each of the kernels of `run` in the formats of a scenario, as in `timed_by`.

    Arguments:
        case: the scenario, whose platform and precision count.
        run: what it runs.
        axes: those on which there is more than one rank.
    """
    library, precision = case.platform.accelerator.kernels, case.precision
    used = {(family, kernel_format(family, part, precision)): None for family, part in run.kernels}
    sent = {kind for kind, axis in run.messages if axis in axes}
    if AllReduce in sent:
        used["all_reduce", precision.messages] = None
    if AllGather in sent:
        used["all_gather", precision.dtype] = None
    if Exchange in sent and library is not None:
        used |= dict.fromkeys(fitted_exchanges(library))
    unmeasured = (f"{name} {precision.dtype}" for name in run.others)
    return sources(library, used) | dict.fromkeys(unmeasured, ROOFLINE)
