"""Matrix products and elementwise kernels: forms worked by hand, and their limits."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffgenz.kernels.forms.elementwise import Elementwise
from diffgenz.kernels.forms.gemm import Gemm, QuantisedGemm
from diffgenz.kernels.hardware import Chip
from diffgenz.kernels.shapes import ElementwiseShape, GemmShape

CHIP = Chip(1e15, 3e12, 2e-6, 100.0)

NO = 1e-9

PLAIN = {
    "padding": NO,
    "columns": NO,
    "prologue": NO,
    "reduction": NO,
    "unsplit": NO,
    "queue": NO,
    "stall": NO,
    "throttle": NO,
}


def product(m, n, k):
    return GemmShape(*(float(x) for x in (m, n, k, 2 * (m * k + k * n + m * n))))


def seconds(form, shape, chip=CHIP):
    return float(form.seconds(type(shape)(*(jnp.asarray(x) for x in shape)), chip))


def test_a_tile_that_is_split_in_two_takes_what_a_hand_works_out():
    form = Gemm(**PLAIN, compute=0.5, memory=1 - NO, tile=4096.0, merge=3.0, launch=1.0)
    shape = GemmShape(
        64.0, 64.0, 4882.8125, 0.0
    )  # a hundredth of the units have work: 8 us for the tile, 6 us for a split
    a, b, x = 8e-6, 6e-6, 0.01
    assert seconds(form, shape) == pytest.approx(
        2e-6 + a * math.hypot(x, b / math.hypot(a, b)), rel=1e-5
    )


@pytest.mark.parametrize("form", [Gemm, QuantisedGemm])
def test_a_huge_product_is_bound_by_the_peak_that_it_reaches(form):
    shape = product(65536, 65536, 65536)
    assert seconds(form(compute=0.5, throttle=0.25), shape) == pytest.approx(
        float(form.work(shape).flops) / 5e14 * 1.25, rel=0.03
    )


def test_few_rows_are_bound_by_the_weights():
    shape = product(1, 65536, 16384)
    assert seconds(Gemm(memory=0.8), shape) == pytest.approx(
        shape.moved / (0.8 * CHIP.bandwidth), rel=0.05
    )


def test_narrow_formats_use_smaller_tiles_for_few_rows():
    few, many = product(16, 2048, 8192), product(1024, 2048, 8192)
    one_wave = {
        "tile": 20000.0,
        "unsplit": 1 - NO,
        "quantise": NO,
        "scale": NO,
        "row": NO,
        "padding": NO,
    }
    assert seconds(QuantisedGemm(**one_wave, full=200.0), few) < 0.5 * seconds(
        QuantisedGemm(**one_wave, full=NO), few
    )
    assert seconds(QuantisedGemm(**one_wave, full=200.0), many) == pytest.approx(
        seconds(QuantisedGemm(**one_wave, full=NO), many), rel=0.1
    )


def test_rows_pad_to_a_step():
    form = Gemm(padding=1.0)
    times = [seconds(form, GemmShape(m, 8192.0, 8192.0, 1.0)) for m in (513.0, 576.0, 577.0)]
    assert times[0] == pytest.approx(times[1], rel=0.01)
    assert times[2] > 1.05 * times[1]


def test_rows_of_narrow_formats_pad_to_larger_tiles_too():
    """With paddings of 1, 65 rows are 128, 129 are 256 and 257 are 512; 193 to 256 stay."""
    alike = {name: value for name, value in PLAIN.items() if name != "padding"} | {
        "quantise": NO,
        "scale": NO,
        "row": NO,
    }
    padded = QuantisedGemm(**alike, padding=1.0, padding_128=1.0, padding_256=1.0)
    bare = QuantisedGemm(**alike, padding=NO, padding_128=NO, padding_256=NO)

    def taken(form, m):
        return seconds(form, GemmShape(m, 8192.0, 8192.0, 1.0))

    for rows, whole in (
        (60.0, 64.0),
        (65.0, 128.0),
        (129.0, 256.0),
        (193.0, 256.0),
        (257.0, 512.0),
    ):
        assert taken(padded, rows) == pytest.approx(taken(bare, whole), rel=1e-5)


@pytest.mark.parametrize("form", [Gemm, QuantisedGemm, Elementwise])
@pytest.mark.parametrize("size", [1.0, 32.0, 65536.0])
def test_times_and_gradients_are_finite_in_single_precision(form, size):
    shape = product(size, size, size) if issubclass(form, Gemm) else ElementwiseShape(size)

    def timed(form, chip, shape):
        return form.seconds(shape, chip)

    arguments = jax.tree.map(lambda x: jnp.full(2, x, jnp.float32), (form(), CHIP, shape))
    times, gradients = jax.vmap(jax.value_and_grad(timed, (0, 1, 2)))(*arguments)
    assert float(times[0]) > max(CHIP.launch, float(form.work(shape).bound(CHIP)))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradients))


def test_elementwise_kernels_read_the_cache_before_memory():
    at = 2e-5 * 0.5 * CHIP.bandwidth  # B that take 20 us from memory
    form = Elementwise(memory=0.5, launch=1.0, cached=0.75, cache=at / 1e6)
    assert seconds(form, ElementwiseShape(at)) == pytest.approx(
        2e-6 + 2e-5 * (1 - 0.75 / 2), rel=1e-5
    )
    assert seconds(form, ElementwiseShape(1e6 * at)) == pytest.approx(1e6 * 2e-5, rel=1e-3)
    assert seconds(form, ElementwiseShape(1e-3 * at)) - 2e-6 == pytest.approx(
        1e-3 * 2e-5 / 4, rel=0.01
    )
