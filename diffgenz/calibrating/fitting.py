"""Least squares on the logarithm of latency, robust, with priors, from many starts.

Residuals are ln(model / measured) / `SCALE`, under the soft-L1 loss, and one for each parameter's prior. All starts run at once on a sample
of the rows; the best few go on with up to `ROWS` of them. Rows are padded, with weight 0, to a few sizes: tables share programs, whose compilation
takes longer than most fits.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx

from diffgenz.calibrating.samples import Samples, padded
from diffgenz.kernels.fits import KernelFit
from diffgenz.kernels.form import Form

SCALE = 0.1
"""The relative error beyond which a row pulls with constant force."""

STARTS = 256
SAMPLE = 512
"""Rows that all starts are fitted to."""

FINALISTS = 8
APART = 1.0
"""Prior standard deviations between finalists, where there are enough such: the sample may favour one minimum, and all rows another."""

ROWS = 8192
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
        return (
            cls(float(errors.mean()), float(np.median(errors)), len(errors))
            if len(errors)
            else cls(np.nan, np.nan, 0)
        )


def fit(samples: Samples, hardware: Any, *, starts: int = STARTS, seed: int = 0) -> KernelFit:
    """The parameters of `samples.form` that explain its rows, a fifth of them kept out.

    Arguments:
        samples: cleaned, one row for each shape.
        hardware: the numbers that the form is bound to (a `NamedTuple`, such as a `Chip`), or arrays of them, one for each row.
        starts: points drawn from the priors. seed: of them.
    """
    with jax.enable_x64(True):
        return _fit(
            samples, type(hardware)(*(np.asarray(x, np.float64) for x in hardware)), starts, seed
        )


def _fit(samples: Samples, hardware: Any, starts: int, seed: int) -> KernelFit:
    white = whitening(samples.form)
    train = np.flatnonzero(~samples.held_out)
    draws = np.random.default_rng(seed)
    fitted_to = draws.permutation(train)[:ROWS]
    points = draws.normal(size=(starts, len(white.spread)))
    points[0] = 0.0
    points, losses = _minima(
        samples.form, points, white, rows_of(samples, hardware, fitted_to[:SAMPLE]), 20
    )
    best = points[finalists(points, losses)]
    rows = rows_of(samples, hardware, fitted_to)
    points, losses = _minima(samples.form, best, white, rows, 100)
    point = points[np.nanargmin(losses)]
    covariance = _covariance(*(np.asarray(x) for x in _slopes(samples.form, point, white, rows)))
    return described(
        samples,
        hardware,
        white.centre + white.spread * point,
        covariance * np.outer(white.spread, white.spread),
    )


def finalists(points: np.ndarray, losses: np.ndarray) -> list[int]:
    """The best points that are apart from each other, then the best of the others."""
    order = np.argsort(np.where(np.isfinite(losses), losses, np.inf)).tolist()
    apart: list[int] = []
    for index in order:
        if np.isfinite(losses[index]) and all(
            np.linalg.norm(points[index] - points[other]) > APART for other in apart
        ):
            apart.append(index)
    return list(dict.fromkeys([*apart[:FINALISTS], *order]))[:FINALISTS]


def described(
    samples: Samples, hardware: Any, free: np.ndarray, covariance: np.ndarray
) -> KernelFit:
    """The fit whose unbounded parameters are `free`, known with `covariance`: its scatter, and its errors on held-out rows."""
    form, priors = samples.form.of_free(jnp.asarray(free)), samples.form.priors()
    predicted, test = predict(form, samples.shape, hardware), samples.held_out
    errors = np.log(samples.seconds / predicted)
    scatter = float(np.quantile(np.abs(errors[~test]), 0.8)) / CENTRAL_80
    within = np.abs(errors[test]) <= CENTRAL_80 * scatter
    held_out = Errors.of(predicted[test], samples.seconds[test])
    shares = np.diag(covariance) / np.array([prior.spread for prior in priors.values()]) ** 2
    return KernelFit(
        family=samples.family,
        format=samples.format,
        source=samples.source,
        kernel=samples.kernel,
        form=samples.form,
        values={name: float(getattr(form, name)) for name in priors},
        covariance=covariance,
        learned={
            name: float(1 - min(share, 1.0)) for name, share in zip(priors, shares, strict=True)
        },
        scatter=scatter,
        rows=int((~test).sum()),
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
        rows = _padded(shape, hardware, np.ones(len(shape[0])))
        return np.asarray(_seconds(form, rows.shape, rows.hardware))[: len(shape[0])]


def deviation(fit: KernelFit, shape: Any, hardware: Any) -> np.ndarray:
    """Standard deviation of ln(measured / model) that a fit expects for shapes (arrays): its parameters' share, and its scatter."""
    with jax.enable_x64(True):
        free, count = np.asarray(fit.form(**fit.values).free), len(shape[0])
        here = Whitening(free, np.ones_like(free))
        slopes = (
            SCALE
            * np.asarray(
                _slopes(
                    fit.form, np.zeros_like(free), here, _padded(shape, hardware, np.ones(count))
                )[1]
            )[:count]
        )
    return np.sqrt(np.einsum("ri,ij,rj->r", slopes, fit.covariance, slopes) + fit.scatter**2)


