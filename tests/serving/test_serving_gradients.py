"""Derivatives of the mean field, jitted and batched, against float64 differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mean_field_cases import state_of
from serving_fixtures import CASES

from diffgenz import Lognormal
from diffgenz.serving.engine_state import EngineState
from diffgenz.serving.figures import load_result, means_of
from diffgenz.serving.load import Load
from diffgenz.serving.objectives import Objectives
from diffgenz.serving.saturation import saturation_of

SHARES = (1e-4, 0.3, 0.6, 0.8, 0.9)
PROMISE = Objectives(ttft=0.3, tpot=0.03, end_to_end=15.0)
"""Of which many requests of each engine meet all, and many do not."""

NUMBERS = ("load", "slots", "cache", "speed", "slope")


def latencies(numbers, state: EngineState, most, closed: bool):
    """Mean TTFT and TPOT, the saturation rate and goodput, of an engine with changed numbers.

    Arguments:
        numbers: shape (5,): the rate or concurrency, and factors of slots, of cache, of all times
            and of times that grow with running decodes.
        state: the engine.
        most: its requests/s at saturation; its slots in a closed loop.
        closed: whether the loop is.
    """
    load, slots, cache, speed, slope = numbers
    table = state.table
    knots = jnp.linspace(0, 1, table.alone.shape[0])
    slower = jnp.log(speed) + knots * jnp.log(slope)
    table = type(table)(
        table.slots,
        table.budget,
        table.alone + slower,
        table.mixed + slower[:, None],
        table.pair * speed,
    )
    slots = slots * state.slots
    limit = saturation_of(table, state.demand, slots, cache * state.most.cache / 0.97)
    changed = EngineState(state.demand, state.fine, table, limit, slots, state.fit, state.engines)
    load = Load(concurrency=load * most) if closed else Load(rate=load * most)
    steady = changed.under(load)
    means = means_of(changed, steady, load)
    goodput = load_result(changed, steady, load, PROMISE).goodput
    return jnp.stack([means.ttft, means.tpot, limit.rate, jnp.asarray(goodput)])


@functools.cache
def program(closed: bool):
    """Latencies and their derivatives at many points, compiled once for all engines."""

    def of(numbers, state, most):
        found = latencies(numbers, state, most, closed)
        return found, found

    return jax.jit(jax.vmap(jax.jacfwd(of, has_aux=True), (0, None, None)))


@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
@pytest.mark.parametrize("which", [2, 4, 6], ids=["budget", "slots", "cache"])
def test_derivatives_are_those_of_differences(which, closed):
    with jax.enable_x64(True):
        state = jax.tree.map(jnp.asarray, state_of(CASES[which]))
        most = jnp.asarray(CASES[which][5] * 0.9 if closed else float(state.most.rate))
        points = jnp.asarray([[share, 1.0, 1.0, 1.0, 1.0] for share in SHARES])
        if closed:
            points = points.at[:, 0].set(jnp.asarray([0.02, 0.1, 0.2, 0.4, 0.5]))
        at = program(closed)
        slopes, value = at(points, state, most)
        assert np.isfinite(slopes).all()
        size = np.abs(value)
        for i in range(len(NUMBERS)):
            step = jnp.zeros(5).at[i].set(1e-4) * points[:, i : i + 1]
            further, less = (at(points + way * step, state, most)[1] for way in (1, -1))
            measured = np.asarray(further - less) / (2 * np.asarray(step[:, i : i + 1]))
            scale = np.abs(measured) + 1e-3 * size / points[:, i : i + 1]
            off = np.abs(slopes[:, :, i] - measured) / scale
            assert off.max() < 1e-3, (NUMBERS[i], off)


@pytest.mark.slow
def test_tails_have_derivatives_in_float32_and_in_float64_in_one_process():
    """From an idle engine to one near saturation: where nobody waits nothing overflows."""

    def figures(rate, state):
        load = Load(rate=rate)
        found = load_result(state, state.under(load), load, PROMISE)
        tails = found.ttft.p99, found.end_to_end.p99, jnp.asarray(found.goodput)
        return (jnp.stack(tails),) * 2

    state = state_of(CASES[0])
    rates = np.array([1e-5, 1e-3, 0.1, 0.5, 0.9]) * float(state.most.rate)
    slopes, values = {}, {}
    for wide in (False, True):
        with jax.enable_x64(wide):
            kind = jnp.float64 if wide else jnp.float32
            numbers = jax.tree.map(lambda x, kind=kind: jnp.asarray(x, kind), (rates, state))
            program = jax.jit(jax.vmap(jax.jacfwd(figures, has_aux=True), (0, None)))
            slopes[wide], values[wide] = (np.asarray(each) for each in program(*numbers))
    size = np.abs(slopes[True]) + 1e-2 * values[True] / rates[:, None]
    np.testing.assert_allclose(slopes[False] / size, slopes[True] / size, atol=0.02)


def test_lengths_have_derivatives_in_both_precisions():
    for wide in (False, True, False):
        with jax.enable_x64(wide):
            mean = jax.jit(jax.jacfwd(lambda mean: Lognormal(0.7).nodes(mean).tokens))
            found = mean(jnp.asarray(100.0, jnp.float64 if wide else jnp.float32))
        assert found.dtype == (np.float64 if wide else np.float32)
        np.testing.assert_allclose(
            found, np.asarray(Lognormal(0.7).nodes(np.float64(1.0)).tokens), rtol=1e-5
        )
