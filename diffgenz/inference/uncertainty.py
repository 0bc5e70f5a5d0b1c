"""How sure an estimate is: the standard deviation of every metric, from its kernels' fits.

Two things are uncertain in each family of kernels: the parameters, by their covariance, and the
level, by the scatter of measured kernels around the form. The scatter of one family is taken to
shift all its kernels together, which errs on the wide side.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.core.smooth import Leaf
from diffgenz.inference.essential import essential
from diffgenz.inference.estimate import Estimate, compiled_estimate
from diffgenz.inference.resolved import resolved
from diffgenz.kernels.fits import KernelFit, fits_behind
from diffgenz.kernels.form import Form
from diffgenz.kernels.library import Library
from diffgenz.scenario.scenario import Scenario

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
    accelerator = case.platform.accelerator
    fits = [] if accelerator.kernels is None else fits_behind(accelerator.kernels)
    case = essential(case)
    library = case.platform.accelerator.kernels
    if library is None or not fits:
        raise InputError(
            f"deviations: the kernels of {accelerator.name} are not fitted; "
            "load the platform with a fit"
        )
    fits = [each for each in fits if each.format in library.forms.get(each.family, {})]
    if samples:
        return by_samples(_with_kernels, library, fits, samples, case)
    return by_delta(_with_kernels, library, fits, case)


def _with_kernels(library: Library, case: Scenario) -> Estimate:
    there = eqx.tree_at(lambda c: c.platform.accelerator.kernels, case, library)
    return compiled_estimate(resolved(there))


def by_delta(
    metrics: Callable[..., Metrics], library: Library, fits: Sequence[KernelFit], *args: Any
) -> Metrics:
    """The standard deviation of all metrics to first order (the delta method).

        sqrt(g' C g)

    Here g is the gradient of a metric with respect to what is uncertain, and C the covariance of
    that.

    Arguments:
        metrics: a function of a library of kernels and `args` that returns the metrics as a pytree
            of numbers. It is compiled once for each function and structure of its arguments.
        library: the fitted library.
        fits: the fits that the library was made of.
        args: further arguments of `metrics`.

    Returns:
        The standard deviations, in the structure of the metrics.
    """
    roots = _roots(fits)

    def deviation(*gradient: Any) -> Any:
        variance = sum(
            ((np.asarray(part) @ root) ** 2).sum(-1)
            for part, root in zip(gradient, roots, strict=True)
        )
        return jnp.asarray(np.sqrt(variance), jnp.result_type(float))

    structure = jax.tree.structure(eqx.filter_eval_shape(metrics, library, *args))
    leaves = structure.flatten_up_to(gradients(metrics, library, fits, *args))
    return jax.tree.unflatten(structure, [deviation(*leaf) for leaf in leaves])


def gradients(
    metrics: Callable[..., Any], library: Library, fits: Sequence[KernelFit], *args: Any
) -> Any:
    """The gradient of each metric with respect to what is uncertain of each fit.

    That is the fit's unbounded parameters, and the logarithm of its level. The arguments are those
    of `by_delta`.
    """
    return _gradients(metrics, library, _parts(fits), _centre(fits), args)


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
    draws = np.random.default_rng(SEED)
    centred = zip(_centre(fits), _roots(fits), strict=True)
    points = [
        x + jnp.asarray(draws.normal(size=(count, len(root))) @ root.T, x.dtype)
        for x, root in centred
    ]
    return _deviations(metrics, library, _parts(fits), points, args)


Part = tuple[str, str, type[Form]]
"""The family, the format and the form of a fit."""


@eqx.filter_jit
def _gradients(
    metrics: Callable[..., Any],
    library: Library,
    parts: tuple[Part, ...],
    centre: list[Leaf],
    args: tuple[Any, ...],
) -> Any:
    return jax.jacrev(lambda unknown: metrics(_moved(library, parts, unknown), *args))(centre)


@eqx.filter_jit
def _deviations(
    metrics: Callable[..., Any],
    library: Library,
    parts: tuple[Part, ...],
    points: list[Leaf],
    args: tuple[Any, ...],
) -> Any:
    values = jax.vmap(lambda unknown: metrics(_moved(library, parts, unknown), *args))(points)
    return jax.tree.map(lambda x: jnp.std(x, axis=0, ddof=1), values)


def _parts(fits: Sequence[KernelFit]) -> tuple[Part, ...]:
    return tuple((fit.family, fit.format, fit.form) for fit in fits)


def _centre(fits: Sequence[KernelFit]) -> list[Leaf]:
    return [jnp.concatenate([fit.fitted.free, jnp.zeros(1)]) for fit in fits]


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


def _moved(library: Library, parts: Sequence[Part], unknown: list[Leaf]) -> Library:
    forms = {family: dict(formats) for family, formats in library.forms.items()}
    for (family, format, form), values in zip(parts, unknown, strict=True):
        forms[family][format] = eqx.tree_at(
            lambda f: f.level, form.of_free(values[:-1]), jnp.exp(values[-1])
        )
    return eqx.tree_at(lambda lib: lib.forms, library, forms)