class Whitening(NamedTuple):
    """The map from points, where the prior is a standard normal distribution, to unbounded parameters: centre + spread point."""

    centre: np.ndarray
    spread: np.ndarray


def whitening(form: type[Form]) -> Whitening:
    """That of a form's priors."""
    return Whitening(
        np.asarray(form().free, np.float64),
        np.array([prior.spread for prior in form.priors().values()]),
    )


class Rows(NamedTuple):
    """What residuals are of: shapes and hardware (arrays), ln seconds, and weights of 1, or 0 for padding."""

    shape: Any
    hardware: Any
    logs: np.ndarray
    weights: np.ndarray


def rows_of(samples: Samples, hardware: Any, rows: np.ndarray) -> Rows:
    """Some rows of `samples`, padded."""
    chosen = samples.only(rows)
    return _padded(
        chosen.shape,
        type(hardware)(*(np.asarray(x)[rows] if np.ndim(x) else x for x in hardware)),
        chosen.seconds,
    )


def _padded(shape: Any, hardware: Any, seconds: np.ndarray) -> Rows:
    count = len(seconds)
    size = SAMPLE
    while size < count:
        size *= 4
    chips = type(hardware)(*(padded(x, size) if np.ndim(x) else np.float64(x) for x in hardware))
    weights = np.concatenate([np.ones(count), np.zeros(size - count)])
    return Rows(
        type(shape)(*(padded(column, size) for column in shape)),
        chips,
        np.log(padded(seconds, size)),
        weights,
    )


@jax.jit
def _seconds(form: Form, shape: Any, hardware: Any) -> jax.Array:
    return form.seconds(shape, hardware)


def errors_of(form: type[Form], point: Any, white: Whitening, rows: Rows) -> jax.Array:
    """ln(model / measured) of each row; 0 for padding."""
    free = jnp.asarray(white.centre + white.spread * point)
    predicted = form.of_free(free).seconds(rows.shape, rows.hardware)
    return (jnp.log(predicted) - rows.logs) * rows.weights


def _residuals(point: jax.Array, args: Any) -> jax.Array:
    errors = errors_of(args[0], point, *args[1:]) / SCALE
    soft = errors / jnp.sqrt(0.5 * (1 + jnp.sqrt(1 + errors * errors)))
    return jnp.concatenate([soft, point])


def _minima(
    form: type[Form], points: np.ndarray, white: Whitening, rows: Rows, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    ends, losses = _descend(form, points, white, rows, steps)
    return np.asarray(ends), np.asarray(losses)


@jax.jit(static_argnums=(0, 4))
def _descend(
    form: type[Form], points: jax.Array, white: Whitening, rows: Rows, steps: int
) -> tuple[jax.Array, jax.Array]:
    # the normal equations: residuals are whitened, damping keeps them regular, and a QR decomposition of each start's rows is ten times slower
    solver = optx.LevenbergMarquardt(rtol=1e-5, atol=1e-5, linear_solver=lx.Normal(lx.Cholesky()))

    def residuals(point: jax.Array, args: Any) -> jax.Array:
        return _residuals(point, (form, *args))

    def descend(point: jax.Array) -> tuple[jax.Array, jax.Array]:
        end = optx.least_squares(
            residuals, solver, point, (white, rows), max_steps=steps, throw=False
        ).value
        return end, jnp.sum(residuals(end, (white, rows)) ** 2)

    return jax.vmap(descend)(points)


@jax.jit(static_argnums=0)
def _slopes(
    form: type[Form], point: jax.Array, white: Whitening, rows: Rows
) -> tuple[jax.Array, jax.Array]:
    def errors(p: jax.Array) -> jax.Array:
        return errors_of(form, p, white, rows) / SCALE

    return errors(point), jax.jacfwd(errors)(point)


def _covariance(errors: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Of parameters in prior standard deviations: the sandwich estimator of robust regression (Huber 1967), to which the priors add.

    The loss's slope and curvature at an error e are e / sqrt(1 + e**2) and (1 + e**2)**(-3/2).
    """
    root = np.sqrt(1 + errors**2)[:, None]
    bread = np.linalg.inv(slopes.T @ (slopes / root**3) + np.eye(slopes.shape[1]))
    return (
        bread
        @ (slopes.T @ (slopes * (errors[:, None] / root) ** 2) + np.eye(slopes.shape[1]))
        @ bread
    )
