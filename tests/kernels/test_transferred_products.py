"""Transferred products take no less time for more rows, up to one tile."""

import numpy as np
import pytest

from diffgenz.calibrating.binding import chip_of, lacks
from diffgenz.calibrating.fitting import predict
from diffgenz.hardware.specs import list_systems, read_spec
from diffgenz.kernels.fits import read_fits
from diffgenz.kernels.forms.gemm import STEP
from diffgenz.kernels.kernel_format import KernelFormat
from diffgenz.kernels.selection import TRANSFERRED, fit_path
from diffgenz.kernels.shapes import GemmShape

ROWS = np.array([1.0, 2, 4, 8, 16, 32, 63, STEP])
SIZES = np.array([16.0, 64, 512, 2112, 4096, 7168, 28672, 129280])
FITS = [fit for fit in read_fits(fit_path(TRANSFERRED))[1] if fit.family == "gemm"]


@pytest.mark.parametrize("fit", FITS, ids=lambda fit: fit.format)
def test_time_never_falls_with_rows_within_a_tile(fit):
    m, n, k = (x.ravel() for x in np.meshgrid(ROWS, SIZES, SIZES, indexing="ij"))
    weights, activations = KernelFormat.of(fit.format).sizes
    shape = GemmShape(m, n, k, weights * n * k + activations * m * k + 2 * m * n)
    for system in list_systems():
        spec = read_spec(system)
        if lacks(spec, fit.format) or not spec.execution["compute_units"]:
            continue
        seconds = predict(fit.fitted, shape, chip_of(spec, fit.format))
        by_rows = seconds.reshape(len(ROWS), -1)
        assert (np.diff(by_rows, axis=0) >= -1e-6 * by_rows[1:]).all(), system
