"""Samples: the shapes that are held out."""

import dataclasses

import numpy as np
from fit_cases import planted

from diffgenz.calibrating.samples import shape_hash
from diffgenz.kernels.shapes import GemmShape


def test_all_software_and_formats_hold_out_the_same_shapes():
    samples = planted(4000)
    kept = samples.held_out
    assert 0.17 < kept.mean() < 0.23
    order = np.random.default_rng(2).permutation(len(samples))
    assert (samples.only(order).held_out == kept[order]).all()
    assert (
        shape_hash(samples.shape)
        == shape_hash(GemmShape(*(np.asarray(x, np.float64) for x in samples.shape)))
    ).all()
    other = dataclasses.replace(
        samples, format="fp8", source="sglang-2", seconds=2 * samples.seconds
    )
    assert (other.held_out == kept).all()
    assert other.digest != samples.digest == samples.only(order).digest
