"""Posteriors of kernel parameters by sampling (NumPyro's NUTS, an extra).

The covariance of a least-squares fit is only its curvature at the best point. The model sampled
here: parameters from their priors; ln(measured / model) from Student's t distribution with 4
degrees of freedom, of unknown scale. The chain starts at the least-squares fit.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.calibrating.fitting import ROWS, SCALE, described, errors_of, rows_of, whitening
from diffgenz.calibrating.samples import Samples
from diffgenz.core.errors import InputError
from diffgenz.kernels.fits import KernelFit

DRAWS = 500
"""Draws that are kept of one chain; half as many warm it up."""

TAILS = 4.0
"""Degrees of freedom: tails are heavy, as robust as the loss of the fit."""


def with_posterior(
    fit: KernelFit, samples: Samples, hardware: Any, *, draws: int = DRAWS, seed: int = 0
) -> KernelFit:
    """The fit with the posterior's mean and covariance, and the errors of that mean.

    Arguments:
        fit: of `samples`, by least squares.
        samples: the cleaned rows.
        hardware: what they run on.
        draws: how many are kept, at least 2.
        seed: of the choice of rows and of the chain.

    Raises:
        InputError: NumPyro is not installed.
    """
    try:
        from numpyro.distributions import HalfNormal, Normal, StudentT
        from numpyro.infer import MCMC, NUTS
    except ImportError:
        raise InputError(
            "posterior: sampling needs NumPyro; pip install 'diffgenz[posterior]'"
        ) from None
    with jax.enable_x64(True):
        white = whitening(samples.form)
        train = np.random.default_rng(seed).permutation(np.flatnonzero(~samples.held_out))[:ROWS]
        rows = jax.tree.map(jnp.asarray, rows_of(samples, hardware, train))

        @jax.jit
        def potential(at: jax.Array) -> jax.Array:
            point, scale = at[:-1], jnp.exp(at[-1])
            errors = errors_of(samples.form, point, white, rows) / SCALE
            logs = StudentT(TAILS, 0.0, scale).log_prob(errors)
            return (
                -jnp.sum(rows.weights * logs)
                - jnp.sum(Normal().log_prob(point))
                - HalfNormal(2.0).log_prob(scale)
                - at[-1]
            )

        start = (np.asarray(fit.form(**fit.values).free) - white.centre) / white.spread
        chain = MCMC(
            NUTS(potential_fn=potential, dense_mass=True),
            num_warmup=draws // 2,
            num_samples=draws,
            progress_bar=False,
        )
        chain.run(jax.random.key(seed), init_params=jnp.append(start, np.log(fit.scatter / SCALE)))
        points = white.centre + white.spread * np.asarray(chain.get_samples())[:, :-1]
        return described(samples, hardware, points.mean(axis=0), np.cov(points.T))
