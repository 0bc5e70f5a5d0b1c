"""Least squares on the logarithm of latency, robust, with priors, from many starts.

Residuals are ln(model / measured) / `SCALE`, under the soft-L1 loss, and one for each parameter's prior. All starts run at once on a sample
of the rows; the best few go on with up to `ROWS` of them.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx

from diffgenz.calibrating.samples import Samples
from diffgenz.fits import KernelFit
from diffgenz.kernels.form import Form

SCALE = 0.1
"""The relative error beyond which a row pulls with constant force."""

STARTS = 256
SAMPLE = 1000
"""Rows that all starts are fitted to."""

FINALISTS = 2
ROWS = 12000
"""Rows, at most, that the finalists are fitted to: beyond, parameters are known better than the form is right."""

CENTRAL_80 = 1.2815515655446004  # standard deviations: half the width of a normal distribution's central 80 %


@dataclasses.dataclass(frozen=True)
class Errors:
    """Relative errors |model / measured - 1| over some rows: their mean and median, and how many rows."""

    mean: float
    median: float
    rows: int

    @classmethod
    def of(cls, predicted: np.ndarray, measured: np.ndarray) -> "Errors":
        """The errors of `predicted` against `measured` seconds."""
        errors = np.abs(predicted / measured - 1)
        return cls(float(errors.mean()), float(np.median(errors)), len(errors)) if len(errors) else cls(np.nan, np.nan, 0)


def fit(samples: Samples, hardware: Any, *, starts: int = STARTS, seed: int = 0) -> KernelFit:
    """The parameters of `samples.form` that explain its rows, a fifth of them kept out.

    Arguments:
        samples: cleaned, one row for each shape.
        hardware: the numbers that the form is bound to (a `NamedTuple`, such as a `Chip`), or arrays of them, one for each row.
        starts: points drawn from the priors. seed: of them.
    """
    with jax.enable_x64(True):
        return _fit(samples, type(hardware)(*(np.asarray(x, np.float64) for x in hardware)), starts, seed)


def _fit(samples: Samples, hardware: Any, starts: int, seed: int) -> KernelFit:
    form, priors = samples.form, samples.form.priors()
    centre = np.asarray(form().free, np.float64)
    spread = np.asarray([p.spread for p in priors.values()])
    draws = np.random.default_rng(seed)
    test = samples.held_out
    train = np.flatnonzero(~test)
    fitted_to = draws.permutation(train)[:ROWS]
    sample = fitted_to[:SAMPLE]
    points = draws.normal(size=(starts, len(spread)))
    points[0] = 0.0
    points, losses = _minima(form, points, centre, spread, _rows(samples, hardware, sample), 40)
    best = points[np.argsort(np.where(np.isfinite(losses), losses, np.inf))[:FINALISTS]]
    points, losses = _minima(form, best, centre, spread, _rows(samples, hardware, fitted_to), 200)
    point = points[np.nanargmin(losses)]
    whitened = _covariance(*(np.asarray(x) for x in _slopes(form, point, centre, spread, _rows(samples, hardware, fitted_to))))
    fitted = form.of_free(jnp.asarray(centre + spread * point))
    predicted = predict(fitted, samples.shape, hardware)
    errors = np.log(samples.seconds / predicted)
    scatter = float(np.quantile(np.abs(errors[train]), 0.8)) / CENTRAL_80
    within = np.abs(errors[test]) <= CENTRAL_80 * scatter
    held_out = Errors.of(predicted[test], samples.seconds[test])
    return KernelFit(
        family=samples.family,
        format=samples.format,
        source=samples.source,
        kernel=samples.kernel,
        form=form,
        values={name: float(getattr(fitted, name)) for name in priors},
        covariance=whitened * np.outer(spread, spread),
        learned={name: float(1 - min(variance, 1.0)) for name, variance in zip(priors, np.diag(whitened), strict=True)},
        scatter=scatter,
        rows=len(train),
        dropped=samples.dropped,
        data=samples.digest,
        mean_error=held_out.mean,
        median_error=held_out.median,
        held_out=held_out.rows,
        coverage=float(within.mean()) if len(within) else float("nan"),
    )


def predict(form: Form, shape: Any, hardware: Any) -> np.ndarray:
    """Seconds of a form for arrays of shapes, in float64."""
    with jax.enable_x64(True):
        shape = type(shape)(*(jnp.asarray(column, jnp.float64) for column in shape))
        return np.asarray(_seconds(form, shape, type(hardware)(*(jnp.asarray(x, jnp.float64) for x in hardware))))


def deviation(fit: KernelFit, shape: Any, hardware: Any) -> np.ndarray:
    """Standard deviation of ln(measured / model) that a fit expects for shapes (arrays): its parameters' share, and its scatter."""
    with jax.enable_x64(True):
        size = len(fit.covariance)
        shape = type(shape)(*(jnp.asarray(column, jnp.float64) for column in shape))
        rows = (shape, type(hardware)(*(jnp.asarray(x, jnp.float64) for x in hardware)), jnp.zeros(len(shape[0])))
        free = np.asarray(fit.form(**fit.values).free)
        slopes = SCALE * np.asarray(_slopes(fit.form, np.zeros(size), free, np.ones(size), rows)[1])
    return np.sqrt(np.einsum("ri,ij,rj->r", slopes, fit.covariance, slopes) + fit.scatter**2)


