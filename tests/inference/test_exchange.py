"""Tokens on their way to experts by DeepEP's kernels."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import make_cluster, make_machine, visits

from diffgenz import (
    HARD,
    Parallelism,
    Precision,
    Scenario,
    Workload,
    estimate,
    load_model,
    load_platform,
)
from diffgenz.inference.timing.exchange import SMS, DeepEP
from diffgenz.inference.timing.execution import Execution, fitted_exchanges
from diffgenz.kernels.forms.deepep import Combine, Dispatch
from diffgenz.kernels.hardware import Wires
from diffgenz.kernels.library import Library
from diffgenz.kernels.shapes import ExchangeShape
from diffgenz.operators.message import Axis, Exchange
from diffgenz.operators.routing import Travel
from diffgenz.operators.visits import GroupLimit

FORMS = {
    "dispatch_low_latency": {"fp8": Dispatch(barrier=4.0, copy=1.3)},
    "combine_low_latency": {"bf16": Combine(barrier=5.0)},
    "dispatch_normal": {"fp8": Dispatch(barrier=27.0, copy=1.0)},
    "combine_normal": {"bf16": Combine(barrier=38.0)},
}


def fitted_cluster(forms=FORMS):
    cluster = make_cluster()
    return cluster.replace(
        accelerator=cluster.accelerator.replace(compute_units=132, kernels=Library(forms))
    )


def exchange(tokens, picks=8.0, groups=64.0, **routing):
    numbers = (picks, 256.0, tokens, tokens * 7168, tokens * 7168 * 2, groups)
    return Exchange("exchange", Axis.EXPERT, *(jnp.asarray(x) for x in numbers), **routing)


def by_hand(mode, ranks, nodes, near, far, lanes, tokens):
    wires = Wires(*(jnp.asarray(x) for x in (4e11, 1e-6, 5e10, 5e-6, 2e-6)))
    total = 0.0
    for phase, own in (("dispatch", tokens * 7168), ("combine", tokens * 7168 * 2)):
        form = next(iter(FORMS[f"{phase}_{mode}"].values()))
        numbers = (ranks, nodes, tokens, own, near * own, far * own, lanes)
        shape = ExchangeShape(*(jnp.asarray(float(x)) for x in numbers))
        total += float(form.seconds(shape, wires))
    return total


@pytest.mark.parametrize("tokens", [1.0, 4096.0])
@pytest.mark.parametrize("ranks", [8, 64])
def test_exchanges_take_the_fastest_transport_by_hand(ranks, tokens):
    """8 experts of each token; 64 ranks are 8 nodes.

    An all-gather is slower here: it carries every token to every rank.
    """
    plan, nodes = Parallelism(1, expert=ranks, attention_data=ranks), ranks / 8
    low = by_hand("low_latency", ranks, nodes, 8 * 7 / ranks, 8 * (1 - 1 / nodes), 256, tokens)
    near = visits(ranks, 256, 8) * 7 / 8
    far = visits(ranks // 8, 256, 8) * (1 - 1 / nodes)
    normal = by_hand("normal", ranks, nodes, near, far, SMS, tokens)
    machine = make_machine(fitted_cluster(), plan)
    volume = jnp.asarray(ranks * tokens * 7168)
    gathered = [machine.peers.all_gather(each, HARD) for each in (volume, 2 * volume)]
    gathered = float(sum(gathered)) + 2 * 2e-6
    found = machine.seconds(exchange(tokens), HARD)
    assert float(found.total) == pytest.approx(min(low, normal, gathered), rel=2e-4)
    launches = 2 * 2e-6 if gathered < min(low, normal) else 0.0
    assert float(found.launch) == pytest.approx(launches)
    assert (low < normal) == (tokens == 1)
    smooth = (low**-8 + normal**-8 + gathered**-8) ** (-1 / 8)
    assert float(machine.seconds(exchange(tokens), 8).total) == pytest.approx(smooth, rel=2e-4)


def test_full_ranks_delay_an_exchange_and_one_group_has_none():
    plan = Parallelism(1, expert=64, attention_data=64)
    machine = make_machine(fitted_cluster(), plan)

    def seconds(**options):
        return float(machine.seconds(exchange(4096.0, **options), 8).total)

    two = jnp.asarray(2.0)
    even, uneven = seconds(), seconds(excess=two, travel=Travel(wire=two))
    assert 1.3 * even < uneven < 2 * even
    assert seconds(groups=1.0) == 0


def test_a_mode_needs_both_its_kernels():
    library = Library(
        {family: forms for family, forms in FORMS.items() if family != "combine_normal"}
    )
    network, launch = make_cluster().network, jnp.asarray(2e-6)
    chip = make_cluster().accelerator.replace(kernels=library, compute_units=132)
    exchanges = Execution.of(chip, Precision()).exchanges
    assert set(exchanges) == {"low_latency"}
    assert [mode.low_latency for mode in DeepEP.modes(exchanges, network, launch)] == [True]
    assert fitted_exchanges(library) == [
        ("dispatch_low_latency", "fp8"),
        ("combine_low_latency", "bf16"),
        ("dispatch_normal", "fp8"),
    ]
    assert DeepEP.modes(exchanges, (), launch) == ()
    assert DeepEP.modes({}, network, launch) == ()


def test_shipped_exchanges_time_estimates_and_have_gradients():
    model = load_model("deepseek-ai/DeepSeek-V3")
    precision, plan = (
        Precision(weights="fp8_block", activations="fp8"),
        Parallelism(1, expert=16, attention_data=16),
    )
    fitted = load_platform("h100_sxm", 16)
    forms = {
        family: form
        for family, form in fitted.accelerator.kernels.forms.items()
        if "_normal" not in family and "_low_latency" not in family
    }
    wires = fitted.replace(accelerator=fitted.accelerator.replace(kernels=Library(forms)))

    case = Scenario(model, wires, Workload(1024, 1000, 100), plan, precision)
    near, beyond = fitted.network

    @jax.jit
    @jax.value_and_grad
    def tpot(far):
        network = (near, beyond.replace(bandwidth=far))
        return estimate(case.replace(platform=fitted.replace(network=network))).tpot

    now, slope = tpot(beyond.bandwidth)
    assert float(now) > float(estimate(case).tpot)  # a bound, of the wires alone
    assert np.isfinite(float(slope))
    assert float(slope) < 0


@pytest.mark.parametrize("mode", ["low_latency", "normal"])
def test_a_limit_on_groups_spares_normal_kernels_copies(mode):
    """Low-latency kernels send a token once for each expert, wherever it is."""
    tokens, ranks, nodes = 4096.0, 64, 8.0
    forms = {name: form for name, form in FORMS.items() if name.endswith(mode)}
    machine = make_machine(fitted_cluster(forms), Parallelism(1, expert=64, attention_data=64))
    limit = GroupLimit(jnp.asarray(8.0), jnp.asarray(4.0))
    (kernels,) = machine.deepep
    limited = dataclasses.replace(exchange(tokens), limit=limit)
    found = kernels.seconds(limited, machine.stage, machine.owners, HARD)
    near, far, lanes = 8 * 7 / ranks, 8 * (1 - 1 / nodes), 256
    if mode == "normal":
        near, far, lanes = 32 * (1 - 7 / 8 * (31 / 32) ** 4) * 7 / 8, 4 * 7 / 8, SMS
    by_them = by_hand(mode, ranks, nodes, near, far, lanes, tokens)
    assert float(found) == pytest.approx(by_them, rel=1e-5)
