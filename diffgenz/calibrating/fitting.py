"""Robust least squares on the logarithm of latency, with priors, from many starts.

Residuals are ln(model / measured) / `SCALE`, under the soft-L1 loss, and one for each parameter's
prior. All starts run at once on a sample of the rows; the best few go on with up to `ROWS` of them.
Rows are padded, with weight 0, to a few sizes: tables share programs, whose compilation takes
longer than most fits.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx

from diffgenz.calibrating.samples import Samples, padded
from diffgenz.kernels.fits import KernelFit
from diffgenz.kernels.form import Form
from diffgenz.kernels.shapes import Number

SCALE = 0.1
"""Relative error beyond which a row pulls with constant force."""

STARTS = 256
"""Points that a fit starts from."""

SAMPLE = 512
"""Rows that all starts are fitted to."""

FINALISTS = 8
"""Starts that go on with more rows."""

APART = 1.0
"""Distance between finalists in prior standard deviations, where there are enough of them.

The sample may favour one minimum, and all rows another.
"""

ROWS = 8192
"""Rows that the finalists are fitted to at most.

With more, parameters would be known better than the form is right.
"""

HELD = 1e-4
"""Spread of the priors of parameters that keep their value."""

CENTRAL_80 = 1.2815515655446004
"""Half the width of a normal distribution's central 80 %, in standard deviations."""


@dataclasses.dataclass(frozen=True)
class Errors:
    """Relative errors |model / measured - 1| over some rows.

    Arguments:
        mean: their mean; NaN without rows.
        median: their median; NaN without rows.
        rows: how many there are.
    """

    mean: float
    median: float
    rows: int

    @classmethod
    def of(cls, predicted: np.ndarray, measured: np.ndarray) -> "Errors":
        """The errors of `predicted` against `measured` seconds."""
        errors = np.abs(predicted / measured - 1)
        if not len(errors):
            return cls(np.nan, np.nan, 0)
        return cls(float(errors.mean()), float(np.median(errors)), len(errors))


def fit(
    samples: Samples,
    hardware: Any,
    *,
    starts: int = STARTS,
    seed: int = 0,
    held: Mapping[str, float] | None = None,
) -> KernelFit:
    """The parameters of `samples.form` that explain its rows, a fifth of them kept out.

    Arguments:
        samples: the cleaned rows, one for each shape.
        hardware: what they run on, such as a `Chip`: numbers, or arrays with one for each row.
        starts: points drawn from the priors, at least 1.
        seed: of these points.
        held: parameters that keep their value, whatever the rows say.
    """
    with jax.enable_x64(True):
        doubles = type(hardware)(*(np.asarray(x, np.float64) for x in hardware))
        return _fit(samples, doubles, starts, seed, held or {})