def _rows(samples: Samples, hardware: Any, rows: np.ndarray) -> tuple[Any, Any, np.ndarray]:
    chosen = samples.only(rows)
    return chosen.shape, type(hardware)(*(np.asarray(x)[rows] if np.ndim(x) else x for x in hardware)), np.log(chosen.seconds)


@jax.jit
def _seconds(form: Form, shape: Any, hardware: Any) -> jax.Array:
    return form.on(hardware)(shape)


def _residuals(point: jax.Array, args: Any) -> jax.Array:
    form, centre, spread, (shape, hardware, logs) = args
    errors = (jnp.log(form.of_free(centre + spread * point).on(hardware)(shape)) - logs) / SCALE
    soft = errors / jnp.sqrt(0.5 * (1 + jnp.sqrt(1 + errors * errors)))
    return jnp.concatenate([soft, point])


def _minima(form: type[Form], points: np.ndarray, centre: np.ndarray, spread: np.ndarray, rows: Any, steps: int) -> tuple[np.ndarray, np.ndarray]:
    ends, losses = _descend(form, points, centre, spread, rows, steps)
    return np.asarray(ends), np.asarray(losses)


@jax.jit(static_argnums=(0, 5))
def _descend(form: type[Form], points: jax.Array, centre: jax.Array, spread: jax.Array, rows: Any, steps: int) -> tuple[jax.Array, jax.Array]:
    solver = optx.LevenbergMarquardt(rtol=1e-5, atol=1e-5)

    def residuals(point: jax.Array, args: Any) -> jax.Array:
        return _residuals(point, (form, *args))

    def descend(point: jax.Array) -> tuple[jax.Array, jax.Array]:
        end = optx.least_squares(residuals, solver, point, (centre, spread, rows), max_steps=steps, throw=False).value
        return end, jnp.sum(residuals(end, (centre, spread, rows)) ** 2)

    return jax.vmap(descend)(points)


@jax.jit(static_argnums=0)
def _slopes(form: type[Form], point: jax.Array, centre: jax.Array, spread: jax.Array, rows: Any) -> tuple[jax.Array, jax.Array]:
    shape, hardware, logs = rows

    def errors(p: jax.Array) -> jax.Array:
        return (jnp.log(form.of_free(centre + spread * p).on(hardware)(shape)) - logs) / SCALE

    return errors(point), jax.jacfwd(errors)(point)


def _covariance(errors: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Of parameters in prior standard deviations: the sandwich estimator of robust regression (Huber 1967), to which the priors add.

    The loss's slope and curvature at an error e are e / sqrt(1 + e**2) and (1 + e**2)**(-3/2).
    """
    root = np.sqrt(1 + errors**2)[:, None]
    bread = np.linalg.inv(slopes.T @ (slopes / root**3) + np.eye(slopes.shape[1]))
    return bread @ (slopes.T @ (slopes * (errors[:, None] / root) ** 2) + np.eye(slopes.shape[1])) @ bread
