"""The shipped fit: how near it is, that it is that of its data, and that the method finds truth."""

from functools import cache

import numpy as np
import pytest
from technology import fitted_to
from technology_cases import chip

import diffgenz as dgz
from diffgenz.technology.coefficients import coefficients_of
from diffgenz.technology.fitting import (
    Observed,
    errors_of,
    fit_technology,
    observed_of,
    with_values,
)

TARGETS = ("a100_sxm", "h100_sxm", "h200_sxm", "b200_sxm", "mi300x")
BOUNDS = {"die_area": (0.10, 0.15), "tdp": (0.20, 0.30), "unit_cost": (0.15, 0.15)}


@cache
def errors():
    prior = dgz.load_technology()
    return errors_of(prior, fitted_to(prior))


@pytest.mark.parametrize("quantity", BOUNDS)
def test_public_chips_are_met_fitted_to_and_left_out(quantity):
    own = [each for each in errors() if each.quantity == quantity and each.name in TARGETS]
    fitted, left_out = BOUNDS[quantity]
    assert len(own) >= 4  # A100 has no published cost; H200's area is H100's
    for each in own:
        assert abs(each.fitted) <= fitted, each
        assert abs(each.left_out) <= left_out, each


def test_leaving_chips_out_is_no_formality():
    worse = [abs(each.left_out) > abs(each.fitted) for each in errors()]
    assert np.mean(worse) > 0.7


def test_the_shipped_file_is_the_fit_of_its_priors_to_the_shipped_chips():
    shipped = dgz.load_technology()
    again = fit_technology(shipped, fitted_to(shipped))
    known = coefficients_of(shipped)
    for name, each in coefficients_of(again).items():
        assert float(each.value) == pytest.approx(float(known[name].value), rel=2e-3), name
        assert float(each.deviation) == pytest.approx(float(known[name].deviation), rel=0.01), name
    assert again.uncertain == shipped.uncertain
    assert np.asarray(again.covariance) == pytest.approx(np.asarray(shipped.covariance), abs=2e-4)


def test_every_coefficient_has_a_unit_and_a_source_and_no_fit_is_far_from_its_prior():
    for name, each in coefficients_of(dgz.load_technology()).items():
        assert each.unit, name
        assert len(each.source) > 10 or each.source == "by definition", name
        moved = abs(np.log(float(each.value) / float(each.prior)))
        assert moved <= 3 * float(each.width) + 1e-6, name
        assert float(each.deviation) <= float(each.width) + 1e-6, name


def test_planted_coefficients_are_found():
    """Chips that follow other coefficients exactly: twice the area of a FLOP, half of a cache."""
    prior = dgz.load_technology()
    names = ("matrix_area", "cache_area")
    known = coefficients_of(prior)
    planted = [2 * float(known["matrix_area"].prior), 0.5 * float(known["cache_area"].prior)]
    every = tuple(known)
    start = with_values(prior, every, [float(each.prior) for each in known.values()])
    truth = with_values(start, names, planted)
    base, chips = chip("h100_sxm"), []
    for more in (1.0, 8.0):
        for larger in (1.0, 20.0):
            each = base.replace(peak_flops=more * base.peak_flops, cache=larger * base.cache)
            area = float(dgz.technology_of(each, truth).die_area)
            chips.append(Observed(f"{more}-{larger}", "own", each, {"die_area": area}))
    found = coefficients_of(fit_technology(prior, chips))
    for name, value in zip(names, planted, strict=True):
        off = np.log(float(found[name].value) / value)
        assert abs(off) < 2 * float(found[name].deviation) < float(known[name].width), name
    # and nothing moves that these chips do not touch
    assert float(found["leakage"].value) == pytest.approx(float(known["leakage"].prior), rel=1e-6)


def test_without_anything_published_there_is_no_fit():
    prior = dgz.load_technology()
    with pytest.raises(dgz.InputError, match="chips: nothing is published of them; give some"):
        fit_technology(prior, [Observed("mine", "own", chip("l4"), {})])
    with pytest.raises(dgz.InputError, match="design: .* does not say how it is built"):
        observed_of("gb10", "own", dgz.load_platform("gb10", fit="none"), 140.0, prior)
    with pytest.raises(dgz.InputError, match="coefficient: 'beauty' is not known"):
        with_values(prior, ("beauty",), [1.0])
