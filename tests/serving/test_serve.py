"""Laws of serving under load, and what is refused."""

import dataclasses
import functools
from typing import Any

import numpy as np
import pytest
from support import make_cluster
from whole_models import DENSE, EXPERTS, HYBRID

from diffgenz import (
    Constant,
    Decodes,
    Empirical,
    Engine,
    InputError,
    Load,
    Lognormal,
    Objectives,
    Parallelism,
    Prompts,
    Scenario,
    Serving,
    Speculation,
    Workload,
    estimate,
    iteration_cost,
    max_concurrency,
    max_rate,
    serve,
)
from diffgenz.core.verb import as_if_traced
from diffgenz.inference.resolved import resolved
from diffgenz.serving.engine_state import engine_state
from diffgenz.serving.figures import load_result
from diffgenz.serving.saturation import FILLED, saturation_of
from diffgenz.serving.serve import saturation_rate

CLUSTER = make_cluster()
CHAT = Workload(input_tokens=1500, output_tokens=200)


def case_of(model=DENSE, plan=None, workload=CHAT, **options):
    plan = Parallelism(8) if plan is None else plan
    return Scenario(model, CLUSTER, workload, plan, None, Serving(**options))


SPECULATION = Speculation(2, 0.7)
GUESSED = case_of(speculation=SPECULATION)

CASES = {
    "dense": case_of(),
    "replicas": case_of(plan=Parallelism(4, data=2)),
    "stages": case_of(plan=Parallelism(4, pipeline=2)),
    "small budget": case_of(chunk=1024),
    "cached prefix": case_of(prefix_hit=0.6),
    "experts": case_of(EXPERTS, Parallelism(2, attention_data=2)),
    "states": case_of(HYBRID, Parallelism(4)),
}
each_case = pytest.mark.parametrize("name", CASES)
LENGTHS = {
    "constant": Constant(),
    "lognormal": Lognormal(0.9),
    "trace": Empirical([100, 250, 800, 1200, 5000, 900, 40]),
}


@functools.cache
def state_for(name, lengths="constant"):
    """The engine of a case, tabulated once for all tests."""
    load = Load(rate=1.0, prompts=LENGTHS[lengths], outputs=LENGTHS[lengths])
    with as_if_traced():
        return engine_state(resolved(CASES[name]), load, Engine(max_num_seqs=256))


def with_slots(state, count):
    """The same engine with as many slots."""
    slots: Any = np.float64(count)
    with as_if_traced():
        most = saturation_of(state.table, state.demand, slots, state.most.cache / FILLED)
    return dataclasses.replace(state, most=most, slots=slots)


def under(state, **options):
    """The figures under a load; a share is one of the saturation rate."""
    if "share" in options:
        options["rate"] = float(options.pop("share") * state.most.rate * state.engines)
    load = Load(**options)
    with as_if_traced():
        return load_result(state, state.under(load), load, None)


def at(case, share, **options):
    """The figures at a share of the saturation rate of equal lengths."""
    most = float(saturation_rate(case, Load(rate=1.0)))
    return serve(case, Load(rate=share * most, **options))


@each_case
def test_latencies_grow_with_the_rate_and_diverge_at_saturation(name):
    state = state_for(name)
    found = [under(state, share=share) for share in (0.01, 0.3, 0.6, 0.8, 0.9)]
    for latency in ("ttft", "tpot", "end_to_end"):
        for kind in ("mean", "p99"):
            values = [float(getattr(getattr(each, latency), kind)) for each in found]
            assert np.all(np.diff(values) > 0), (latency, kind, values)
    assert under(state, share=0.9985).ttft.mean > 3 * found[-2].ttft.mean


@each_case
def test_percentiles_are_in_order(name):
    state = state_for(name)
    for found in (under(state, share=0.6), under(state, concurrency=20)):
        for latency in ("ttft", "tpot", "itl", "end_to_end"):
            its = getattr(found, latency)
            assert its.p50 <= its.p90 <= its.p99, latency


@pytest.mark.parametrize("name", ["dense", "small budget", "cached prefix", "states", "stages"])
def test_one_request_at_a_time_takes_the_phases(name):
    """Of a small budget, half-filled chunks take less than the mean chunk; of a pipeline's prompts,
    those of the other engines are waited for."""
    case = CASES[name]
    found, alone = serve(case, Load(concurrency=1)), estimate(case)
    assert found.tpot.mean == pytest.approx(alone.tpot, rel=5e-3)
    if name != "small budget":
        rel = 2e-2 if name == "stages" else 5e-3
        assert found.ttft.mean == pytest.approx(alone.ttft, rel=rel)


