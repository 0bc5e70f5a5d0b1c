"""Libraries of fitted kernels: sums over executions, and formats without kernels of their own."""

import jax
import pytest
from kernel_cases import hardware, shapes

from diffgenz.kernels.families import FAMILIES
from diffgenz.kernels.library import Bound, Library, executed


def test_what_a_kernel_takes_in_all_has_the_derivatives_of_the_sum():
    form = FAMILIES["gemm"].form_in("fp8")
    executions = [(2.0, shape) for shape in shapes("gemm", form)]
    machine = hardware(form)

    def plain(machine, kernel, executions):
        return kernel.level * sum(
            repeats * kernel.seconds(shape, machine) for repeats, shape in executions
        )

    def ours(machine, kernel, executions):
        return executed(Bound(kernel, machine), executions)

    where = (machine, form(), executions)
    assert float(ours(*where)) == pytest.approx(float(plain(*where)), rel=1e-6)
    for argnums in (0, 1, 2):
        wanted, found = (
            jax.tree.leaves(jax.grad(function, argnums=argnums)(*where))
            for function in (plain, ours)
        )
        for one, other in zip(wanted, found, strict=True):
            assert float(other) == pytest.approx(float(one), rel=2e-4, abs=1e-30)
    twice = executed(Bound(form(level=2.0), machine), executions)
    assert float(twice) == pytest.approx(2 * float(ours(*where)), rel=1e-6)


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
