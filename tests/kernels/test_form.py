"""Laws of kernel forms; a line in `SHAPES` covers a new one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffgenz.kernels.families import FAMILIES, FORMS
from diffgenz.kernels.forms.collective import Collective
from diffgenz.kernels.forms.custom_allreduce import CustomAllReduce
from diffgenz.kernels.forms.deepep import Exchange
from diffgenz.kernels.hardware import Chip, Wire, Wires

SHAPES = {
    "gemm": [(4096, 4096, 4096, 1e8), (1, 128, 4096, 1.1e6), (1, 1, 1, 6)],
    "batched": [(64, 512, 128, 128, 1.7e7), (1, 1, 1, 1, 2)],
    "prefill": [
        (4, 2048, 0, 32, 8, 128, 2048, 2),
        (1, 1, 0, 1, 1, 64, 1, 2),
        (2, 512, 8192, 16, 1, 128, 1024, 1),
    ],
    "decode": [
        (64, 1, 2048, 32, 8, 128, 2048, 2),
        (1, 1, 1, 1, 1, 64, 1, 2),
        (8, 4, 8192, 64, 8, 128, 128, 1),
    ],
    "latent_prefill": [(4, 2048, 0, 128, 192, 128), (1, 1, 0, 1, 192, 128)],
    "latent_decode": [(64, 1, 2048, 128, 512, 64, 2), (1, 1, 1, 1, 512, 64, 1)],
    "mamba2_prefill": [(4, 2048, 64, 64, 128, 8, 256), (1, 1, 1, 64, 128, 1, 256)],
    "mamba2_decode": [(64, 1, 64, 64, 128, 8, 256), (1, 1, 1, 64, 128, 1, 256)],
    "delta_prefill": [(4, 2048, 16, 128, 32, 128, 64), (1, 1, 1, 128, 1, 128, 64)],
    "delta_decode": [(64, 1, 16, 128, 32, 128, 64), (1, 1, 1, 128, 1, 128, 64)],
    "conv_prefill": [(4, 2048, 8192, 4), (1, 1, 1, 4)],
    "conv_decode": [(64, 1, 8192, 4), (1, 1, 1, 4)],
    "experts": [
        (4096, 8, 128, 4, 4096, 1536, 3072, 1, 0.5, 1, 1),
        (1, 1, 8, 8, 1024, 64, 64, 1, 0, 2, 2),
        (64, 1, 1, 1, 1024, 512, 1024, 1, 0, 2, 2),
    ],
    "elementwise": [(1e8,), (2,)],
    "all_reduce": [(8, 1e8), (2, 2)],
    "all_gather": [(8, 1e8), (2, 2)],
    "reduce_scatter": [(8, 1e8), (2, 2)],
    "all_to_all": [(8, 1e8), (2, 2)],
    "dispatch_low_latency": [(16, 2, 4096, 1e8, 1e8, 5e7, 24), (2, 1, 1, 7168, 7168, 0, 24)],
    "combine_low_latency": [(16, 2, 4096, 1e8, 1e8, 5e7, 256), (2, 1, 1, 7168, 7168, 0, 256)],
    "dispatch_normal": [(16, 2, 4096, 1e8, 1e8, 5e7, 24), (2, 1, 1, 7168, 7168, 0, 24)],
    "combine_normal": [(16, 2, 4096, 1e8, 1e8, 5e7, 24), (2, 1, 1, 7168, 7168, 0, 24)],
}
"""Two executions or more of each family, a degenerate one among them."""


CHIP = (989e12, 3.35e12, 2.4e-6, 132.0)


WIRES = {
    Collective: (450e9, 0.8e-6, 2.4e-6),
    CustomAllReduce: (450e9, 0.8e-6, 2.4e-6),
    Exchange: (450e9, 0.8e-6, 50e9, 5e-6, 2.4e-6),
}


KINDS = sorted(
    {(family.name, form) for family in FAMILIES.values() for form in family.forms},
    key=lambda kind: (kind[0], kind[1].__name__),
)


def hardware(form, faster=1.0):
    """What a form runs on, all of it `faster`."""
    for base, numbers in WIRES.items():
        if issubclass(form, base):
            rates = (0, 2) if base is Exchange else (0,)
            scaled = [
                x * faster if index in rates else x / faster for index, x in enumerate(numbers)
            ]
            return (Wires if base is Exchange else Wire)(
                *(jnp.asarray(x, jnp.float32) for x in scaled)
            )
    flops, bandwidth, launch, units = CHIP
    return Chip(
        *(
            jnp.asarray(x, jnp.float32)
            for x in (flops * faster, bandwidth * faster, launch / faster, units)
        )
    )


def shapes(family, form):
    return [
        form.Shape(*(jnp.asarray(x, jnp.float32) for x in numbers)) for numbers in SHAPES[family]
    ]


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