@pytest.mark.parametrize(
    ("name", "lengths"),
    [
        *((name, "constant") for name in CASES),
        *((name, lengths) for name in ("dense", "experts") for lengths in ("lognormal", "trace")),
    ],
)
def test_littles_law(name, lengths):
    """Requests of a kind, in the mean over time, are their rate times the time that they take."""
    state = state_for(name, lengths)
    for share in (0.05, 0.5, 0.85):
        found = under(state, share=share)
        assert found.residual < 1e-6
        decoding = found.end_to_end.mean - found.ttft.mean
        assert found.running == pytest.approx(found.requests_per_second * decoding, rel=1e-6)
        under_way = found.requests_per_second * found.end_to_end.mean
        assert found.concurrency == pytest.approx(under_way, rel=1e-6)


@each_case
@pytest.mark.parametrize("concurrency", [2, 24, 100])
def test_littles_law_in_a_closed_loop(name, concurrency):
    found = under(state_for(name), concurrency=concurrency)
    under_way = found.requests_per_second * found.end_to_end.mean
    assert under_way == pytest.approx(concurrency, rel=1e-6)


@each_case
def test_both_loops_agree_where_nobody_waits_and_where_all_do(name):
    state = state_for(name)
    idle, one = under(state, share=1e-5), under(state, concurrency=float(state.engines))
    assert idle.ttft.mean == pytest.approx(one.ttft.mean, rel=1e-2)
    assert idle.tpot.mean == pytest.approx(one.tpot.mean, rel=1e-2)
    state = with_slots(state, 32)
    crowd = under(state, concurrency=float(state.slots * state.engines))
    most = state.most.rate * state.engines
    assert crowd.requests_per_second == pytest.approx(most, rel=0.06)


@pytest.mark.parametrize(("prompt", "answer"), [(30000, 2), (30000, 16), (6000, 2), (40, 2)])
def test_laws_of_long_prompts_and_short_answers(prompt, answer):
    """Prompts of several budgets fill all iterations, beside hardly any decode."""
    case = case_of(workload=Workload(input_tokens=prompt, output_tokens=answer), chunk=8192)
    phases = estimate(case)
    with as_if_traced():
        state = engine_state(resolved(case), Load(concurrency=1), Engine(max_num_seqs=64))
    for count in (1, 2, 3, 8, 64):
        found = under(state, concurrency=count)
        each = found.requests_per_second
        assert found.residual < 1e-6
        assert each * found.end_to_end.mean == pytest.approx(count, rel=1e-6)
        decoding = found.end_to_end.mean - found.ttft.mean
        assert found.running == pytest.approx(each * decoding, rel=1e-6)
        if count == 1:
            # pieces of a prompt are tabulated in the mean of their keys
            assert found.ttft.mean == pytest.approx(phases.ttft, rel=1e-2)
            assert found.tpot.mean == pytest.approx(phases.tpot, rel=5e-3)


@each_case
def test_solved_up_to_saturation(name):
    """Little's law to a thousandth of saturation, and latencies that grow up to there."""
    state = state_for(name)
    found = [under(state, share=share) for share in (0.9, 0.95, 0.98, 0.99, 0.995, 0.998)]
    assert max(float(each.residual) for each in found) < 1e-6
    for latency in ("ttft", "tpot"):
        means = [float(getattr(each, latency).mean) for each in found]
        assert np.all(np.diff(means) > 0), latency


def test_one_slot_is_a_queue():
    """Requests one after the other wait as Pollaczek and Khinchine say of a single server."""
    engine = Engine(max_num_seqs=1)
    alone = serve(CASES["dense"], Load(concurrency=1), engine)
    whole = float(alone.end_to_end.mean)
    assert alone.requests_per_second == pytest.approx(1 / whole, rel=1e-6)
    most = saturation_rate(CASES["dense"], Load(rate=1.0), engine)
    assert most == pytest.approx(1 / whole, rel=1e-2)
    for share in (0.3, 0.8):
        found = serve(CASES["dense"], Load(rate=share / whole), engine)
        wait = whole * share / (2 * (1 - share))
        assert found.ttft.mean == pytest.approx(alone.ttft.mean + wait, rel=0.06)
        assert found.tpot.mean == pytest.approx(alone.tpot.mean, rel=0.02)


def test_replicas_share_the_load():
    """Two replicas take twice the rate, at the same latencies."""
    one = case_of(plan=Parallelism(4))
    two = CASES["replicas"]
    alone, both = serve(one, Load(rate=3.0)), serve(two, Load(rate=6.0))
    assert both.ttft.mean == pytest.approx(alone.ttft.mean, rel=1e-6)
    assert both.saturation_rate == pytest.approx(2 * alone.saturation_rate, rel=1e-6)
    assert both.throughput == pytest.approx(2 * alone.throughput, rel=1e-6)


