"""Libraries of fitted kernels: sums over executions, and formats without kernels of their own."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from kernel_cases import hardware, shapes
from support import as_double, assert_close

from diffgenz.kernels.families import FAMILIES
from diffgenz.kernels.forms.gemm import Gemm
from diffgenz.kernels.hardware import Chip
from diffgenz.kernels.library import Bound, Library, executed, shared
from diffgenz.kernels.shapes import GemmShape


def plain(bound, executions):
    """What `executed` computes, left to JAX."""
    form, machine = bound
    return form.level * sum(repeats * form.seconds(shape, machine) for repeats, shape in executions)


def case_of(family):
    """A kernel of a family, and executions, in float64."""
    form = FAMILIES[family].form_in("fp8")
    return as_double(
        (Bound(form(), hardware(form)), [(2.0, shape) for shape in shapes(family, form)])
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_kernel_takes_in_all_has_the_derivatives_of_the_sum(family, double):
    """With respect to all numbers, those of the hardware, one of them, and repeats and shapes."""
    bound, executions = case_of(family)
    assert_close(executed(bound, executions), plain(bound, executions), 1e-13)

    def of_machine(function):
        return lambda machine: function(bound._replace(hardware=machine), executions)

    def of_bandwidth(function):
        return lambda bandwidth: of_machine(function)(bound.hardware._replace(bandwidth=bandwidth))

    def of_executions(function):
        return lambda executions: function(bound, executions)

    of_bound, of_all = jax.jit(jax.grad(plain, (0, 1)))(bound, executions)
    for choice, at, wanted in (
        (lambda function: lambda bound: function(bound, executions), bound, of_bound),
        (of_machine, bound.hardware, of_bound.hardware),
        (of_bandwidth, bound.hardware.bandwidth, of_bound.hardware.bandwidth),
        (of_executions, executions, of_all),
    ):
        found = jax.jit(jax.grad(choice(executed)))(at)
        scale = max(abs(x * y) for x, y in zip(*map(jax.tree.leaves, (wanted, at)), strict=True))
        for one, other, number in zip(*map(jax.tree.leaves, (wanted, found, at)), strict=True):
            assert_close(other * number, one * number, 1e-11, 1e-12 * scale)


def test_level_is_a_factor_on_the_time(double):
    bound, executions = case_of("gemm")
    slower = bound._replace(form=bound.form.replace(level=2.0))
    assert_close(executed(slower, executions), 2 * executed(bound, executions), 1e-13)


def test_the_slope_of_a_launch_that_takes_no_time_is_exact(double):
    bound, executions = case_of("gemm")
    machine = bound.hardware._replace(launch=jnp.zeros(()))
    wanted, found = (
        jax.grad(lambda machine, each=each: each(bound._replace(hardware=machine), executions))(
            machine
        )
        for each in (plain, executed)
    )
    assert_close(found.launch, wanted.launch, 1e-11)


def test_shared_kernels_have_the_same_derivatives(double):
    """Forwards, backwards, and of second order; numbers that do not vary stay out of it."""
    bound, executions = case_of("gemm")
    number = bound.hardware.bandwidth

    def seconds(passing, form, machine):
        kernels = {"one": Bound(form, machine), "other": Bound(form, machine)}
        if passing:
            kernels = shared(kernels, machine.launch)
            assert kernels["one"].form is kernels["other"].form
        return sum(executed(kernel, executions) ** 2 for kernel in kernels.values())

    def along(passing):
        return lambda change: seconds(
            passing, bound.form, bound.hardware._replace(bandwidth=number * (1 + change))
        )

    wanted, found = (
        jax.jit(jax.grad(partial(seconds, passing), argnums=(0, 1)))(bound.form, bound.hardware)
        for passing in (False, True)
    )
    for one, other in zip(*map(jax.tree.leaves, (wanted, found)), strict=True):
        assert_close(other, one, 1e-12)
    for derivative in (jax.grad, jax.jacfwd, jax.hessian):
        wanted, found = (derivative(along(passing))(jnp.zeros(())) for passing in (False, True))
        assert_close(found, wanted, 1e-11)


def test_a_format_without_kernels_is_timed_by_its_nearest_relative():
    gemm = {name: FAMILIES["gemm"].form_in(name)() for name in ("bf16", "fp8_block", "int4/bf16")}
    library = Library(
        {
            "gemm": gemm,
            "latent_decode": {
                "bf16": FAMILIES["latent_decode"].form(),
                "fp8": FAMILIES["latent_decode"].form(),
            },
        }
    )
    found = {
        name: library.format_of("gemm", name)
        for name in ("bf16", "fp16", "fp8", "mxfp8", "int4/bf16", "mxfp4/bf16", "int8/fp16")
    }
    assert found == {
        "bf16": "bf16",
        "fp16": "bf16",
        "fp8": "fp8_block",
        "mxfp8": "fp8_block",
        "int4/bf16": "int4/bf16",
        "mxfp4/bf16": "int4/bf16",
        "int8/fp16": "bf16",
    }
    assert library.format_of("latent_decode", "fp8/bf16") == "fp8"
    assert library.format_of("latent_decode", "int4/bf16") == "bf16"
    assert library.form("decode", "bf16") is None


def test_kernels_read_before_float64_are_shared_after(double):
    """A form in float32 on hardware in float64: each derivative has the type of its number."""
    single = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), Gemm())
    chip = Chip(*(jnp.asarray(x, jnp.float64) for x in (1e15, 3e12, 2e-6, 132.0)))
    shape = GemmShape(*(jnp.asarray(x, jnp.float64) for x in (64.0, 4096.0, 4096.0, 4e7)))

    def seconds(bound):
        return shared({"gemm": bound}, chip.launch)["gemm"].seconds(shape)

    slopes = jax.grad(seconds)(Bound(single, chip))
    assert {leaf.dtype for leaf in jax.tree.leaves(slopes.form)} == {jnp.dtype("float32")}
    assert {leaf.dtype for leaf in jax.tree.leaves(slopes.hardware)} == {jnp.dtype("float64")}
