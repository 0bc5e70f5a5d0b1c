"""`timed_by`: what times the kernels and collectives of a scenario."""

import equinox as eqx

from diffgenz.core import xp
from diffgenz.core.verb import as_if_traced
from diffgenz.inference.jobs import jobs_of
from diffgenz.inference.timing.exchange import fitted_exchanges
from diffgenz.inference.timing.roofline import kernel_format, kernel_key
from diffgenz.kernels.fits import sources
from diffgenz.operators.message import AllGather, AllReduce, Axis, Exchange
from diffgenz.scenario.scenario import Scenario


def timed_by(case: Scenario) -> dict[str, str]:
    """What times each family of kernels that a scenario runs, and the collectives between ranks.

    Operators of no family, such as attention over a cache that GEAR compressed, stand under their
    own names: the roofline times them.
    Those of a draft model are left out: it is a model of its own.

    Arguments:
        case: one concrete scenario.

    Returns:
        By family and format, such as "gemm bf16": the software whose kernels were measured
        ("vllm-0.24.0"), "transferred" from other accelerators, "by hand", or "roofline".
    """
    if xp.is_jax(case):
        jobs = eqx.filter_eval_shape(jobs_of, case)
    else:
        with as_if_traced():
            jobs = jobs_of(case)
    own = [job for job in (*reversed(jobs.until_first), *jobs.per_token) if not job.name]
    operators = [op for job in own for op in job.iteration.operators]
    used = {
        (op.kernel, kernel_format(*kernel_key(op), case.precision)): None
        for op in operators
        if op.shape is not None
    }
    plan, library = case.plan, case.platform.accelerator.kernels
    context = 1.0 if plan.context is None else plan.context
    ranks = {Axis.TENSOR: plan.tensor, Axis.CONTEXT: context, Axis.EXPERT: plan.groups}
    ranks[Axis.PIPELINE] = plan.pipeline
    sent = {
        type(message)
        for op in operators
        for message in op.messages
        if float(ranks[message.over]) > 1
    }
    if AllReduce in sent:
        used["all_reduce", case.precision.messages] = None
    if AllGather in sent:
        used["all_gather", case.precision.dtype] = None
    if Exchange in sent and library is not None:
        used |= dict.fromkeys(fitted_exchanges(library))
    unmeasured = {f"{op.name} {case.precision.dtype}" for op in operators if not op.kernel}
    return sources(library, used) | dict.fromkeys(sorted(unmeasured), "roofline")
