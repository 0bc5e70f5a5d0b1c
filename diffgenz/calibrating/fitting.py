"""Least squares on the logarithm of latency, robust, with priors, from many starts.

Residuals are ln(model / measured) / `SCALE`, under the soft-L1 loss, and one for each parameter's prior. All starts run at once on a sample
of the rows; the best few go on with all of them.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx

from diffgenz.calibrating.samples import Samples
from diffgenz.kernels.form import Form

SCALE = 0.1
"""The relative error beyond which a row pulls with constant force."""

STARTS = 256
SAMPLE = 1000
FINALISTS = 4
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


@dataclasses.dataclass(frozen=True)
class Fit:
    """Parameters, and how well they are known.

    Arguments:
        form: with the fitted values.
        covariance: of the unbounded parameters (`Form.free`), (parameters, parameters).
        scatter: standard deviation of ln(measured / model) that covers the central 80 % of the training rows.
        train, held_out: errors over the rows it was fitted to, and those kept from it.
        coverage: share of held-out rows within the nominal 80 % interval.
        learned: by parameter, 1 - posterior / prior variance: 0 where the data say nothing.
    """

    form: Form
    covariance: np.ndarray
    scatter: float
    train: Errors
    held_out: Errors
    coverage: float
    learned: dict[str, float]

    def seconds(self, shape: Any, hardware: Any) -> np.ndarray:
        """The model's seconds for `shape` (arrays)."""
        return predict(self.form, shape, hardware)


def fit(samples: Samples, hardware: Any, *, prior: Form | None = None, starts: int = STARTS, seed: int = 0) -> Fit:
    """The parameters of `samples.form` that explain its rows, a fifth of them kept out.

    Arguments:
        samples: cleaned, one row for each shape.
        hardware: the numbers that the form is bound to (a `NamedTuple`, such as a `Chip`), or arrays of them, one for each row.
        prior: where the priors are centred; default: the form's own medians.
        starts: points drawn from the priors. seed: of them.
    """
    with jax.enable_x64(True):
        return _fit(samples, type(hardware)(*(np.asarray(x, np.float64) for x in hardware)), prior, starts, seed)


def _fit(samples: Samples, hardware: Any, prior: Form | None, starts: int, seed: int) -> Fit:
    form, priors = samples.form, samples.form.priors()
    centre = np.asarray((prior or form()).free, np.float64)
    spread = np.asarray([p.spread for p in priors.values()])
    draws = np.random.default_rng(seed)
    test = samples.held_out
    train = np.flatnonzero(~test)
    sample = draws.permutation(train)[:SAMPLE]
    points = draws.normal(size=(starts, len(spread)))
    points[0] = 0.0
    points, losses = _minima(form, points, centre, spread, _rows(samples, hardware, sample), 40)
    best = points[np.argsort(np.where(np.isfinite(losses), losses, np.inf))[:FINALISTS]]
    points, losses = _minima(form, best, centre, spread, _rows(samples, hardware, train), 200)
    point = points[np.nanargmin(losses)]
    jacobian = np.asarray(_jacobian(form, point, centre, spread, _rows(samples, hardware, train)))
    information = jacobian.T @ jacobian
    whitened = np.linalg.inv(information)  # of parameters in prior standard deviations; the prior's rows keep it regular
    fitted = form.of_free(jnp.asarray(centre + spread * point))
    predicted = np.asarray(predict(fitted, samples.shape, hardware))
    errors = np.log(samples.seconds / predicted)
    scatter = float(np.quantile(np.abs(errors[train]), 0.8)) / CENTRAL_80
    covariance = whitened * np.outer(spread, spread)
    within = np.abs(errors[test]) <= CENTRAL_80 * scatter
    return Fit(
        form=fitted,
        covariance=covariance,
        scatter=scatter,
        train=Errors.of(predicted[train], samples.seconds[train]),
        held_out=Errors.of(predicted[test], samples.seconds[test]),
        coverage=float(within.mean()) if len(within) else float("nan"),
        learned={name: float(1 - min(variance, 1.0)) for name, variance in zip(priors, np.diag(whitened), strict=True)},
    )


def predict(form: Form, shape: Any, hardware: Any) -> np.ndarray:
    """Seconds of a form for arrays of shapes, in float64."""
    with jax.enable_x64(True):
        shape = type(shape)(*(jnp.asarray(column, jnp.float64) for column in shape))
        return np.asarray(_seconds(form, shape, type(hardware)(*(jnp.asarray(x, jnp.float64) for x in hardware))))


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
    points, losses = _descend(form, points, centre, spread, rows, steps)
    return np.asarray(points), np.asarray(losses)


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
def _jacobian(form: type[Form], point: jax.Array, centre: jax.Array, spread: jax.Array, rows: Any) -> jax.Array:
    return jax.jacfwd(lambda p: _residuals(p, (form, centre, spread, rows)))(point)
