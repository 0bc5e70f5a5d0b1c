"""Posteriors of planted parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fit_cases import H100

from diffgenz.calibrating.fitting import described, predict
from diffgenz.calibrating.posterior import with_posterior
from diffgenz.calibrating.samples import Samples
from diffgenz.kernels.forms.elementwise import Elementwise
from diffgenz.kernels.shapes import ElementwiseShape


def test_the_posterior_of_planted_parameters_holds_them():
    form, shape = Elementwise(memory=0.7, launch=1.3), ElementwiseShape(np.geomspace(1e4, 1e9, 200))
    seconds = predict(form, shape, H100) * np.exp(0.05 * np.random.default_rng(1).normal(size=200))
    samples = Samples(Elementwise, "elementwise", "bf16", "vllm-1.0", "one", shape, seconds)
    with jax.enable_x64(True):
        before = described(samples, H100, np.asarray(Elementwise().free), np.eye(4))
    sampled = with_posterior(before, samples, H100, draws=200)
    errors = np.sqrt(np.diag(sampled.covariance))
    for name, error in zip(sampled.values, errors, strict=True):
        prior = Elementwise.priors()[name]
        away = prior.free(jnp.asarray(sampled.values[name])) - prior.free(getattr(form, name))
        assert abs(float(away)) < 4 * error
        assert error < 1.2 * prior.spread
    assert errors[0] < 0.1  # 160 rows of 5 % know the bandwidth within a few percent
    assert sampled.scatter == pytest.approx(0.05, rel=0.2)
    assert sampled.mean_error < before.mean_error