@pytest.mark.parametrize("decodes", [2, 11, 50, 200])
@pytest.mark.parametrize("tokens", [100, 900, 1500, 6000])
def test_tabulated_iterations_are_those_of_the_model(decodes, tokens):
    """Between knots, with pieces of prompts, whole ones and several."""
    case, state = CASES["dense"], state_for("dense")
    sequences, size = max(1, tokens / 1500), min(tokens, 1500)
    prompts = Prompts(sequences, size, (1500 - size) / 2)
    running = Decodes(decodes, float(state.demand.context))
    expected = iteration_cost(case, prompts, running).seconds
    count: Any = np.float64(decodes)
    assert state.table.both(count, np.float64(tokens)) == pytest.approx(expected, rel=1e-2)
    alone = iteration_cost(case, None, running).seconds
    assert state.table.decodes(count) == pytest.approx(alone, rel=1e-2)


@pytest.mark.parametrize(
    ("case", "engine"),
    [(GUESSED, Engine()), (case_of(), Engine(prefill_first=True))],
    ids=["speculation", "prefill_first"],
)
def test_other_policies_have_the_same_laws(case, engine):
    """One request takes the phases; Little's law; latency grows, and diverges at saturation."""
    alone, phases = serve(case, Load(concurrency=1), engine), estimate(case)
    assert alone.ttft.mean == pytest.approx(phases.ttft, rel=5e-3)
    assert alone.tpot.mean == pytest.approx(phases.tpot, rel=1.5e-2)
    most = float(saturation_rate(case, Load(rate=1.0), engine))
    found = [serve(case, Load(rate=share * most), engine) for share in (0.05, 0.4, 0.8, 0.998)]
    for each in found[:3]:
        under_way = each.requests_per_second * each.end_to_end.mean
        assert each.residual < 1e-6
        assert each.concurrency == pytest.approx(under_way, rel=1e-6)
        assert each.ttft.p50 <= each.ttft.p90 <= each.ttft.p99
        assert each.itl.p50 <= each.itl.p90 <= each.itl.p99
    for name in ("ttft", "tpot", "end_to_end"):
        assert np.all(np.diff([float(getattr(each, name).mean) for each in found]) > 0), name
    assert found[-1].ttft.mean > 3 * found[-2].ttft.mean
    idle = serve(case, Load(rate=1e-4 * most), engine)
    assert idle.ttft.mean == pytest.approx(alone.ttft.mean, rel=1e-2)
    crowd = serve(case, Load(concurrency=256.0), engine)
    assert crowd.requests_per_second == pytest.approx(most, rel=0.06)


def test_certain_drafts_divide_the_time_between_tokens():
    """All of d drafts accepted, proposed for nothing: each verification gives d + 1 tokens."""
    plain = serve(case_of(), Load(concurrency=1))
    sure = serve(case_of(speculation=Speculation(3, 1.0)), Load(concurrency=1))
    assert sure.tpot.mean == pytest.approx(plain.tpot.mean / 4, rel=0.03)
    none = serve(case_of(speculation=Speculation(3, 0.0)), Load(concurrency=1))
    assert none.tpot.mean == pytest.approx(plain.tpot.mean, rel=0.02)


def test_bursts_and_longer_tails_wait_longer():
    state = state_for("dense")
    plain, bursty = under(state, share=0.6), under(state, share=0.6, burstiness=4.0)
    assert bursty.ttft.mean > plain.ttft.mean
    varied = under(state_for("dense", "lognormal"), share=0.6)
    assert varied.ttft.p99 > plain.ttft.p99


def test_a_trace_is_its_own_mean():
    """Lengths that are all alike are constant, whatever the workload says."""
    tokens = Empirical([1500] * 50)
    load = Load(rate=2.0, prompts=tokens)
    short = case_of(workload=CHAT.replace(input_tokens=10.0))
    found, expected = serve(short, load), serve(case_of(), Load(rate=2.0))
    assert found.ttft.mean == pytest.approx(expected.ttft.mean, rel=1e-6)


def test_a_benchmark_starts_with_a_burst():
    """Its first requests arrive at once: on average half of them are prefilled before one."""
    case = CASES["dense"]
    steady = serve(case, Load(concurrency=20))
    short = serve(case, Load(concurrency=20, requests=40))
    long = serve(case, Load(concurrency=20, requests=2000))
    assert short.ttft.mean > long.ttft.mean > steady.ttft.mean
    excess = [float(each.ttft.mean - steady.ttft.mean) for each in (short, long)]
    assert excess[0] / excess[1] == pytest.approx(50, rel=1e-3)


