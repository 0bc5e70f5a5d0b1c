"""Energy by hand: arithmetic, memory, and messages on each level of the network."""

import jax.numpy as jnp
import pytest
from support import CHIP, assert_close, make_cluster, make_machine, visits

from diffgenz import Accelerator, Parallelism, Platform, Precision, Scenario, Workload, estimate
from diffgenz.inference.energy import dynamic_energy
from diffgenz.inference.timing.execution import Execution
from diffgenz.models.blocks.moe import MoE
from diffgenz.operators.routing import Traced, Uniform
from diffgenz.operators.step import Step

NOTHING = {"idle_power": 0.0, "compute_power": 0.0, "memory_power": 0.0}
FREE = Accelerator(**CHIP | NOTHING)
ONE = Workload(1, 10, 1)
"""Its only token comes out of the prefill."""


def joules(model, platform, plan=None, workload=ONE, precision=None):
    """J of each output token."""
    case = Scenario(model, platform, workload, plan or Parallelism(), precision)
    return estimate(case).energy_per_output_token


def with_power(*per_byte):
    """Two levels that draw so many J/B, and accelerators that draw nothing."""
    network = tuple(
        level.replace(power=joules * level.bandwidth)
        for level, joules in zip(make_cluster().network, per_byte, strict=True)
    )
    return Platform(FREE, network, 64)


# ---- the accelerator


def test_idle_power_is_drawn_for_as_long_as_everything_takes(llama_8b):
    idle = Platform(FREE.replace(idle_power=100.0))
    result = estimate(Scenario(llama_8b, idle, Workload(2, 10, 5)))
    assert_close(result.energy_per_output_token, 100 * result.end_to_end / 10, rtol=1e-6)


def test_computing_draws_its_power_at_the_peak(llama_8b):
    """1 J/FLOP in bf16: the sum is the FLOP of two prompts of 10 tokens."""
    chip = FREE.replace(compute_power=1e15)
    linears = 32 * (4096 * 6144 + 4096 * 4096 + 3 * 4096 * 14336)
    flops = 2 * 20 * linears + 2 * 2 * 128256 * 4096 + 32 * 2 * 4 * 4096 * 10 * 11 / 2
    assert_close(joules(llama_8b, Platform(chip), workload=Workload(2, 10, 1)), flops / 2, 1e-6)
    # at twice the peak, an fp8 FLOP takes half as much; attention and LM head stay in bf16
    narrow = Precision(weights="fp8", activations="fp8")
    now = joules(llama_8b, Platform(chip), None, Workload(2, 10, 1), narrow)
    assert_close(now, (flops - 20 * linears) / 2, 1e-6)


def test_memory_draws_its_power_at_the_full_bandwidth(llama_8b):
    """A byte takes power / bandwidth: at twice the bandwidth, the same power moves it for half."""
    chip = FREE.replace(memory_power=200.0)
    once = joules(llama_8b, Platform(chip))
    weights = (32 * (4096 * 6144 + 4096 * 4096 + 3 * 4096 * 14336) + 128256 * 4096) * 2
    assert once > weights * 200 / 4e12
    faster = chip.replace(memory_bandwidth=8e12)
    assert_close(joules(llama_8b, Platform(faster)), once / 2, 1e-6)
    # kernels that reach half of the bandwidth draw half of the power for twice as long
    assert_close(joules(llama_8b, Platform(chip.replace(memory_efficiency=0.5))), once, 1e-6)


def test_computing_costs_the_same_however_it_is_shared(llama_70b):
    """Heads and features that divide are computed once, whoever computes them."""
    quiet = with_power(0.0, 0.0)
    quiet = quiet.replace(accelerator=FREE.replace(compute_power=400.0))
    plans = [(1,), (8,), (2, 4), (2, 2, 2)]
    energies = [
        joules(llama_70b, quiet, Parallelism(*plan), Workload(8, 100, 10)) for plan in plans
    ]
    assert_close(energies, [energies[0]] * 4, rtol=1e-6)


# ---- the network

HIDDEN = 10 * 4096 * 2
LOGITS = 128256 * 2


def test_messages_cost_what_their_level_draws_by_hand(llama_8b):
    """16 ranks on nodes of 8, 1 J/B inside and 3 J/B outside.

    65 all-reduces of the hidden states, 2 (n - 1) / n of what arrives at each level, and one
    all-gather of the logits, half of that.
    """
    inside = 65 * 2 * 7 / 8 * HIDDEN + 7 / 8 * LOGITS
    outside = 65 * 2 * 1 / 2 * HIDDEN / 8 + 1 / 2 * LOGITS / 8
    now = joules(llama_8b, with_power(1.0, 3.0), Parallelism(16))
    assert_close(now, 16 * (inside + 3 * outside), rtol=1e-6)
    assert_close(joules(llama_8b, with_power(1.0, 3.0), Parallelism(8)), 8 * inside, rtol=1e-6)


def test_a_faster_network_draws_its_power_for_less_time(llama_8b):
    plain = with_power(1.0, 3.0)
    network = tuple(level.replace(bandwidth=2 * level.bandwidth) for level in plain.network)
    once, twice = (
        joules(llama_8b, platform, Parallelism(16))
        for platform in (plain, plain.replace(network=network))
    )
    assert_close(twice, once / 2, rtol=1e-6)


def test_stages_hand_the_hidden_states_over_by_hand(llama_8b):
    """4 stages of 4 ranks: two boundaries inside nodes, one between them."""
    plan = Parallelism(4, 4)
    reduced = 16 * (65 * 2 * 3 / 4 * HIDDEN + 3 / 4 * LOGITS) / 4
    handed = 4 * (2 * HIDDEN + 3 * 1 * HIDDEN)
    now = joules(llama_8b, with_power(1.0, 3.0), plan)
    assert_close(now, reduced + handed, rtol=1e-6)


BUSY = Traced(near=0.9, far=0.7, pair=3.0, wire=2.0)


@pytest.mark.parametrize(("routing", "near", "far"), [(Uniform(), 1.0, 1.0), (BUSY, 0.9, 0.7)])
def test_exchanges_cost_one_copy_for_each_group_of_ranks_by_hand(routing, near, far):
    """16 ranks, 2 nodes; 4 experts of each token. What the mean rank sends counts."""
    platform, plan = with_power(1.0, 3.0), Parallelism(1, expert=16, attention_data=16)
    step = Step(10.0, 1.0, 0.0, 1.0, Precision(), 1 / 16, 16.0, routing=routing)
    block = MoE(routed=64, used=4, intermediate=512)
    operators = block.operators(jnp.asarray(1024.0), step)
    machine = make_machine(platform, plan)
    volume = 10 * 1024 * (2 + 2)
    near *= visits(16, 64, 4) * 7 / 8 * volume
    far *= visits(2, 64, 4) * 1 / 2 * volume
    execution = Execution.of(platform.accelerator, Precision())
    assert_close(dynamic_energy(operators, machine, platform, execution), near + 3 * far, rtol=1e-3)
