"""Fits find planted parameters, and say how well they are known."""

import jax
import numpy as np
import pytest
from fit_cases import H100, PLANTED, planted, values_of

from diffgenz.calibrating.fitting import finalists, fit
from diffgenz.kernels.forms.gemm import Gemm


def test_planted_parameters_are_found_within_their_standard_errors(found):
    errors = np.sqrt(np.diag(found.covariance))
    with jax.enable_x64(True):
        away = (
            np.asarray(Gemm(**found.values).free)
            - np.asarray(Gemm(**dict.fromkeys(found.values, 1.0) | values_of(PLANTED)).free)
        ) / errors
    seen = np.array([share > 0.5 for share in found.learned.values()])
    assert seen.sum() >= 8
    assert np.abs(away[seen]).max() < 4
    assert found.scatter == pytest.approx(0.05, rel=0.15)
    assert 0.7 < found.coverage < 0.9
    assert found.rows + found.held_out == 620


def test_what_the_data_do_not_say_stays_at_the_prior_and_is_named():
    samples = planted(400, form=PLANTED)
    large = samples.only(samples.seconds > 3e-4)  # nothing but throughput
    found = fit(large, H100, starts=16)
    assert found.learned["launch"] < 0.2
    assert found.values["launch"] == pytest.approx(1.0, rel=0.3)
    assert any("launch" in direction for direction in found.unseen)
    assert found.learned["compute"] > 0.9


def test_finalists_are_of_several_minima():
    """The best of a dozen points near one minimum and of one near another; then the others."""
    points = (
        np.concatenate([np.full((12, 3), 0.1), np.full((1, 3), 4.0), np.full((1, 3), -4.0)])
        + 0.01 * np.arange(14)[:, None]
    )
    losses = np.array([*np.linspace(1.0, 1.1, 12), 2.0, np.nan])
    assert finalists(points, losses) == [0, 12, 1, 2, 3, 4, 5, 6]
    assert finalists(points[:12], losses[:12]) == list(range(8))
