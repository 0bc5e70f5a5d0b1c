"""Which kernel to measure next: the one that would narrow a metric most.

To first order a metric's variance is g' C g, with C the covariance of what is uncertain and g its
gradient. A measurement of a kernel whose logarithm has the gradient j there, and repeats within
`REPEAT`, takes away (g' C j)**2 / (j' C j + REPEAT**2): Fisher information added to C's inverse.
Points are chosen one after the other, each as if those before it had been measured.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.inference.essential import essential
from diffgenz.inference.estimate import estimate
from diffgenz.inference.jobs import jobs_of
from diffgenz.inference.metrics import metric_named
from diffgenz.inference.resolved import resolved
from diffgenz.inference.timing.execution import Execution, kernel_format
from diffgenz.inference.timing.roofline import Rates, kernel_key
from diffgenz.inference.uncertainty import covariance_of, gradients
from diffgenz.kernels.fits import KernelFit
from diffgenz.kernels.library import Bound, Library
from diffgenz.kernels.selection import fits_behind
from diffgenz.operators.layer_format import DTYPE
from diffgenz.operators.precision import Precision
from diffgenz.scenario.scenario import Scenario, demand_scenario

REPEAT = 0.04
"""Relative standard deviation of one kernel's repeated measurements.

In public tables it is 3.5 to 5 %, also between software on one GPU.
"""

SCALES = (1 / 16, 1 / 4, 1.0, 4.0)
"""Multiples of the batch from which candidates are taken."""


class Candidate(NamedTuple):
    """A kernel that could be measured.

    Arguments:
        family: name of its family.
        format: what it multiplies.
        shape: of the family's form, single numbers.
    """

    family: str
    format: str
    shape: Any


class Suggestion(NamedTuple):
    """A kernel to measure.

    Arguments:
        family: name of its family.
        format: of the fit that times it.
        shape: its dimensions, by name.
        seconds: how long it will take.
        before: relative standard deviation of the metric before the measurement.
        after: the same after it, and after all suggestions before this one.
    """

    family: str
    format: str
    shape: dict[str, float]
    seconds: float
    before: float
    after: float


def suggest(
    case: Scenario,
    metric: str = "tpot",
    count: int = 5,
    candidates: Sequence[Candidate] | None = None,
) -> list[Suggestion]:
    """The measurements that would narrow a metric most, best first.

    Arguments:
        case: one concrete scenario, its platform loaded with fitted kernels.
        metric: name of a metric of `estimate`.
        count: how many measurements at most; fewer are suggested where the rest would not narrow
            the metric.
        candidates: what could be measured. Default: the kernels that the model runs at `SCALES` of
            the batch.

    Raises:
        InputError: there are no fitted kernels, or there is no such metric.
    """
    demand_scenario(case)
    accelerator, precision = case.platform.accelerator, case.precision
    fits = [] if accelerator.kernels is None else fits_behind(accelerator.kernels)
    if candidates is None and fits:
        candidates = executed_kernels(case)
    case = essential(case)
    library = case.platform.accelerator.kernels
    if library is None or not fits:
        raise InputError(
            f"suggest: the kernels of {accelerator.name} are not fitted; "
            "load the platform with a fit"
        )
    fits = [each for each in fits if each.format in library.forms.get(each.family, {})]
    gradient = gradients(_logarithm, library, fits, metric, case)
    slopes = {_key(fit): np.asarray(g, float) for fit, g in zip(fits, gradient, strict=True)}
    known = {_key(fit): covariance_of(fit) for fit in fits}
    accelerator = case.platform.accelerator
    rates = Rates.of(accelerator, Execution.of(accelerator, precision))
    points = _points(candidates or (), library, rates, precision)
    variance = sum(float(slopes[key] @ known[key] @ slopes[key]) for key in slopes)
    found: list[Suggestion] = []
    while points and len(found) < count:
        gains = [
            float(slopes[key] @ known[key] @ j) ** 2 / (float(j @ known[key] @ j) + REPEAT**2)
            for key, j, _, _ in points
        ]
        best = int(np.argmax(gains))
        key, j, candidate, seconds = points.pop(best)
        if gains[best] <= 1e-6 * variance:
            break
        shape = {name: float(value) for name, value in candidate.shape._asdict().items()}
        after = max(variance - gains[best], 0.0)
        found.append(
            Suggestion(*key, shape, seconds, float(np.sqrt(variance)), float(np.sqrt(after)))
        )
        variance, along = after, known[key] @ j
        known[key] = known[key] - np.outer(along, along) / (float(j @ along) + REPEAT**2)
    return found


def executed_kernels(case: Scenario) -> list[Candidate]:
    """The kernels that the model runs at `SCALES` of its batch, each shape once.

    Those of a draft model are left out: it may run on accelerators of its own.
    """
    found: dict[tuple[Any, ...], Candidate] = {}
    for scale in SCALES:
        batch = jnp.maximum(jnp.round(case.workload.batch * scale), 1.0)
        scaled = case.replace(workload=case.workload.replace(batch=batch))
        jobs = jobs_of(resolved(scaled))
        own = (job for job in (*jobs.until_first, *jobs.per_token) if not job.name)
        for op in (op for job in own for op in job.iteration.operators):
            if op.shape is not None and op.kernel:
                format = kernel_format(*kernel_key(op), case.precision)
                numbers = tuple(round(float(x), 3) for x in op.shape)
                candidate = Candidate(op.kernel, format, op.shape)
                found.setdefault((op.kernel, format, numbers), candidate)
    return list(found.values())


def _logarithm(library: Library, metric: str, case: Scenario) -> Any:
    there = eqx.tree_at(lambda c: c.platform.accelerator.kernels, case, library)
    return jnp.log(metric_named(estimate(there), metric))


def _key(fit: KernelFit) -> tuple[str, str]:
    return fit.family, fit.format


def _points(
    candidates: Sequence[Candidate], library: Library, rates: Rates, precision: Precision
) -> list[tuple[tuple[str, str], np.ndarray, Candidate, float]]:
    """The candidates that some fit times.

    Returns:
        of each, the key of the fit, the gradient of its ln seconds (that of the level is 1), the
        candidate, and its seconds.
    """
    found = []
    for candidate in candidates:
        name = library.format_of(candidate.family, candidate.format)
        keys = (
            (candidate.family, part)
            for part in (*precision.parts, DTYPE)
            if kernel_format(candidate.family, part, precision) == candidate.format
        )
        bound = next((rates.kernels[key] for key in keys if key in rates.kernels), None)
        if name is None or bound is None:
            continue
        gradient = jax.grad(_log_seconds, argnums=0)(bound.form.free, bound, candidate.shape)
        slopes = np.append(np.asarray(gradient, float), 1.0)
        seconds = float(bound.seconds(candidate.shape))
        found.append(((candidate.family, name), slopes, candidate, seconds))
    return found


@jax.jit
def _log_seconds(free: Any, bound: Bound, shape: Any) -> Any:
    return jnp.log(Bound(type(bound.form).of_free(free), bound.hardware).seconds(shape))
