"""Libraries of fitted kernels: sums over executions, and formats without kernels of their own."""

import jax
import jax.numpy as jnp
import pytest

from diffgenz.kernels.families import FAMILIES
from diffgenz.kernels.forms.collective import Collective
from diffgenz.kernels.forms.custom_allreduce import CustomAllReduce
from diffgenz.kernels.forms.deepep import Exchange
from diffgenz.kernels.hardware import Chip, Wire, Wires
from diffgenz.kernels.library import Bound, Library, executed

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
