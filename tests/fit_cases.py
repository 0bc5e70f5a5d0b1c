"""What tests of fits share: planted parameters, and rows measured of them."""

import numpy as np

from diffgenz.calibrating.fitting import predict
from diffgenz.calibrating.samples import Samples
from diffgenz.hardware.platform import load_platform
from diffgenz.kernels.fits import write_fits
from diffgenz.kernels.forms.gemm import Gemm
from diffgenz.kernels.hardware import Chip
from diffgenz.kernels.library import Library
from diffgenz.kernels.shapes import GemmShape

H100 = Chip(*(np.float64(x) for x in (989.4e12, 3.35e12, 2.37e-6, 132)))
PLANTED = Gemm(
    compute=0.7, memory=0.8, launch=1.2, prologue=0.2, tile=5000.0, merge=3.0, reduction=20.0
)


def gemm_shapes(rows, seed=0):
    draws = np.random.default_rng(seed)
    m, n, k = (
        np.round(2 ** draws.uniform(low, high, rows)) for low, high in ((0, 13), (6, 15), (6, 15))
    )
    return GemmShape(m, n, k, 2 * (m * k + n * k + m * n))


def planted(rows=620, noise=0.05, chip=H100, form=PLANTED):
    shape = gemm_shapes(rows)
    seconds = predict(form, shape, chip) * np.exp(
        noise * np.random.default_rng(1).normal(size=rows)
    )
    return Samples(Gemm, "gemm", "bf16", "vllm-1.0", "one", shape, seconds)


def values_of(form):
    return {name: float(getattr(form, name)) for name in form.priors()}


def with_few_kernels(path, fit):
    """An H100 with `fit` and one more: each kernel's parameters take seconds to compile."""
    write_fits(path, "h100_sxm", [fit], "a test")
    platform = load_platform("h100_sxm", fit=path)
    kernels = platform.accelerator.kernels
    few = Library(
        {family: kernels.forms[family] for family in (fit.family, "decode")}, kernels.origin
    )
    return platform.replace(accelerator=platform.accelerator.replace(kernels=few))
