"""Laws of kernel forms; a line in `SHAPES` covers a new one."""

import jax
import numpy as np
import pytest
from kernel_cases import SHAPES, hardware, shapes

from diffgenz.kernels.families import FAMILIES, FORMS

KINDS = sorted(
    {(family.name, form) for family in FAMILIES.values() for form in family.forms},
    key=lambda kind: (kind[0], kind[1].__name__),
)


def test_every_form_has_shapes_here():
    assert set(SHAPES) == set(FAMILIES)
    assert set(FORMS.values()) == {form for _, form in KINDS}


@pytest.mark.parametrize(("family", "form"), KINDS)
def test_a_form_is_positive_homogeneous_and_has_finite_gradients(family, form):
    @jax.jit
    def seconds(free, machine, shape):
        return form.of_free(free).seconds(shape, machine)

    slopes = jax.jit(jax.grad(seconds, argnums=(0, 1, 2)))
    free = form().free
    for shape in shapes(family, form):
        now = float(seconds(free, hardware(form), shape))
        assert np.isfinite(now)
        assert now > 0
        assert float(seconds(free, hardware(form, 2.0), shape)) == pytest.approx(now / 2, rel=3e-6)
        by_parameter, by_machine, by_shape = slopes(free, hardware(form), shape)
        for slope in (*by_parameter, *by_machine, *by_shape):
            assert np.isfinite(float(slope))
        rates = [
            slope
            for name, slope in by_machine._asdict().items()
            if "bandwidth" in name or name == "flops"
        ]
        assert all(float(slope) <= 0 for slope in rates)
        assert all(
            float(slope) >= 0
            for name, slope in by_machine._asdict().items()
            if name in ("launch", "latency", "far_latency")
        )


@pytest.mark.parametrize(("family", "form"), KINDS)
def test_priors_respect_their_bounds_and_free_numbers_stand_for_values(family, form):
    there = form.of_free(form().free + 0.5)
    for (name, prior), was, now in zip(form.priors().items(), form().free, there.free, strict=True):
        assert 0 < prior.median < prior.maximum
        assert float(getattr(there, name)) < prior.maximum
        assert float(now - was) == pytest.approx(0.5, abs=2e-5)


def test_one_rank_takes_no_time():
    for family, numbers in (
        ("all_reduce", (1, 1e8)),
        ("all_gather", (1, 1e8)),
        ("all_to_all", (1, 1e8)),
        ("dispatch_normal", (1, 1, 64, 1e6, 0, 0, 24)),
    ):
        form = FAMILIES[family].form
        assert float(form().seconds(form.Shape(*map(float, numbers)), hardware(form))) == 0
