"""Recurrences and convolutions: the limits of their forms."""

import jax.numpy as jnp
import pytest

from diffgenz.kernels.forms.causal_conv import CausalConv
from diffgenz.kernels.forms.recurrence import DeltaPrefill, Mamba2Decode
from diffgenz.kernels.hardware import Chip
from diffgenz.kernels.shapes import (
    ConvShape,
    DeltaShape,
    Mamba2Shape,
)

CHIP = Chip(1e15, 3e12, 2e-6, 100.0)


def seconds(form, shape):
    return float(form.seconds(type(shape)(*(jnp.asarray(x) for x in shape)), CHIP))


def test_chains_of_chunks_wait_for_each_other_and_share_units():
    form = DeltaPrefill(step=100.0, slots=1.0, start=1e-9, token=1e-9, again=1e-9, launch=1e-9)
    one, long = (
        DeltaShape(1.0, 64.0, 16.0, 128.0, 32.0, 128.0, 64.0),
        DeltaShape(1.0, 64000.0, 16.0, 128.0, 32.0, 128.0, 64.0),
    )
    assert seconds(form, long) > 1000 * 100 * CHIP.launch > seconds(form, one)
    wide = DeltaShape(64.0, 64000.0, 16.0, 128.0, 32.0, 128.0, 64.0)
    assert seconds(form, wide) == pytest.approx(64 * 32 / 100 * seconds(form, long), rel=0.1)


def test_decode_reads_and_writes_every_state():
    form, shape = (
        Mamba2Decode(memory=0.5, blocks=1e-9),
        Mamba2Shape(4096.0, 1.0, 128.0, 64.0, 128.0, 8.0, 256.0),
    )
    state = 4096 * 128 * 64 * 128 * 4 * 2.0
    assert seconds(form, shape) == pytest.approx(state / (0.5 * CHIP.bandwidth), rel=0.03)


def test_a_long_convolution_reads_and_writes_once():
    form, shape = CausalConv(memory=0.5, blocks=1e-9), ConvShape(8.0, 32768.0, 8192.0, 4.0)
    assert seconds(form, shape) == pytest.approx(
        4 * 8 * 32768 * 8192 / (0.5 * CHIP.bandwidth), rel=0.01
    )
