"""What all measured GPUs have in common."""

import numpy as np
from fit_cases import H100

from diffgenz.calibrating.fitting import Errors, fit, predict
from diffgenz.calibrating.samples import Samples
from diffgenz.calibrating.transfer import LeftOut, Measured, transferred, widths_of
from diffgenz.kernels.fits import read_fits
from diffgenz.kernels.forms.elementwise import Elementwise
from diffgenz.kernels.hardware import Chip
from diffgenz.kernels.kind import Kin, Kind
from diffgenz.kernels.selection import fit_path
from diffgenz.kernels.shapes import ElementwiseShape

SHIPPED = read_fits(fit_path("h100_sxm"))[1][0]


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


def left_out(system, kin, away):
    return LeftOut(system, kin, Errors.of(np.ones(1), np.ones(1)), np.asarray(away, float))


def measured_as(system, kind):
    """A measurement of which only family and kind count."""
    shape = ElementwiseShape(np.ones(1))
    samples = Samples(Elementwise, "elementwise", "bf16", "vllm-1.0", "one", shape, np.ones(1))
    return Measured(system, samples, H100, SHIPPED, kind)


def test_widths_hold_four_rows_of_five_and_never_shrink_with_distance():
    rows = np.arange(1, 101) / 50  # four of five are up to 1.6
    near, far = 0.5 * rows, 3.0 * rows
    group = [measured_as("one", Kind("sm_90", "HBM", "NVLink"))]
    parts = [left_out("one", Kin.SIBLING, near), left_out("two", Kin.RELATIVE, rows)]
    (alone,) = widths_of([group], [[*parts, left_out("three", Kin.STRANGER, far)]])
    np.testing.assert_allclose([alone[each] for each in Kin], [0.8, 1.6, 4.8])
    # nobody says how far strangers are: as far as relatives
    (unknown,) = widths_of([group], [parts])
    np.testing.assert_allclose([unknown[each] for each in Kin], [0.8, 1.6, 1.6])
    # another kernel of the room says it for this one; siblings are half way between
    other = [left_out("three", Kin.STRANGER, far), left_out("one", Kin.SIBLING, 2 * near)]
    first, _ = widths_of([group, group], [parts, other])
    np.testing.assert_allclose(
        [first[each] for each in Kin], [0.8 * np.sqrt(2), 1.6, 4.8], rtol=1e-6
    )
    # a GPU that needs no width of its own narrows nothing further out
    (nearer,) = widths_of([group], [[parts[0], left_out("two", Kin.RELATIVE, 0.1 * rows)]])
    assert nearer["relative"] == nearer["sibling"]
