"""Energy by hand: arithmetic, memory, and messages on each level of the network."""

from support import assert_close, make_cluster

from diffgenz import Parallelism, Platform, Scenario, Workload, estimate


def test_energy_of_computing_does_not_depend_on_how_it_is_shared(llama_70b):
    """Heads and features that divide are computed once, whoever computes them."""
    silent = make_cluster()
    chip = silent.accelerator.replace(idle_power=0.0, energy_per_byte=0.0)
    quiet = Platform(
        chip, tuple(level.replace(energy_per_byte=0.0) for level in silent.network), 64
    )
    energies = [
        estimate(
            Scenario(llama_70b, quiet, Workload(8, 100, 10), Parallelism(*ranks))
        ).energy_per_output_token
        for ranks in [(1,), (8,), (2, 4), (2, 2, 2)]
    ]
    assert_close(energies, [energies[0]] * 4, rtol=1e-6)


def test_all_reduce_sends_twice_its_volume_less_ones_own_share(llama_8b):
    """With energy in the network alone: 2 (n - 1) / n of the hidden states, by n ranks, 65 times."""
    level = make_cluster().network[0].replace(energy_per_byte=1.0)
    free = make_cluster().accelerator.replace(
        idle_power=0.0, energy_per_byte=0.0, energy_per_flop={"bf16": 0.0}
    )
    now = estimate(
        Scenario(llama_8b, Platform(free, (level,), 8), Workload(1, 10, 1), Parallelism(8))
    )
    assert_close(now.energy_per_output_token, 8 * 2 * 7 / 8 * 65 * 10 * 4096 * 2, rtol=1e-6)
