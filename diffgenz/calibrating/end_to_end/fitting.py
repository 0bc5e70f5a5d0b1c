"""One fit: the terms of an engine that explain some measured runs, and how well they are known.

Residuals are ln(predicted / measured) / `SCALE` of every latency that a run has, under the soft-L1
loss, and one for each term's prior. Standard errors are those of robust regression with the runs of
a deployment as one cluster, since they err together.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx

from diffgenz.calibrating.end_to_end.predicted import METRICS, Lines
from diffgenz.calibrating.end_to_end.terms import CENTRES, LEAST, OFF, SPREADS, TERMS

SCALE = 0.1
"""Relative error beyond which a latency pulls with constant force."""

_STEPS = 60
_FEW = 6
"""Deployments below which their runs count as independent: there are too few to say how they err
together."""

_SIZE = 64
"""Runs are padded to this number, or to it times a power of four: programs are shared."""


class Measured(NamedTuple):
    """What was measured of some runs.

    Arguments:
        lines: the runs.
        logs: ln s of the metrics; NaN where unknown; shape (runs, metrics).
        clusters: the deployment of each run; shape (runs,).
    """

    lines: Lines
    logs: np.ndarray
    clusters: np.ndarray

    @property
    def used(self) -> np.ndarray:
        """Which metrics count: TTFT and TPOT, and end to end where one of these is unknown."""
        known = np.isfinite(self.logs)
        known[:, 2] &= ~(known[:, 0] & known[:, 1])
        return known

    def errors(self, values: np.ndarray, extra: np.ndarray) -> np.ndarray:
        """ln(predicted / measured); NaN where a metric does not count; shape (runs, metrics).

        Arguments:
            values: of the terms; shape (terms,).
            extra: of each run, as of `Lines.logs`; shape (runs, 2).
        """
        return np.where(self.used, self.lines.logs(values, extra) - self.logs, np.nan)


class Found(NamedTuple):
    """The terms of an engine.

    Arguments:
        values: of all terms in SI, those that are off included; shape (terms,).
        errors: their standard errors in SI; NaN where off; shape (terms,).
        free: which were fitted; shape (terms,).
    """

    values: np.ndarray
    errors: np.ndarray
    free: np.ndarray


def nothing() -> Found:
    """An engine of which nothing is known."""
    return Found(OFF.copy(), np.full(len(TERMS), np.nan), np.zeros(len(TERMS), bool))


def fitted(measured: Measured, free: np.ndarray, weights: np.ndarray) -> Found:
    """The terms that explain some runs.

    Arguments:
        measured: the runs.
        free: which terms are fitted; shape (terms,).
        weights: 1 for runs that count, 0 for others; shape (runs,).
    """
    if not free.any() or not weights.any():
        return nothing()
    counts = measured.used * weights[:, None]
    logs = np.where(measured.used, measured.logs, 0.0)
    size = _SIZE
    while size < len(weights):
        size *= 4
    at, knots, *rest = measured.lines
    lines = Lines(at, knots, *(_padded(each, size) for each in rest))
    with jax.enable_x64(True):
        point = _minimum(lines, _padded(logs, size), _padded(counts, size, 0.0), free.astype(float))
        values = np.asarray(_values(np.asarray(point), free, np))
        errors = _errors(measured, values, free, weights)
    return Found(values, errors, free)


def _padded(rows: np.ndarray, size: int, fill: float | None = None) -> np.ndarray:
    last = rows[-1:] if fill is None else np.full_like(rows[-1:], fill)
    return np.concatenate([rows, np.repeat(last, size - len(rows), 0)])


def _values(point: Any, free: Any, of: Any) -> Any:
    return of.where(free > 0, LEAST + of.exp(CENTRES + SPREADS * point), OFF)


@eqx.filter_jit
def _minimum(lines: Lines, logs: Any, counts: Any, free: Any) -> Any:
    solver = optx.LevenbergMarquardt(rtol=1e-6, atol=1e-6, linear_solver=lx.Normal(lx.Cholesky()))

    def residuals(point: Any, args: Any) -> Any:
        found = lines.logs(_values(point, args, jnp), jnp.zeros((len(logs), 2)))
        errors = jnp.where(counts > 0, counts * (found - logs) / SCALE, 0.0)
        soft = errors / jnp.sqrt(0.5 * (1 + jnp.sqrt(1 + errors * errors)))
        return jnp.concatenate([point, soft.reshape(-1)])

    start = jnp.zeros(len(TERMS))
    return optx.least_squares(residuals, solver, start, free, max_steps=_STEPS, throw=False).value


def slopes_of(measured: Measured, values: np.ndarray, extra: np.ndarray) -> np.ndarray:
    """d ln metric / d term, then by both columns of `extra`; shape (runs, metrics, terms + 2).

    Differences in float64.

    Arguments:
        measured: the runs.
        values: of the terms; shape (terms,).
        extra: of each run, as of `Lines.logs`; shape (runs, 2).
    """
    found = np.empty((len(extra), len(METRICS), len(values) + 2))
    for place in range(len(values)):
        step = 1e-5 * max(abs(values[place]), TERMS[place].start)
        up, down = values.copy(), values.copy()
        up[place] += step
        down[place] = max(values[place] - step, LEAST[place])
        rise = measured.lines.logs(up, extra) - measured.lines.logs(down, extra)
        found[..., place] = rise / (up[place] - down[place])
    for place, step in enumerate(1e-5 * np.eye(2)):
        up, down = (measured.lines.logs(values, extra + sign * step) for sign in (1, -1))
        found[..., len(values) + place] = (up - down) / 2e-5
    return found


def _errors(
    measured: Measured, values: np.ndarray, free: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Standard errors of the free terms, by the sandwich estimator."""
    none = np.zeros((len(weights), 2))
    used = measured.used & (weights[:, None] > 0)
    errors = np.where(used, measured.errors(values, none), 0.0) / SCALE
    slopes = slopes_of(measured, values, none)[..., :-2]
    own = np.where(used[..., None], slopes, 0.0)[..., free] / SCALE
    root = np.sqrt(1 + errors**2)
    priors = np.diag((SPREADS[free] * (values[free] - LEAST[free])) ** -2.0)
    bread = np.linalg.inv(np.einsum("rmi,rmj,rm->ij", own, own, root**-3) + priors)
    pulls = own * (errors / root)[..., None]
    clusters = np.unique(measured.clusters[weights > 0])
    if len(clusters) >= _FEW:
        pulls = np.stack([pulls[measured.clusters == each].sum((0, 1)) for each in clusters])
    else:
        pulls = pulls[used]
    more = len(pulls) / max(len(pulls) - int(free.sum()), 1)
    filling = more * pulls.T @ pulls + priors
    found = np.full(len(values), np.nan)
    found[free] = np.sqrt(np.diag(bread @ filling @ bread))
    return found
