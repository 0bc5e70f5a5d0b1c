"""Latent attention and batched products: forms worked by hand, and their limits."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffgenz.kernels.forms.batched_gemm import BatchedGemm
from diffgenz.kernels.forms.causal_conv import CausalConv
from diffgenz.kernels.forms.latent_attention import LatentDecode, LatentPrefill
from diffgenz.kernels.forms.recurrence import DeltaDecode, DeltaPrefill, Mamba2Decode, Mamba2Prefill
from diffgenz.kernels.hardware import Chip
from diffgenz.kernels.shapes import (
    BatchedShape,
    ConvShape,
    DeltaShape,
    LatentDecodeShape,
    LatentPrefillShape,
    Mamba2Shape,
)

CHIP = Chip(1e15, 3e12, 2e-6, 100.0)

SMALLEST = {
    LatentPrefill: LatentPrefillShape(1.0, 1.0, 0.0, 1.0, 192.0, 128.0),
    LatentDecode: LatentDecodeShape(1.0, 1.0, 1.0, 1.0, 512.0, 64.0, 2.0),
    BatchedGemm: BatchedShape(1.0, 128.0, 512.0, 1.0, 131072.0),
    DeltaPrefill: DeltaShape(1.0, 1.0, 1.0, 128.0, 1.0, 128.0, 64.0),
    DeltaDecode: DeltaShape(1.0, 1.0, 1.0, 128.0, 1.0, 128.0, 64.0),
    Mamba2Prefill: Mamba2Shape(1.0, 1.0, 1.0, 64.0, 128.0, 1.0, 256.0),
    Mamba2Decode: Mamba2Shape(1.0, 1.0, 1.0, 64.0, 128.0, 1.0, 256.0),
    CausalConv: ConvShape(1.0, 1.0, 128.0, 4.0),
}


def seconds(form, shape):
    return float(form.seconds(type(shape)(*(jnp.asarray(x) for x in shape)), CHIP))


@pytest.mark.parametrize("form", SMALLEST, ids=lambda form: form.__name__)
def test_the_smallest_shape_takes_launches_and_has_finite_gradients(form):
    shape = SMALLEST[form]

    def timed(chip, shape):
        return form().seconds(shape, chip)

    arguments = jax.tree.map(lambda x: jnp.full(2, x, jnp.float32), (CHIP, shape))
    times, gradients = jax.jit(jax.vmap(jax.value_and_grad(timed, (0, 1))))(*arguments)
    assert CHIP.launch < float(times[0]) < 100 * CHIP.launch
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradients))
    assert float(form.work(shape).bound(CHIP)) < float(times[0])


def test_a_long_prompt_is_bound_by_its_products():
    form, shape = (
        LatentPrefill(compute=0.5),
        LatentPrefillShape(8.0, 65536.0, 0.0, 128.0, 192.0, 128.0),
    )
    assert seconds(form, shape) == pytest.approx(
        float(form.work(shape).flops) / (0.5 * CHIP.flops), rel=0.02
    )


def test_a_cached_prefix_costs_what_the_rest_of_a_whole_prompt_does():
    whole, first, rest = (
        LatentPrefillShape(8.0, queries, context, 128.0, 192.0, 128.0)
        for queries, context in ((8192, 0), (4096, 0), (4096, 4096))
    )
    form = LatentPrefill()
    assert seconds(form, first) < seconds(form, rest)
    assert seconds(form, first) + seconds(form, rest) == pytest.approx(
        seconds(form, whole), rel=0.1
    )


def test_decode_of_many_long_sequences_is_bound_by_the_cache():
    form, shape = (
        LatentDecode(memory=0.8, step=0.01),
        LatentDecodeShape(128.0, 1.0, 131072.0, 16.0, 512.0, 64.0, 2.0),
    )
    cached = 2 * 128 * 131072 * 576
    assert seconds(form, shape) == pytest.approx(cached / (0.8 * CHIP.bandwidth), rel=0.15)


def test_decode_by_hand():
    """One tile of one block, which cannot split: a = 2e-6 s, x = 0.01, b = 0."""
    tile = 2 * 64 * 64 * 1088 * CHIP.units / CHIP.flops
    tiny = dict.fromkeys(("fixed", "merge", "merging", "rows", "sequence", "convert"), 1e-12)
    form = LatentDecode(
        compute=1 - 1e-7,
        memory=1 - 1e-7,
        launch=1.0,
        slots=1.0,
        step=1 - tile / CHIP.launch,
        **tiny,
    )
    moved = 64 * 576 * 2 / CHIP.bandwidth
    expected = math.hypot(CHIP.launch * math.hypot(0.01, 1), moved) + CHIP.launch
    assert seconds(form, LatentDecodeShape(1.0, 1.0, 64.0, 1.0, 512.0, 64.0, 2.0)) == pytest.approx(
        expected, rel=1e-5
    )


def test_only_a_narrow_cache_is_converted():
    shape = LatentDecodeShape(16.0, 1.0, 4096.0, 16.0, 512.0, 64.0, 2.0)
    some, none = LatentDecode(convert=10.0), LatentDecode(convert=1e-9)
    assert seconds(some, shape) == seconds(none, shape)
    narrow = shape._replace(cache_size=1.0)
    assert seconds(some, narrow) - seconds(none, narrow) == pytest.approx(
        10 * 16 * 4096 * 576 / CHIP.bandwidth, rel=1e-3
    )


def test_batched_products_add_up():
    form = BatchedGemm(rows=1e-9, columns=1e-9, passed=1e-9, quantise=1e-9, compute=0.5)
    shape = BatchedShape(8192.0, 512.0, 128.0, 128.0, 1.0)
    assert seconds(form.replace(prologue=1e-9), shape) == pytest.approx(
        2 * 8192 * 512 * 128 * 128 / (0.5 * CHIP.flops), rel=0.01
    )
