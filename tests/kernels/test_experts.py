"""Experts: the form worked by hand, and its limits."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffgenz.kernels.forms.experts import Experts, rows_of_active, variation_of
from diffgenz.kernels.hardware import Chip
from diffgenz.kernels.shapes import ExpertsShape

CHIP = Chip(1e15, 3e12, 2e-6, 100.0)

SHAPE = ExpertsShape(1024.0, 8.0, 128.0, 4.0, 4096.0, 1536.0, 3072.0, 1.0, 0.5, 1.0, 1.0)


def seconds(form, shape, chip=CHIP):
    return float(form.seconds(ExpertsShape(*(jnp.asarray(x) for x in shape)), chip))


def active(shape):
    rows, of_active = rows_of_active(ExpertsShape(*(np.float64(x) for x in shape)))
    return float(rows / of_active)


def test_experts_worked_by_hand():
    """512 rows on each of 4 groups of 8 experts: a wave of 1.125 * 4 tiles for each product."""
    shape = ExpertsShape(256.0, 8.0, 32.0, 4.0, 1000.0, 1000.0, 1000.0, 1.0, 0.0, 2.0, 2.0)
    form = Experts(
        compute=0.5, memory=0.75, launch=3.0, prologue=0.5,
        tile=1024.0, full=64.0, padding=8.0, edge=24.0, stall=0.25,
        activation=2.0, sort=9.0, expert=0.5, token=0.01, gather=0.5, activate=0.25,
    )  # fmt: skip
    share = (1 + 1 / 16) / 2
    x = (512 + 8 * share * 8) * 1024 / (1024 * 100 * share)
    u, depth = math.hypot(x, 1), 1000 * 2 * 1024 * 100 * share / 0.5e15 + 1e-6
    moving = (
        (8 * 1000 * 2000 * 2 / 0.75 + 2 * 512 * (2000 * 2 + 2 * 2000)) / 3e12 * (1 + 0.25 * u / x)
    )
    before = 2e-6 * (3 + 0.5 * 8 + 0.01 * 256 + 9 * 512 / 576)
    rows = 2 * 256 * 8 * (1000 * 0.5 + 1000 * 0.25) / 3e12
    assert seconds(form, shape) == pytest.approx(
        math.hypot(2 * depth * u, moving) + before + rows, rel=1e-3
    )


def test_many_rows_are_bound_by_the_peak_and_few_by_the_weights_of_the_experts_they_reach():
    many = SHAPE._replace(tokens=1e7)
    assert seconds(
        Experts(compute=0.5, prologue=1e-3, activation=0.1, gather=0.1, activate=0.1, token=1e-6),
        many,
    ) == pytest.approx(float(Experts.work(many).flops) / 5e14, rel=0.1)
    few = SHAPE._replace(tokens=1.0, groups=1.0, width=65536.0, up=131072.0, hidden=16384.0)
    weights = active(few) * 16384 * 196608
    assert seconds(Experts(memory=0.8), few) == pytest.approx(
        weights / (0.8 * CHIP.bandwidth), rel=0.1
    )


def test_times_rise_with_what_there_is_to_do():
    for name in ("tokens", "hidden", "width", "up", "excess", "weight_size", "activation_size"):
        for tokens in (1.0, 16.0, 256.0, 16384.0):
            shape = SHAPE._replace(tokens=tokens)
            assert seconds(
                Experts(), shape._replace(**{name: 1.5 * getattr(shape, name)})
            ) > seconds(Experts(), shape)


@pytest.mark.parametrize("tokens", [1.0, 16.0, 4096.0])
def test_no_execution_is_faster_than_the_roofline(tokens):
    shape = SHAPE._replace(tokens=tokens)
    assert seconds(Experts(compute=1 - 1e-6, memory=1 - 1e-6, launch=1e-6), shape) > float(
        Experts.work(shape).bound(CHIP)
    )


def test_balanced_rows_fill_experts_one_by_one():
    assert active(SHAPE._replace(tokens=1.0, groups=1.0, variation=0.0)) == pytest.approx(
        8, rel=1e-3
    )
    assert active(SHAPE._replace(tokens=16.0, groups=1.0, variation=0.0)) == pytest.approx(
        128, rel=5e-3
    )  # just full
    assert active(SHAPE._replace(tokens=4096.0, groups=1.0, variation=0.0)) == pytest.approx(
        128, rel=1e-3
    )


def test_the_variation_gives_back_the_experts_that_have_rows():
    for rows in (0.05, 0.9, 1.0, 1.1, 7.0, 300.0):
        for share in (0.1, 0.5, 0.9, 1.0):
            reached = share * min(rows, 1.0)
            shape = SHAPE._replace(tokens=16 * rows, variation=variation_of(reached, rows))
            assert active(shape) == pytest.approx(32 * reached, rel=4e-3)
    assert variation_of(3 / 4, 3.0) == pytest.approx(
        1
    )  # popularity exponentially distributed: rows / (1 + rows)
    assert variation_of(0.5, 0.5 - 1e-9) == 0
    slope = jax.grad(lambda share, rows: variation_of(share, rows), argnums=(0, 1))(0.5, 0.5)
    assert np.isfinite(slope).all()
