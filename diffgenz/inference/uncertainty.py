"""How sure an estimate is: the standard deviation of every metric, from its kernels' fits.

Two things are uncertain in each family of kernels: the parameters, by their covariance, and the
level, by the scatter of measured kernels around the form. The scatter of one family is taken to
shift all its kernels together, which errs on the wide side.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax
import numpy as np

from diffgenz.core import xp
from diffgenz.core.differences import as_double, in_double, moves, slopes
from diffgenz.core.errors import InputError
from diffgenz.core.leaves import with_parts
from diffgenz.core.smooth import Leaf, as_leaf
from diffgenz.inference.essential import essential
from diffgenz.inference.estimate import Estimate, compiled_estimate
from diffgenz.inference.resolved import resolved
from diffgenz.inference.timing.execution import misfits
from diffgenz.kernels.fits import KernelFit
from diffgenz.kernels.library import Library
from diffgenz.kernels.selection import fits_behind
from diffgenz.scenario.scenario import Scenario, demand_scenario

Metrics = TypeVar("Metrics")

SEED = 0
"""The seed of sampled deviations, so that the same call gives the same figures."""


def deviations(case: Scenario, samples: int = 0) -> Estimate:
    """The standard deviation of every metric of `estimate(case)`, from the fits of its kernels.

    Arguments:
        case: one concrete scenario, whose platform was loaded with fitted kernels.
        samples: draws to take the deviations from; 0: deviations to first order (the delta method).

    Raises:
        InputError: the platform's kernels are not fitted.
    """
    case, library, fits = uncertain_in(case, "deviations")
    if samples:
        return by_samples(_with_kernels, library, fits, samples, case)
    return by_delta(_with_kernels, library, fits, case)


def uncertain_in(case: Scenario, asked: str) -> tuple[Scenario, Library, list[KernelFit]]:
    """What of a scenario counts, the fitted kernels that it uses, and the fits they are from.

    Arguments:
        case: the scenario.
        asked: what is asked for, which an error begins with.

    Raises:
        InputError: the platform's kernels are not fitted.
    """
    demand_scenario(case)
    accelerator = case.platform.accelerator
    fits = fits_in_use(case)
    case = essential(case)
    library = case.platform.accelerator.kernels
    if library is None or not fits:
        raise InputError(
            f"{asked}: the kernels of {accelerator.name} are not fitted; "
            "load the platform with a fit"
        )
    return case, library, fits


def fits_in_use(case: Scenario) -> list[KernelFit]:
    """The fits of the kernels that a scenario uses; none where nothing is fitted.

    Those that stand in for a format which has none are known less well (`kernels.relatives`).
    """
    library = case.platform.accelerator.kernels
    used = essential(case).platform.accelerator.kernels
    if library is None or used is None:
        return []
    off = misfits(library, case.precision)
    fits = [each for each in fits_behind(library) if each.format in used.forms.get(each.family, {})]
    return [
        dataclasses.replace(
            each, scatter=float(np.hypot(each.scatter, off.get((each.family, each.format), 0.0)))
        )
        for each in fits
    ]


def _with_kernels(library: Library, case: Scenario) -> Estimate:
    return compiled_estimate(resolved(with_kernels(case, library)))


def with_kernels(case: Scenario, library: Library) -> Scenario:
    """The scenario with other fitted kernels, whose numbers may be columns."""
    return eqx.tree_at(lambda c: c.platform.accelerator.kernels, case, library)


def by_delta(
    metrics: Callable[..., Metrics], library: Library, fits: Sequence[KernelFit], *args: Any
) -> Metrics:
    """The standard deviation of all metrics to first order (the delta method).

        sqrt(g' C g)

    Here g is the gradient of a metric with respect to what is uncertain, and C the covariance of
    that.

    Arguments:
        metrics: a function of a library of kernels and `args` that returns the metrics as a pytree
            of numbers. It is called once, in NumPy: the library holds columns of numbers.
        library: the fitted library.
        fits: the fits that the library was made of.
        args: further arguments of `metrics`.

    Returns:
        The standard deviations, in the structure of the metrics.
    """
    roots = _roots(fits)

    def deviation(gradient: list[np.ndarray]) -> Leaf:
        parts = zip(gradient, roots, strict=True)
        return as_leaf(np.sqrt(sum(((part @ root) ** 2).sum(-1) for part, root in parts)))

    found = gradients(metrics, library, fits, *args)
    return jax.tree.map(deviation, found, is_leaf=lambda x: isinstance(x, list))


def gradients(
    metrics: Callable[..., Any], library: Library, fits: Sequence[KernelFit], *args: Any
) -> Any:
    """The gradient of each metric with respect to what is uncertain of each fit.

    That is the fit's unbounded parameters, and the logarithm of its level. The arguments are those
    of `by_delta`.

    Returns:
        The structure of the metrics, with a list for each of them: its gradient with respect to
        what is uncertain of each fit.
    """
    with in_double():
        centre = [_centre(fit)[:, None] for fit in fits]
        count = sum(len(each) for each in centre)
        ends = np.cumsum([len(each) for each in centre])[:-1]
        moved = zip(centre, np.split(moves(count), ends), strict=True)
        unknown = [each + move for each, move in moved]
        values = metrics(_moved(as_double(library), fits, unknown), *as_double(args))
        return jax.tree.map(lambda value: np.split(slopes(value, count), ends), values)


def by_samples(
    metrics: Callable[..., Metrics],
    library: Library,
    fits: Sequence[KernelFit],
    count: int,
    *args: Any,
) -> Metrics:
    """The standard deviation of all metrics over draws of what is uncertain.

    Arguments:
        metrics: the function that returns the metrics, as in `by_delta`.
        library: the fitted library.
        fits: the fits that the library was made of.
        count: how many draws are made.
        args: further arguments of `metrics`.
    """
    steps = steps_of(fits, count, SEED)
    with in_double():
        values = metrics(drawn_library(library, fits, steps), *as_double(args))

    def deviation(value: Any) -> Leaf:
        return as_leaf(np.std(np.broadcast_to(np.asarray(value), count), ddof=1))

    return jax.tree.map(deviation, values)


def steps_of(fits: Sequence[KernelFit], count: int, seed: int) -> list[np.ndarray]:
    """What `drawn_library` takes for some draws with a seed."""
    draws = np.random.default_rng(seed)
    return [draws.normal(size=(count, len(fit.covariance) + 1)) for fit in fits]


def drawn_library(
    library: Library, fits: Sequence[KernelFit], steps: Sequence[np.ndarray], further: int = 0
) -> Library:
    """The library with columns of draws of what is uncertain, in float64.

    Arguments:
        library: the fitted library.
        fits: the fits that the library was made of.
        steps: standard normal numbers for each fit, of shape (draws, unbounded parameters + 1).
        further: axes of 1 after that of draws, where others broadcast with them.
    """
    with in_double():
        unknown = [
            _centre(fit)[:, None] + root @ step.T
            for fit, root, step in zip(fits, _roots(fits), steps, strict=True)
        ]
        shaped = [each.reshape(*each.shape, *further * (1,)) for each in unknown]
        return _moved(as_double(library), fits, shaped)


def _centre(fit: KernelFit) -> np.ndarray:
    return np.append(as_double(fit.fitted).free, 0.0)


def covariance_of(fit: KernelFit) -> np.ndarray:
    """The covariance of what is uncertain of a fit.

    It consists of the covariance of the unbounded parameters and, in the last row and column, the
    variance of the logarithm of the level. They are taken to be independent.
    """
    size = len(fit.covariance)
    whole = np.zeros((size + 1, size + 1))
    whole[:size, :size], whole[size, size] = fit.covariance, fit.scatter**2
    return whole


def _roots(fits: Sequence[KernelFit]) -> list[np.ndarray]:
    found = []
    for fit in fits:
        variances, directions = np.linalg.eigh(covariance_of(fit))
        found.append(directions * np.sqrt(np.maximum(variances, 0.0)))
    return found


def _moved(library: Library, fits: Sequence[KernelFit], unknown: Sequence[Leaf]) -> Library:
    """`library` with other values of what is uncertain, each a row of columns."""
    forms = {family: dict(formats) for family, formats in library.forms.items()}
    for fit, values in zip(fits, unknown, strict=True):
        form = fit.form.of_free(values[:-1])
        forms[fit.family][fit.format] = with_parts(form, {"level": xp.exp(values[-1])})
    return with_parts(library, {"forms": forms})
