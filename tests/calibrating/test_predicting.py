"""Which question a benchmark asks: an open loop, a closed one, or a batch."""

import pytest
from support import make_cluster
from whole_models import DENSE

from diffgenz import (
    Benchmark,
    Engine,
    Load,
    Parallelism,
    Scenario,
    Serving,
    Workload,
    estimate,
    serve,
)
from diffgenz.calibrating.predicting import LATENCIES, predict

CHAT = Workload(batch=40.0, input_tokens=1500.0, output_tokens=200.0)


def case_of(workload=CHAT, **options) -> Scenario:
    return Scenario(DENSE, make_cluster(), workload, Parallelism(8), None, Serving(**options))


def asked(**said) -> Benchmark:
    return Benchmark("bench.json", "a tool", **said)


def check(found, expected):
    """A prediction is what `serve` says, to the last percentile."""
    for name in LATENCIES:
        mine, its = found.latencies[name], getattr(expected, name)
        assert mine.mean == float(its.mean)
        assert mine.percentiles == {50: float(its.p50), 90: float(its.p90), 99: float(its.p99)}
    assert found.throughput == float(expected.throughput)
    assert (found.note, found.fits) == ("", True)


def test_a_concurrency_is_a_closed_loop_of_as_many_requests_as_were_sent():
    case, engine = case_of(), Engine(host_seconds=1e-3)
    for said, requests in ((60, 60.0), (25, 25.0)):
        found = predict(asked(concurrency=40.0, completed=said), case, engine)
        check(found, serve(case, Load(concurrency=min(40.0, requests), requests=requests), engine))


def test_requests_of_one_length_stay_together_where_prompts_go_first():
    case = case_of()
    for engine, ratio, together in (("sglang", 1.0, True), ("sglang", 0.8, False)):
        said = asked(concurrency=40.0, engine=engine, range_ratio=ratio)
        load = Load(concurrency=40.0, requests=400.0, lockstep=together)
        check(predict(said, case, Engine()), serve(case, load, Engine(prefill_first=True)))
    said = asked(concurrency=40.0, engine="vllm", range_ratio=1.0)
    check(predict(said, case, Engine()), serve(case, Load(concurrency=40.0, requests=400.0)))


def test_a_rate_is_an_open_loop_unless_the_concurrency_limits_it():
    case, engine = case_of(), Engine()
    free = serve(case, Load(rate=20.0), engine)
    above, below = float(free.concurrency) * 1.01, float(free.concurrency) * 0.99
    check(predict(asked(rate=20.0, concurrency=above), case, engine), free)
    found = predict(asked(rate=20.0, concurrency=below), case, engine)
    check(found, serve(case, Load(concurrency=below, requests=10 * below), engine))


def test_slots_are_those_of_the_file_or_as_many_as_are_needed():
    case, unsaid = case_of(), Engine()
    many = asked(concurrency=400.0, completed=4000)
    assert "400 exceeds 256" in predict(many, case, unsaid).note
    more = serve(case, Load(concurrency=400.0, requests=4000.0), Engine(max_num_seqs=400.0))
    check(predict(many, case, unsaid, grows=True), more)
    few = asked(concurrency=40.0, slots=32.0)
    assert "40 exceeds 32" in predict(few, case, unsaid, grows=True).note
    huge = asked(concurrency=40.0, completed=400, slots=1e4)  # more than the budget has room for
    load = Load(concurrency=40.0, requests=400.0)
    check(predict(huge, case, unsaid), serve(case, load, Engine(max_num_seqs=4096.0)))


def test_bursts_of_a_rate_are_those_of_the_file():
    case = case_of()
    for bursts, modelled in ((4.0, 4.0), (0.0, 0.1)):
        found = predict(asked(rate=20.0, burstiness=bursts), case, Engine())
        check(found, serve(case, Load(rate=20.0, burstiness=modelled)))


@pytest.mark.parametrize(
    ("said", "case", "note"),
    [
        ({"rate": 1e5}, case_of(), "the deployment saturates at"),
        ({"concurrency": 300.0}, case_of(), "concurrency: 300 exceeds 256"),
        ({"rate": 1.0}, case_of(chunk=None), "chunk: whole prompts are not modelled"),
        (
            {"concurrency": 250.0},
            case_of(CHAT.replace(input_tokens=50_000.0, output_tokens=50_000.0)),
            "requests would be preempted",
        ),
        ({}, case_of(), ""),
    ],
)
def test_what_serve_does_not_answer_is_a_batch(said, case, note):
    found, alone = predict(asked(**said), case, Engine()), estimate(case)
    assert {name: latency.mean for name, latency in found.latencies.items()} == {
        name: float(getattr(alone, name)) for name in ("ttft", "tpot", "end_to_end")
    }
    assert all(not latency.percentiles for latency in found.latencies.values())
    assert found.throughput == float(alone.throughput)
    assert found.load is None
    assert note in found.note
    assert bool(note) == bool(found.note)
