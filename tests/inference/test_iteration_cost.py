"""Iterations of any mix of prompts and decodes, against the iterations of estimates."""

import jax
import jax.numpy as jnp
import pytest
from support import as_double, assert_close, assert_finite, make_cluster
from whole_models import DENSE, EXPERTS, HYBRID, WINDOWED

from diffgenz import (
    HARD,
    Decodes,
    InputError,
    Parallelism,
    Prompts,
    Scenario,
    Serving,
    Speculation,
    Workload,
    estimate,
    iteration_cost,
)

CLUSTER = make_cluster()
CHAT = Workload(batch=6, input_tokens=1500, output_tokens=60)
MEAN = 1500 + 60 / 2
"""The mean context of the generation: on the hard roofline, where decode attention is bound by its
bytes, time is linear in it, and its mean is the time at the mean."""

PLANS = {
    "one rank": Parallelism(),
    "16 ranks": Parallelism(16),
    "overlap": Parallelism(4, overlap=0.5),
}


def case_of(model=DENSE, plan=PLANS["one rank"], workload=CHAT, sharpness=HARD, **options):
    serving = Serving(**({"chunk": None} | options))
    return Scenario(model, CLUSTER, workload, plan, None, serving, sharpness=sharpness)


@pytest.mark.parametrize("plan", PLANS)
def test_prompts_alone_take_the_time_to_the_first_token(plan):
    case = case_of(plan=PLANS[plan], sharpness=8)
    cost = iteration_cost(case, Prompts(6, 1500))
    assert_close((cost.seconds, cost.stage_seconds), (estimate(case).ttft,) * 2, rtol=1e-6)


@pytest.mark.parametrize("plan", PLANS)
def test_decodes_alone_at_the_mean_context_take_the_time_per_token(plan):
    case = case_of(plan=PLANS[plan])
    cost = iteration_cost(case, decodes=Decodes(6, MEAN))
    assert_close((cost.seconds, cost.stage_seconds), (estimate(case).tpot,) * 2, rtol=1e-6)


@pytest.mark.parametrize("plan", PLANS)
def test_both_take_the_time_per_token_beside_chunks(plan):
    """Chunks of 750 tokens: each prompt in two pieces, on average after 375 of its tokens."""
    case = case_of(plan=PLANS[plan], chunk=750, mixed=True)
    cost = iteration_cost(case, Prompts(1, 750, 375), Decodes(6, MEAN))
    assert_close(cost.seconds, estimate(case).mixed_tpot, rtol=1e-6)


@pytest.mark.parametrize("model", [DENSE, WINDOWED, EXPERTS, HYBRID], ids=lambda model: model.name)
def test_both_take_less_than_one_after_the_other(model):
    """What they have in common runs once, and reads its weights once; nothing runs for free."""
    prompts, decodes = Prompts(2, 300, 100), Decodes(8, 1000)
    case = case_of(model, Parallelism(4, 2))
    both, *alone = (
        iteration_cost(case, *each)
        for each in ((prompts, decodes), (prompts, None), (None, decodes))
    )
    for quantity in ("seconds", "stage_seconds", "energy"):
        together, first, second = (getattr(cost, quantity) for cost in (both, *alone))
        assert max(first, second) < together < first + second, quantity


def test_verifications_take_their_tokens_times_the_time_per_token():
    """Three proposed tokens for free, of which 1 + 0.6 + 0.36 + 0.216 come out."""
    speculation = Speculation(3, 0.6)
    case = case_of(speculation=speculation)
    cost = iteration_cost(case, decodes=Decodes(6, MEAN))
    assert_close(cost.seconds, speculation.tokens * estimate(case).tpot, rtol=1e-6)


def test_beams_share_the_prompt():
    case = case_of(beams=3)
    cost = iteration_cost(case, decodes=Decodes(6, MEAN))
    assert_close(cost.seconds, estimate(case).tpot, rtol=1e-6)


def test_stages_are_busy_one_after_the_other():
    """4 stages of 6 layers; the last has the LM head, too. All micro-batches take as long."""
    case = case_of(plan=Parallelism(2, 4), workload=CHAT.replace(batch=8))
    cost = iteration_cost(case, decodes=Decodes(2, MEAN))
    assert cost.seconds / 4 < cost.stage_seconds < cost.seconds
    assert_close(4 * cost.stage_seconds, estimate(case).tpot, rtol=1e-6)
    one = iteration_cost(case, Prompts(2, 1500))
    assert_close(one.seconds + 3 * one.stage_seconds, estimate(case).ttft, rtol=1e-6)


def test_energy_is_that_of_the_estimate():
    """Without idle power: a prefill that makes the only token."""
    quiet = CLUSTER.replace(accelerator=CLUSTER.accelerator.replace(idle_power=0.0))
    workload = CHAT.replace(output_tokens=1)
    case = Scenario(DENSE, quiet, workload, Parallelism(4, data=2))
    cost = iteration_cost(case, Prompts(3, 1500))
    assert_close(2 * cost.energy / 6, estimate(case).energy_per_output_token, rtol=1e-6)


def test_requests_are_shared_by_attention_groups_without_rounding():
    case = case_of(EXPERTS, Parallelism(2, expert=8, attention_data=4))
    half, whole, more = (
        float(iteration_cost(case, decodes=Decodes(n, MEAN)).seconds) for n in (2, 4, 4.4)
    )
    assert half < whole < more


def test_gradients_are_those_of_differences_and_finite_for_nothing(double):
    """With respect to what an iteration computes and where; in one batch of mixes."""
    case = as_double(case_of(EXPERTS, Parallelism(2, 2, 1, 0.3, 4, 2), sharpness=8))

    @jax.jit
    @jax.vmap
    @jax.value_and_grad
    def cost(x):
        level = case.platform.network[0]
        network = (level.replace(bandwidth=level.bandwidth * x[5]), *case.platform.network[1:])
        there = case.replace(platform=case.platform.replace(network=network))
        found = iteration_cost(there, Prompts(x[0], x[1], x[2]), Decodes(x[3], x[4]))
        return jnp.log(found.seconds) + jnp.log(found.stage_seconds) + jnp.log(found.energy)

    at = jnp.array([2.0, 300.0, 120.0, 40.0, 900.0, 1.0])
    steps = 1e-5 * at * jnp.eye(6)
    edges = jnp.array([[0.0, 300, 0, 40, 900, 1], [1.0, 1, 0, 0, 0, 1], [1e-3, 1e5, 0, 4e4, 1, 1]])
    values, slopes = cost(jnp.concatenate([at[None], edges, at + steps, at - steps]))
    assert_finite((values, slopes))
    differences = (values[4:10] - values[10:]) / (2e-5 * at)
    assert_close(slopes[0], differences, rtol=1e-6, atol=1e-10)


def test_an_iteration_of_nothing_is_refused():
    with pytest.raises(InputError, match="iteration: it computes nothing; give prompts, decodes"):
        iteration_cost(case_of())
