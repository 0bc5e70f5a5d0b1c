"""How sure an estimate is: the standard deviation of every metric, from what the fits of its kernels do not know.

Two things are uncertain in each family of kernels: the parameters (their covariance), and the level, by which measured kernels scatter around the
form. The scatter of one family is taken to shift all its kernels together, which errs on the wide side.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.fits import KernelFit
from diffgenz.kernels.library import Library
from diffgenz.smooth import Leaf

Metrics = TypeVar("Metrics")

SEED = 0
"""Of sampled deviations: the same call gives the same figures."""


def by_delta(metrics: Callable[[Library], Metrics], library: Library, fits: Sequence[KernelFit]) -> Metrics:
    """The standard deviation of all metrics to first order: sqrt(g' C g), g their gradient with respect to what is uncertain, C its covariance.

    Arguments:
        metrics: of a library of kernels, as a pytree of numbers. library: the fitted one. fits: what it was made of.
    """
    roots = _roots(fits)

    def deviation(*gradient: Any) -> Any:
        variance = sum(((np.asarray(part) @ root) ** 2).sum(-1) for part, root in zip(gradient, roots, strict=True))
        return jnp.asarray(np.sqrt(variance), jnp.result_type(float))

    structure = jax.tree.structure(jax.eval_shape(metrics, library))
    leaves = structure.flatten_up_to(gradients(metrics, library, fits))
    return jax.tree.unflatten(structure, [deviation(*leaf) for leaf in leaves])


def gradients(metrics: Callable[[Library], Any], library: Library, fits: Sequence[KernelFit]) -> Any:
    """The gradient of each metric with respect to what is uncertain of each fit: its unbounded parameters, and the logarithm of its level."""

    @eqx.filter_jit
    def slopes(library: Library, centre: list[Leaf]) -> Any:
        return jax.jacrev(lambda unknown: metrics(_moved(library, fits, unknown)))(centre)

    return slopes(library, _centre(fits))


def by_samples(metrics: Callable[[Library], Metrics], library: Library, fits: Sequence[KernelFit], count: int) -> Metrics:
    """The standard deviation of all metrics over `count` draws of what is uncertain."""
    centre, roots = _centre(fits), _roots(fits)
    draws = np.random.default_rng(SEED)
    points = [x + jnp.asarray(draws.normal(size=(count, len(root))) @ root.T, x.dtype) for x, root in zip(centre, roots, strict=True)]

    @eqx.filter_jit
    def deviations(library: Library, points: list[Leaf]) -> Metrics:
        values = jax.vmap(lambda unknown: metrics(_moved(library, fits, unknown)))(points)
        return jax.tree.map(lambda x: jnp.std(x, axis=0, ddof=1), values)

    return deviations(library, points)


def _centre(fits: Sequence[KernelFit]) -> list[Leaf]:
    return [jnp.concatenate([fit.form.free, jnp.zeros(1)]) for fit in fits]


def covariance_of(fit: KernelFit) -> np.ndarray:
    """The covariance of what is uncertain of a fit: that of its unbounded parameters, and the variance of the logarithm of its level."""
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


def _moved(library: Library, fits: Sequence[KernelFit], unknown: list[Leaf]) -> Library:
    forms = {family: dict(formats) for family, formats in library.forms.items()}
    for fit, values in zip(fits, unknown, strict=True):
        form = type(fit.form).of_free(values[:-1])
        forms[fit.family][fit.format] = eqx.tree_at(lambda f: f.level, form, jnp.exp(values[-1]))
    return eqx.tree_at(lambda lib: lib.forms, library, forms)