def _fit(
    samples: Samples, hardware: Any, starts: int, seed: int, held: Mapping[str, float]
) -> KernelFit:
    white = whitening(samples.form, held)
    train = np.flatnonzero(~samples.held_out)
    draws = np.random.default_rng(seed)
    fitted_to = draws.permutation(train)[:ROWS]
    points = draws.normal(size=(starts, len(white.spread)))
    points[0] = 0.0
    few = rows_of(samples, hardware, fitted_to[:SAMPLE])
    points, losses = minima(samples.form, points, white, few, 20)
    best = points[finalists(points, losses)]
    rows = rows_of(samples, hardware, fitted_to)
    points, losses = minima(samples.form, best, white, rows, 100)
    point = points[np.nanargmin(losses)]
    known = covariance(*slopes(samples.form, point, white, rows))
    return described(
        samples,
        hardware,
        white.centre + white.spread * point,
        known * np.outer(white.spread, white.spread),
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
    """A fit with its scatter, and its errors on held-out rows.

    Arguments:
        samples: the cleaned rows.
        hardware: what they run on.
        free: the unbounded parameters, (parameters,).
        covariance: how well they are known, (parameters, parameters).
    """
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
    """Standard deviation of ln(measured / model) that a fit expects, for arrays of shapes.

    Its variance is the parameters' share and the scatter's.
    """
    with jax.enable_x64(True):
        free, count = np.asarray(fit.form(**fit.values).free), len(shape[0])
        here = Whitening(free, np.ones_like(free))
        rows = _padded(shape, hardware, np.ones(count))
        steep = SCALE * slopes(fit.form, np.zeros_like(free), here, rows)[1][:count]
    return np.sqrt(np.einsum("ri,ij,rj->r", steep, fit.covariance, steep) + fit.scatter**2)


class Whitening(NamedTuple):
    """The map from points to unbounded parameters: centre + spread point.

    The prior of points is a standard normal distribution.
    """

    centre: np.ndarray
    spread: np.ndarray


def whitening(form: type[Form], held: Mapping[str, float] | None = None) -> Whitening:
    """The map that a form's priors define.

    Arguments:
        form: the form.
        held: parameters that keep their value: their priors are as narrow as `HELD`.
    """
    kept = held or {}
    return Whitening(
        np.asarray(form(**kept).free, np.float64),
        np.array([HELD if name in kept else p.spread for name, p in form.priors().items()]),
    )


class Rows(NamedTuple):
    """What residuals are computed from.

    Arguments:
        shape: shapes, as arrays (rows,).
        hardware: what the rows run on: numbers, or arrays (rows,).
        logs: ln seconds, (rows,).
        weights: 1, or 0 for padding, (rows,).
    """

    shape: Any
    hardware: Any
    logs: np.ndarray
    weights: np.ndarray


def rows_of(samples: Samples, hardware: Any, rows: np.ndarray) -> Rows:
    """The rows of `samples` with the indices `rows`, padded."""
    chosen = samples.only(rows)
    theirs = type(hardware)(*(np.asarray(x)[rows] if np.ndim(x) else x for x in hardware))
    return _padded(chosen.shape, theirs, chosen.seconds)


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
def _seconds(form: Form, shape: Any, hardware: Any) -> Number:
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


def minima(
    form: type[Form], points: np.ndarray, white: Whitening, rows: Rows, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where descents end, and the losses there.

    Arguments:
        form: what is fitted.
        points: where they start, (starts, parameters).
        white: what points stand for; a parameter whose spread is 0 stays at its centre.
        rows: what is fitted to.
        steps: of each descent, at most.
    """
    ends, losses = _descend(form, points, white, rows, steps)
    return np.asarray(ends), np.asarray(losses)


@jax.jit(static_argnums=(0, 4))
def _descend(
    form: type[Form], points: jax.Array, white: Whitening, rows: Rows, steps: int
) -> tuple[jax.Array, jax.Array]:
    # The normal equations will do: residuals are whitened, damping keeps them regular, and a QR
    # decomposition of each start's rows is ten times slower.
    solver = optx.LevenbergMarquardt(rtol=1e-5, atol=1e-5, linear_solver=lx.Normal(lx.Cholesky()))

    def residuals(point: jax.Array, args: Any) -> jax.Array:
        return _residuals(point, (form, *args))

    def descend(point: jax.Array) -> tuple[jax.Array, jax.Array]:
        end = optx.least_squares(
            residuals, solver, point, (white, rows), max_steps=steps, throw=False
        ).value
        return end, jnp.sum(residuals(end, (white, rows)) ** 2)

    return jax.vmap(descend)(points)


def slopes(
    form: type[Form], point: np.ndarray, white: Whitening, rows: Rows
) -> tuple[np.ndarray, np.ndarray]:
    """The errors of the rows at a point in units of `SCALE`, and their slopes along the point."""
    errors, steep = _slopes(form, point, white, rows)
    return np.asarray(errors), np.asarray(steep)


@jax.jit(static_argnums=0)
def _slopes(
    form: type[Form], point: jax.Array, white: Whitening, rows: Rows
) -> tuple[jax.Array, jax.Array]:
    def errors(p: jax.Array) -> jax.Array:
        return errors_of(form, p, white, rows) / SCALE

    return errors(point), jax.jacfwd(errors)(point)


def covariance(errors: np.ndarray, steep: np.ndarray) -> np.ndarray:
    """The covariance of the parameters, in prior standard deviations.

    The sandwich estimator of robust regression (Huber 1967), to which the priors add. The slope and
    the curvature of the loss at an error e are e / sqrt(1 + e**2) and (1 + e**2)**(-3/2).
    """
    root, priors = np.sqrt(1 + errors**2)[:, None], np.eye(steep.shape[1])
    bread = np.linalg.inv(steep.T @ (steep / root**3) + priors)
    filling = steep.T @ (steep * (errors[:, None] / root) ** 2) + priors
    return bread @ filling @ bread
