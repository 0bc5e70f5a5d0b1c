"""A scenario's routing from a trace and a placement: uniform is nothing, the rest is by hand."""

from math import comb

import jax
import numpy as np
import pytest

from diffgenz import (
    InputError,
    Parallelism,
    PerKind,
    Scenario,
    Traced,
    Uniform,
    Workload,
    estimate,
    load_model,
    load_platform,
    routed,
)
from diffgenz.routing.baselines import linear, random
from diffgenz.routing.case_time import CaseTime
from diffgenz.routing.deployment import (
    expert_layers,
    layout_of,
    model_layers,
    of_all_layers,
    recorded,
)
from diffgenz.routing.effects import Trial, gains, independent
from diffgenz.routing.evenness import even
from diffgenz.routing.place import place
from diffgenz.routing.placement import Placement
from diffgenz.routing.synthetic import Synthetic, synthesize
from diffgenz.routing.trace import Counts, Trace

LITE = load_model("deepseek-ai/DeepSeek-V2-Lite")
V3 = load_model("deepseek-ai/DeepSeek-V3")
LAYERS = tuple(range(1, 27))


def case_of(model=LITE, gpus=16, batch=1024):
    plan = Parallelism(1, expert=gpus, attention_data=gpus)
    return Scenario(model, load_platform("h100_sxm", gpus), Workload(batch, 512, 64), plan)


def uniform(seed, experts=64, k=6, layers=LAYERS, **limits):
    router = Synthetic(experts, k, layers, popularity=0.0, popularity_spread=0.0, **limits)
    return synthesize(router, 40, 8, 16, seed=seed)


def blocks(experts=64, k=6, layers=LAYERS, requests=64):
    """Each token chooses within one of 8 blocks of scattered experts; all experts alike."""
    draws = np.random.default_rng(0)
    chosen = np.empty((requests * 32, len(layers), k), int)
    for layer in range(len(layers)):
        mixed = draws.permutation(experts).reshape(8, -1)
        block = draws.integers(8, size=len(chosen))
        order = np.argsort(draws.random((len(chosen), mixed.shape[1])), axis=1)[:, :k]
        chosen[:, layer] = mixed[block[:, None], order]
    phase = np.tile(np.arange(32) >= 8, requests)
    return Trace(experts, layers, chosen, np.arange(requests).repeat(32), phase)


# ---- uniform


FEW = LAYERS[::4]


@pytest.mark.parametrize("seed", range(3))
def test_an_estimate_with_a_uniform_trace_is_that_without_exactly(seed):
    """In both phases, in one of them, and of counts alone."""
    case, trace = case_of(), uniform(seed, layers=FEW)
    plain = jax.tree.leaves(estimate(case))
    moved = random(len(FEW), 64, 2, 8, 64, seed=seed)
    decode = trace.select(phase=1)
    for source, placement in ((trace, None), (decode, moved), (trace.reduced("all"), None)):
        there = routed(case, source, placement)
        assert isinstance(there.routing, Uniform)
        assert jax.tree.leaves(estimate(there)) == plain


def test_a_uniform_trace_of_a_group_limited_router_is_uniform_and_another_router_is_not():
    trace = uniform(0, 256, 8, (3, 4, 5), groups=8, used_groups=4)
    assert isinstance(routed(case_of(V3, 64), trace).routing, Uniform)
    assert not even(trace)  # of a router without limits
    assert not even(uniform(0, 256, 8, (3, 4, 5)), 8, 4)


@pytest.mark.parametrize(
    "changed",
    [{"popularity": 0.2}, {"request": 0.5}, {"partitions": 1, "blocks": 8, "block_bonus": 1.0}],
    ids=["popularity", "requests", "co-activation"],
)
def test_each_kind_of_structure_is_seen(changed):
    router = Synthetic(64, 6, LAYERS, **({"popularity": 0.0, "popularity_spread": 0.0} | changed))
    assert not even(synthesize(router, 40, 8, 16, seed=1))