def test_goodput_counts_what_meets_the_objectives():
    case, load = CASES["dense"], Load(rate=20.0)
    found = serve(case, load)
    for limit, least, most in ((found.ttft.p99, 0.97, 1.0), (found.ttft.p50, 0.45, 0.55)):
        good = serve(case, load, objectives=Objectives(ttft=float(limit))).goodput
        assert good is not None
        assert least <= good / found.requests_per_second <= most
    none = serve(case, load, objectives=Objectives(ttft=1e-6)).goodput
    assert none is not None
    assert none < 1e-6


@pytest.mark.parametrize("of", ["mean", "p90"])
def test_the_highest_load_meets_the_objectives_just_so(of):
    case = CASES["dense"]
    slow = at(case, 0.7)
    objectives = Objectives(tpot=float(getattr(slow.tpot, of)))
    rate = max_rate(case, objectives, of=of)
    assert rate == pytest.approx(slow.requests_per_second, rel=1e-4)
    count = max_concurrency(case, objectives, of=of)
    found = serve(case, Load(concurrency=float(count)))
    assert getattr(found.tpot, of) == pytest.approx(objectives.tpot, rel=1e-4)


def test_the_highest_load_meets_each_of_several_objectives():
    case = CASES["dense"]
    shares = {"ttft": 0.3, "tpot": 0.5, "end_to_end": 0.7}  # the first one limits the load
    limits = {name: float(getattr(at(case, x), name).p90) for name, x in shares.items()}
    rate = max_rate(case, Objectives(**limits), of="p90")
    assert rate == pytest.approx(at(case, 0.3).requests_per_second, rel=1e-4)
    assert rate == max_rate(case, Objectives(ttft=limits["ttft"]), of="p90")


def test_objectives_out_of_reach():
    case = CASES["dense"]
    assert max_rate(case, Objectives(ttft=1e-9)) == 0
    assert max_concurrency(case, Objectives(tpot=1e-9)) == 0
    most = saturation_rate(case, Load(rate=1.0))
    assert max_rate(case, Objectives(ttft=1e9)) == pytest.approx(most, rel=2e-3)
    assert max_concurrency(case, Objectives(ttft=1e9)) == pytest.approx(256)


@pytest.mark.parametrize(
    ("case", "load", "engine", "said"),
    [
        (case_of(), Load(rate=1e5), None, "rate: 1e.05 .* saturates at "),
        (case_of(), Load(concurrency=300), None, "concurrency: 300 exceeds 256"),
        (case_of(), Load(concurrency=9), Engine(max_num_seqs=8), "concurrency: 9 exceeds 8"),
        (case_of(chunk=None), Load(rate=1.0), None, "chunk: whole prompts"),
        (case_of(chunk=16), Load(rate=1.0), None, "chunk: 16 is below"),
        (case_of(chunk=300), Load(rate=1.0), None, "chunk: 300 is below 512"),
        (GUESSED, Load(concurrency=2.0, lockstep=True), None, "lockstep: with speculation"),
        (case_of(chunk=600, speculation=SPECULATION), Load(rate=1.0), None, "chunk: .* drafts"),
        (case_of(workload=CHAT.replace(output_tokens=1.0)), Load(rate=1.0), None, "output_tokens"),
        (case_of(workload=Workload(1, 1e8, 2)), Load(rate=1e-6), None, "memory: the weights of"),
    ],
)
def test_refused(case, load, engine, said):
    with pytest.raises(InputError, match=said):
        serve(case, load, engine)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "load: give either"),
        ({"rate": 1.0, "concurrency": 2.0}, "load: give either"),
        ({"rate": 0.0}, "rate: 0"),
        ({"rate": 1.0, "requests": 10.0}, "requests: needs a concurrency"),
        ({"rate": 1.0, "lockstep": True}, "lockstep: needs a concurrency"),
        ({"concurrency": 8.0, "requests": 4.0}, "requests: 4 are fewer"),
        ({"concurrency": 8.0, "lockstep": True, "prompts": Lognormal()}, "lockstep: lengths"),
        ({"concurrency": 0.0}, "concurrency: 0"),
        ({"rate": 1.0, "burstiness": 0.0}, "burstiness: 0"),
    ],
)
def test_loads_that_make_no_sense(options, said):
    with pytest.raises(InputError, match=said):
        Load(**options)


def test_lengths_and_objectives_that_make_no_sense():
    with pytest.raises(InputError, match="lengths: a trace of no requests"):
        Empirical([])
    with pytest.raises(InputError, match="lengths: 0 is not allowed"):
        Empirical([3, 0])
    with pytest.raises(InputError, match="objectives: none given"):
        Objectives()
    with pytest.raises(InputError, match="of: 'p95' is not known"):
        max_rate(CASES["dense"], Objectives(ttft=1.0), of="p95")
