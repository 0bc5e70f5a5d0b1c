"""What all measured GPUs have in common."""

import numpy as np
from fit_cases import H100

from diffgenz.calibrating.fitting import fit, predict
from diffgenz.calibrating.samples import Samples
from diffgenz.calibrating.transfer import Measured, transferred
from diffgenz.kernels.forms.elementwise import Elementwise
from diffgenz.kernels.hardware import Chip
from diffgenz.kernels.shapes import ElementwiseShape


def test_transferred_parameters_are_wider_than_any_own_fit():
    group = []
    for index, bandwidth in enumerate((1e12, 2e12, 3e12)):
        chip, form = (
            H100._replace(bandwidth=np.float64(bandwidth)),
            Elementwise(memory=0.6 + 0.1 * index),
        )
        columns = Chip(
            *(np.full(120, x) for x in chip)
        )  # as pooled fits have them, which compile once with these
        shape = ElementwiseShape(np.geomspace(1e4, 1e9, 120))
        seconds = predict(form, shape, chip) * np.exp(
            0.02 * np.random.default_rng(index).normal(size=120)
        )
        samples = Samples(Elementwise, "elementwise", "bf16", "vllm-1.0", "one", shape, seconds)
        group.append(Measured(f"system {index}", samples, chip, fit(samples, columns, starts=16)))
    (common,) = transferred(group)
    assert common.covariance[0, 0] > 10 * max(each.fit.covariance[0, 0] for each in group)
    assert common.source == "transferred"
    assert 0.6 < common.values["memory"] < 0.8
    assert common.mean_error > max(each.fit.mean_error for each in group)