def test_choosing_all_experts_is_uniform():
    chosen = np.tile(np.arange(4), (10, 2, 1))
    assert even(Trace(4, (0, 1), chosen, np.arange(10)))


# ---- by hand


def test_numbers_of_tokens_that_all_choose_the_same_experts():
    """Experts 0 to 5: four on rank 0 and two on rank 1, all on the first of two nodes."""
    chosen = np.tile(np.arange(6), (200, 26, 1))
    trace = Trace(64, LAYERS, chosen, np.arange(200) // 4)
    told = routed(case_of(), trace, note="same").routing
    assert isinstance(told, Traced)
    apart = 2 * (1 - comb(32, 6) / comb(64, 6))
    ranks = 16 * (1 - comb(60, 6) / comb(64, 6))
    expected = {
        "rows": 16 * 4 / 6,
        "far": 0.5 / (apart / 2),
        "near": 2 / ranks,
        "remote": None,  # as in uniform routing: half of the choices
        "pair": 2,
        "wire": 2,
        "slots": None,
    }
    for name, value in expected.items():
        found = getattr(told, name)
        assert found is None if value is None else float(found) == pytest.approx(value, rel=1e-5)
    rows = 6 * 200
    squares = 64 * (6 * 200**2 - rows) / (rows * (rows - 1))  # less those of single choices
    assert float(told.variation) == pytest.approx(squares - 1, rel=1e-5)
    assert told.note == "same"


def test_replicas_on_every_node_keep_all_tokens_at_home_and_take_memory():
    chosen = np.stack([np.random.default_rng(0).permutation(64)[:6] for _ in range(2600)])
    trace = Trace(64, LAYERS, chosen.reshape(100, 26, 6), np.arange(100) // 4)
    twice = Placement(np.tile(np.tile(np.arange(64), 2), (26, 1)), 64, 2, 8)
    told = routed(case_of(), trace, twice).routing
    assert isinstance(told, Traced)
    assert (float(told.slots), float(told.far), float(told.remote)) == (2, 0, 0)
    case = case_of()
    one, two = (estimate(each).memory for each in (case, case.replace(routing=told)))
    assert float(two.weights - one.weights) == pytest.approx(26 * 4 * 3 * 2048 * 1408 * 2, rel=1e-4)


def test_requests_on_the_nodes_of_their_experts_send_nothing():
    """Requests use the experts of one half each; grouped they stay at home."""
    side = np.arange(40) % 2
    draws = np.random.default_rng(1)
    chosen = np.stack(
        [
            np.stack([draws.permutation(32)[:6] + 32 * side[request] for _ in LAYERS])
            for request in np.arange(400) // 10
        ]
    )
    trace = Trace(64, LAYERS, chosen, np.arange(400) // 10)
    home = routed(case_of(), trace, node=side).routing
    alike = routed(case_of(), trace).routing
    assert isinstance(home, Traced)
    assert isinstance(alike, Traced)
    assert float(home.far) == float(home.remote) == 0
    assert float(alike.far) == pytest.approx(0.5 / (1 - comb(32, 6) / comb(64, 6)), rel=1e-5)


def test_layers_counted_without_dense_ones_are_understood():
    trace = uniform(0, layers=tuple(range(26)))
    assert model_layers(trace, LITE) == LAYERS
    assert tuple(expert_layers(LITE)) == LAYERS


def test_placements_of_all_layers_and_of_those_of_a_trace():
    own = random(2, 64, 2, 8, 64, seed=3)
    whole = of_all_layers(own, (5, 9), LITE)
    assert whole.layers == 26
    assert (whole.slots[0] == np.arange(64)).all()
    assert (recorded(whole, (5, 9), case_of()).slots == own.slots).all()


def test_kinds_of_layers_have_numbers_of_their_own():
    model = LITE
    moe = model.blocks[-1]
    first, last = (moe.replace(count=13.0, at=LAYERS[at : at + 13]) for at in (0, 13))
    model = model.replace(blocks=(*model.blocks[:-1], first, last))
    chosen = uniform(0).chosen.copy()
    chosen[:, 13:] = np.arange(6)
    trace = Trace(64, LAYERS, chosen, np.arange(len(chosen)) // 24)
    told = routed(case_of(model), trace).routing
    assert isinstance(told, PerKind)
    assert float(told.kinds[1].rows) == pytest.approx(16 * 4 / 6, rel=1e-5)
    assert float(told.kinds[0].rows) < 1.5
    with pytest.raises(InputError, match="trace: has no layer like layer 14"):
        routed(case_of(model), trace.select(layers=LAYERS[:13]))


# ---- gains


def test_kernels_of_prefill_send_once_to_a_node_and_those_of_decode_do_not():
    case, kinds = case_of(gpus=32), (0,) * 26
    assert CaseTime(case, "prefill", kinds).deduplicated
    assert not CaseTime(case_of(gpus=32, batch=64), "decode", kinds).deduplicated


def test_gains_of_planted_co_activation_are_co_activation_and_go_under_its_null():
    case, trace = case_of(gpus=32), blocks()
    time = CaseTime(case, "prefill", (0,) * 26)
    train, test = trace.halves()
    found = place(
        train, *layout_of(case), layer_time=time, tokens_per_rank=1000, deduplicated=True
    ).placement
    base = Trial(linear(26, 64, 4, 8, 64))
    saved = gains(test, base, Trial(found), time)["bytes"]
    assert saved.structure == 0
    assert saved.coactivation > 0.2
    assert abs(saved.skew) < 0.01
    gone = gains(independent(test), base, Trial(found), time)["bytes"]
    assert abs(sum(gone)) < 0.01


# ---- bad input


def test_traces_of_other_models_and_plans_are_refused_in_one_line():
    case, trace = case_of(), uniform(0)
    dense = load_model("meta-llama/Llama-3.1-8B")
    on_one = Scenario(dense, load_platform("h100_sxm"))
    for given, message in (
        (lambda: routed(case_of(V3, 64), trace), "has 64 experts per layer, .*256"),
        (lambda: routed(case, uniform(0, k=4)), "choose 4 experts, those of .* 6"),
        (lambda: routed(case, uniform(0, layers=(0, 1))), "layer 0 of .* has no experts"),
        (lambda: routed(on_one, trace), "has no experts to place"),
        (lambda: routed(case, trace, phase="warm-up"), "'warm-up'"),
        (lambda: routed(case, trace.select(phase=0), phase="decode"), "no decode tokens"),
        (lambda: routed(case, trace, linear(26, 64, 4, 4, 64)), "is for 4 nodes of 4 ranks"),
        (lambda: routed(case, trace, linear(25, 64, 2, 8, 64)), "has 25 layers of 64 experts"),
        (lambda: routed(case, trace, linear(26, 60, 2, 8, 64)), "has 26 layers of 60 experts"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            given()
        assert "\n" not in str(caught.value)


def test_groups_of_experts_that_do_not_lie_evenly_over_nodes_are_refused():
    plan = Parallelism(1, expert=1, attention_data=16)
    case = Scenario(LITE, load_platform("h100_sxm", 16), Workload(16), plan)
    with pytest.raises(InputError, match="1 groups of experts do not lie evenly over 2 nodes"):
        routed(case, uniform(0))


def test_counts_say_what_they_can():
    counts = np.ones((1, 26, 64)) * 100
    counts[:, :, 0] = 1000
    source = Counts(counts, ("all",), "all", LAYERS)
    told = routed(case_of(), source).routing
    assert isinstance(told, Traced)
    assert told.far is None
    assert told.dispersion is None
    assert float(told.rows) == pytest.approx(16 * 1300 / 7300, rel=1e-5)
