"""Routing in estimates: uniform numbers change nothing, others what they should, smoothly."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import assert_close, make_cluster

from diffgenz import (
    InputError,
    Parallelism,
    PerKind,
    PerPhase,
    PowerLaw,
    Precision,
    Scenario,
    Serving,
    Traced,
    Uniform,
    Workload,
    breakdown,
    estimate,
    load_model,
    load_platform,
    traced,
)
from diffgenz.core.leaves import leaf_at, leaf_names, with_leaves
from diffgenz.inference.estimate import compiled_estimate
from diffgenz.inference.jobs import jobs_of
from diffgenz.inference.resolved import resolved
from diffgenz.operators.message import Exchange
from diffgenz.operators.phases import alike

V3 = load_model("deepseek-ai/DeepSeek-V3")
WIDE = Parallelism(1, expert=64, attention_data=64)
FP8 = Precision(weights="fp8_block", activations="fp8")
BUSY = Traced(1.8, 1.3, 0.7, 0.73, 0.9, 0.95, 1.4, 1.2)


def case_of(platform=None, batch=4096, plan=WIDE, model=V3, routing=None, prompt=200):
    platform = make_cluster() if platform is None else platform
    precision = FP8 if platform.accelerator.kernels is not None else None
    return Scenario(model, platform, Workload(batch, prompt, 20), plan, precision, routing=routing)


@functools.cache
def h100():
    return load_platform("h100_sxm", 64)


CASES = {
    "wires": lambda **options: case_of(**options),
    "DeepEP, few tokens": lambda **options: case_of(h100(), 64, **options),
    "DeepEP, many tokens": lambda **options: case_of(h100(), 8192, **options),
}
"""The plain all-to-all, and kernels that are fitted."""

NEUTRAL = dict.fromkeys(("rows", "far", "near", "remote", "pair", "wire", "slots"), 1)


@pytest.mark.parametrize("name", CASES)
def test_numbers_of_uniform_routing_change_nothing_at_all(name):
    plain = estimate(CASES[name]())
    for routing in (Uniform(), Traced(**NEUTRAL), traced(dispersion=0, variation=0, **NEUTRAL)):
        found = estimate(CASES[name](routing=routing))
        for one, other in zip(jax.tree.leaves(plain), jax.tree.leaves(found), strict=True):
            assert one == other


@pytest.mark.parametrize("name", CASES)
def test_uniform_numbers_as_leaves_change_nothing_either(name):
    """They are multiplied with, then."""
    ones = {field: np.float32(1) for field in NEUTRAL}
    plain = estimate(CASES[name]())
    found = estimate(CASES[name](routing=Traced(variation=np.float32(0), **ones)))
    for metric in ("ttft", "tpot", "energy_per_output_token"):
        assert_close(getattr(found, metric), getattr(plain, metric), rtol=2e-5)


def test_uniform_routing_compiles_the_same_program():
    def text(routing):
        question = resolved(jax.tree.map(jnp.asarray, case_of(routing=routing)))
        return jax.jit(lambda q: compiled_estimate(q).tpot).lower(question).as_text()

    assert text(Traced()) == text(Uniform())
    assert text(Traced(pair=np.float32(1.2))) != text(Uniform())


def test_replicas_take_memory_and_share_the_tokens_of_their_expert():
    """A quarter more slots: a quarter more weights of experts. Read are those that have a token."""
    model = load_model("deepseek-ai/DeepSeek-V2-Lite")
    plan = Parallelism(1, expert=16, attention_data=16)
    case = case_of(model=model, plan=plan)
    one, other = estimate(case), estimate(case.replace(routing=Traced(slots=1.25)))
    each = 3 * 2048 * 1408 * 2  # B of gate, up and down of one expert, in bf16
    added = float(other.memory.weights - one.memory.weights)
    assert_close(added, 26 * 0.25 * 64 / 16 * each, rtol=1e-4)
    slots = np.float32(1.25 * 64)
    share = Traced(slots=1.25).active(np.float32(10), np.float32(6), slots)
    assert_close(float(share), 1 - (1 - 6 / 80) ** 10, rtol=1e-5)


# ---- laws

SLOWS = ("rows", "dispersion", "far", "near", "pair", "wire")
"""More of these is never faster."""


def grown(case, name, factor):
    routing = case.routing
    return case.replace(routing=routing.replace(**{name: factor * getattr(routing, name)}))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("field", [*SLOWS, "remote", "variation"])
def test_more_of_it_is_never_faster_and_more_variation_never_slower(name, field):
    """Variation leaves experts without a token, whose weights are not read."""
    case = CASES[name](routing=BUSY)
    times = {"ttft": [], "tpot": []}
    for factor in (1.0, 1.3, 5.0):
        result = estimate(grown(case, field, factor))
        for phase, found in times.items():
            found.append(float(getattr(result, phase)))
    for found in times.values():
        steps = np.diff(found) / found[0]
        assert (steps <= 1e-6 if field == "variation" else steps >= -1e-6).all()


@pytest.mark.parametrize("phase", ["ttft", "tpot"])
def test_what_each_transport_waits_for(phase):
    """Low-latency kernels for the fullest rank alone, normal ones for the busiest node, and a plain
    all-to-all for the largest pair."""
    moved = {}
    for name in CASES:
        case = CASES[name](routing=BUSY)
        now = float(getattr(estimate(case), phase))
        moved[name] = {
            field: float(getattr(estimate(grown(case, field, 1.5)), phase)) / now - 1
            for field in ("far", "remote", "pair", "wire")
        }
    few, many, wires = moved["DeepEP, few tokens"], moved["DeepEP, many tokens"], moved["wires"]
    assert wires["wire"] == wires["remote"] == 0
    assert wires["far"] > 0.01
    assert wires["pair"] > 0.01
    assert few["pair"] == many["pair"] == 0
    if phase == "tpot":
        assert few["remote"] > few["far"]
    assert many["far"] > many["remote"]
    assert many["wire"] > 0.01


def test_far_copies_of_a_token_in_group_limited_routing():
    """DeepSeek-V3 on 8 nodes of 8: 4 of 8 groups, 3.5 of them on other nodes; a trace may say
    less."""
    for routing, copies in ((Uniform(), 3.5), (Traced(far=0.9), 3.15), (Traced(wire=2.0), 3.5)):
        case = case_of(routing=routing)
        jobs = jobs_of(resolved(case))
        (job,) = jobs.per_token
        (message,) = [
            m for op in job.iteration.layers for m in op.messages if isinstance(m, Exchange)
        ]
        far = job.machine.sent(message)[1] / (message.dispatch + message.combine)
        assert float(far) == pytest.approx(copies, abs=1e-3)


def test_energy_counts_the_copies_of_each_level():
    """A level that draws power alone: its share follows its copies, not who is busiest."""

    def joules(level, **numbers):
        cluster = make_cluster()
        chip = dict.fromkeys(("idle_power", "compute_power", "memory_power"), 0.0)
        network = tuple(
            each.replace(power=each.power if index == level else 0.0)
            for index, each in enumerate(cluster.network)
        )
        platform = cluster.replace(accelerator=cluster.accelerator.replace(**chip), network=network)
        return float(estimate(case_of(platform, routing=Traced(**numbers))).energy_per_output_token)

    assert joules(1, far=0.5) == pytest.approx(0.5 * joules(1), rel=1e-3)
    assert joules(0, near=0.5) == pytest.approx(0.5 * joules(0), rel=1e-3)
    assert joules(0, far=0.5) == pytest.approx(joules(0), rel=1e-6)
    assert joules(1, pair=2.0, wire=2.0) == pytest.approx(joules(1), rel=1e-6)


# ---- derivatives


@pytest.mark.parametrize(
    ("name", "routing"),
    [("wires", PowerLaw(0.6)), ("wires", BUSY), ("DeepEP, many tokens", BUSY)],
    ids=["power law, wires", "traced, wires", "traced, DeepEP"],
)
def test_derivatives_by_routing_and_network_are_those_of_differences(name, routing):
    with jax.enable_x64(True):
        case = jax.tree.map(
            lambda x: jnp.asarray(x, jnp.float64), CASES[name](routing=routing, prompt=100)
        )
        names = {
            n: path
            for n, path in leaf_names(case).items()
            if n.startswith("routing.") or n == "platform.network[1].bandwidth"
        }
        paths = tuple(names.values())

        def times(values):
            changed = with_leaves(case, dict(zip(paths, values, strict=True)))
            result = compiled_estimate(resolved(changed))
            return jnp.stack([result.ttft, result.tpot])

        here = jnp.stack([leaf_at(case, path) for path in paths])
        slopes = np.asarray(jax.jit(jax.jacrev(times))(here))
        steps = np.concatenate([np.diag(1e-6 * here), -np.diag(1e-6 * here), 0 * here[None]])
        up, down, now = np.split(
            np.asarray(jax.jit(jax.vmap(times))(here + steps)), [len(here), 2 * len(here)]
        )
        expected = (up - down).T / (2e-6 * np.asarray(here))
        assert np.isfinite(slopes).all()
        assert_close(slopes * here / now.T, expected * here / now.T, rtol=1e-3, atol=1e-7)
        for number, share in zip(names, (slopes * here / now.T).T, strict=True):
            field = number.rpartition(".")[2]
            if field in ("bandwidth", "variation"):
                assert (share <= 1e-12).all(), number
            elif field not in ("remote", "spread"):
                assert (share >= -1e-12).all(), number
        total = dict(zip(names, np.abs(slopes).sum(axis=0), strict=True))
        idle = {n.rpartition(".")[2] for n, slope in total.items() if slope == 0}
        assert idle <= ({"wire", "remote"} if name == "wires" else {"pair"})


# ---- kinds of layers, and what is refused


def test_kinds_of_layers_have_their_own_numbers():
    model = load_model("deepseek-ai/DeepSeek-V4-Flash")
    plan = Parallelism(1, expert=16, attention_data=16)

    def exchange(routing):
        case = case_of(make_cluster(16), plan=plan, model=model, routing=routing)
        return sum(breakdown(case).rows("tpot")["exchange"].values())

    one, two = Traced(near=1.0, far=1.0, pair=3.0), Uniform()
    alike, plain = exchange(one), exchange(two)
    assert exchange(PerKind((one, one))) == pytest.approx(alike, rel=1e-6)
    first, second = exchange(PerKind((one, two))), exchange(PerKind((two, one)))
    counts = [float(each.count) for each in model.blocks if each.block.experts is not None]
    share = counts[0] / sum(counts)
    assert first == pytest.approx(plain + share * (alike - plain), rel=1e-4)
    assert second == pytest.approx(alike - share * (alike - plain), rel=1e-4)


def test_routing_needs_experts_and_a_record_for_each_kind():
    dense = load_model("meta-llama/Llama-3.1-8B")
    with pytest.raises(InputError, match="routing: meta-llama/Llama-3.1-8B has no experts"):
        case_of(model=dense, plan=Parallelism(8), routing=Traced(rows=1.2))
    with pytest.raises(InputError, match="routing: tells 2 kinds of layers apart, and .* has 1"):
        case_of(routing=traced(rows=[1.2, 1.3]))


# ---- phases


@pytest.mark.parametrize("serving", [Serving(), Serving(256, mixed=True)], ids=["whole", "mixed"])
def test_phases_have_their_own_numbers(serving):
    """Prefill those of prompts, decode those of generated tokens; equal ones are one record, bit
    for bit. An iteration of both is between."""
    one, other = Traced(rows=1.8, far=0.7), Traced(rows=1.3, wire=1.4)
    case = case_of().replace(serving=serving)
    first, second, alike, both, reverse, half = (
        estimate(case.replace(routing=routing))
        for routing in (
            one,
            other,
            PerPhase(one, one),
            PerPhase(one, other),
            PerPhase(other, one),
            PerPhase(one, Uniform()),
        )
    )
    assert jax.tree.leaves(alike) == jax.tree.leaves(first)
    assert (both.ttft, both.tpot) == (first.ttft, second.tpot)
    assert (reverse.ttft, reverse.tpot) == (second.ttft, first.tpot)
    assert (half.ttft, half.tpot) == (first.ttft, estimate(case).tpot)
    if serving.mixed:
        ends = sorted((float(first.mixed_tpot), float(second.mixed_tpot)))
        assert ends[0] < float(both.mixed_tpot) < ends[1]


def test_kinds_and_phases_go_together():
    model = load_model("deepseek-ai/DeepSeek-V4-Flash")
    plan = Parallelism(1, expert=16, attention_data=16)
    one, other = traced(rows=[1.8, 1.3]), traced(rows=[1.2, 1.1])
    case = case_of(make_cluster(16), plan=plan, model=model)
    found = estimate(case.replace(routing=PerPhase(one, other)))
    assert found.ttft == estimate(case.replace(routing=one)).ttft
    assert found.tpot == estimate(case.replace(routing=other)).tpot


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ((Traced(slots=1.5), Traced(slots=1.25)), "slots: 1.25 in decode are not the 1.5 in"),
        ((Traced(slots=1.5), Uniform()), "slots: 1 in decode are not the 1.5 in prefill"),
        ((traced(rows=[1, 2]), traced(rows=[1, 2, 3])), "decode: tells 3 kinds .* prefill 2"),
        ((PowerLaw(0.5), Traced(rows=1.2)), "decode: a power law and .* have no mean"),
    ],
)
def test_phases_that_do_not_go_together_are_refused(phases, message):
    with pytest.raises(InputError, match=message):
        PerPhase(*phases)


@pytest.mark.parametrize("name", ["uniform", "traced", "kinds", "phases", "power"])
def test_records_of_one_structure_say_the_same(name):
    """What is left out stands there as a number, and estimates stay."""
    own, other = {
        "uniform": (Uniform(), Traced(rows=1.5, dispersion=1.2, slots=1.5)),
        "traced": (Traced(rows=1.2), Traced(variation=1.0, far=0.5, near=0.9)),
        "kinds": (Traced(rows=1.2), PerKind((Traced(variation=1.0),))),
        "phases": (Traced(rows=1.2), PerPhase(Uniform(), Traced(wire=1.5, pair=1.4, remote=0.5))),
        "power": (Uniform(), PowerLaw(0.5)),
    }[name]
    case = case_of()
    first, second = alike((own, other))
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for routing, same in ((own, first), (other, second)):
        one, two = (estimate(case.replace(routing=each)) for each in (routing, same))
        for metric in ("ttft", "tpot", "energy_per_output_token"):
            assert_close(getattr(two, metric), getattr(one, metric), rtol=2e-5)
