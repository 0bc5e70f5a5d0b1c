"""Which prompts share an iteration in lockstep, worked by hand; and compiled."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mean_field_cases import means_for, state_of
from serving_fixtures import CASES

from diffgenz.serving.engine_state import EngineState
from diffgenz.serving.figures import means_of
from diffgenz.serving.load import Load
from diffgenz.serving.lockstep_schedule import Schedule, schedule_of


def counted(*numbers: float) -> Schedule:
    given: Any = [np.float64(number) for number in numbers]
    return schedule_of(*given)


def test_all_prompts_that_fit_share_one_iteration():
    """Four of 512 tokens in a budget of 2048: they are prefilled together, and decode together."""
    found = counted(4, 512, 127, 2048, 1)
    assert found.own.sum() == 1
    assert found.each.sum() == pytest.approx(1 / 4)
    assert found.idle == pytest.approx(127 / 4)
    assert found.tokens[found.own > 0] == pytest.approx(2048)
    assert found.beside == 0


def test_prompts_longer_than_the_budget_take_as_many_iterations():
    """One request alone: 5000 tokens by 2048 are three iterations, then 99 that decode."""
    found = counted(1, 5000, 99, 2048, 1)
    assert found.own.sum() == 3
    assert found.idle == 99
    assert (found.own * found.tokens).sum() == pytest.approx(5000)


@pytest.mark.parametrize("numbers", [(7, 300, 40, 1024, 1), (64, 512, 127, 2048, 1)])
def test_no_token_is_lost(numbers):
    """Each request's prompt is computed once, whatever shares its iterations."""
    found = counted(*numbers)
    assert (found.each * found.tokens).sum() == pytest.approx(numbers[1], rel=0.02)
    assert found.own.sum() >= 1


@pytest.mark.slow
def test_compiled_and_batched_it_is_the_same():
    """Times of iterations twice as long double TTFT; schedules are constants."""
    plain = state_of(CASES[0])
    state = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), plain)

    def ttft(concurrency, scale, state: EngineState):
        table = state.table
        table = type(table)(
            table.slots,
            table.budget,
            table.alone + jnp.log(scale),
            table.mixed + jnp.log(scale),
            table.pair * scale,
        )
        slower = state.timed_by(table)
        load = Load(concurrency=concurrency, lockstep=True)
        return jnp.log(means_of(slower, slower.under(load), load).ttft)

    counts = [4.0, 16.0, 64.0]
    program = jax.jit(jax.vmap(jax.value_and_grad(ttft, 1), (0, 0, None)))
    found, slopes = program(jnp.asarray(counts), jnp.ones(3), state)
    expected = [
        means_for(plain, Load(concurrency=count, lockstep=True))["ttft"] for count in counts
    ]
    assert np.exp(found) == pytest.approx(expected, rel=1e-4)
    assert np.asarray(slopes) == pytest.approx(1.0, rel=1e-4)
