"""What tests of kernel forms share: shapes of every family, and hardware."""

import jax.numpy as jnp

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
