"""A log replayed: the scheduler against the tests' own simulator, and a scenario by hand."""

import numpy as np
import pytest
from serving_simulator import LARGE, SMALL, lengths
from serving_simulator import Engine as Simulated
from support import make_cluster
from whole_models import DENSE

from diffgenz import (
    Engine,
    InputError,
    Load,
    Parallelism,
    Scenario,
    Serving,
    Speculation,
    Workload,
    replay,
    serve,
)
from diffgenz.serving.scheduler import Limits, Scheduler


@pytest.mark.parametrize("first", [False, True], ids=["chunks", "prefill_first"])
@pytest.mark.parametrize("clock", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(
    ("rate", "budget", "slots", "cache"),
    [
        (40.0, 2048, 64, np.inf),  # chunks of long prompts
        (1e9, 8192, 16, np.inf),  # a burst that waits for slots
        (1e9, 512, 64, 12_000),  # a cache that overflows: requests are put back
        (0.2, 2048, 8, np.inf),  # a server that is idle in between
    ],
)
def test_every_request_is_as_in_the_simulator(clock, rate, budget, slots, cache, first):
    rng, count = np.random.default_rng(5), 150
    arrivals = np.cumsum(rng.exponential(1 / rate, count))
    prompts = lengths("lognormal", 900, count, rng).astype(np.int64)
    outputs = lengths("lognormal", 60, count, rng).astype(np.int64)
    engine = Simulated(clock, budget, slots, cache, first)
    expected = engine.run(arrivals, prompts, outputs)
    limits = Limits(budget, slots, cache, first)
    found = Scheduler(clock, limits, arrivals, prompts, outputs, np.zeros_like(prompts)).run()
    np.testing.assert_allclose(found.first, [each.first for each in expected], rtol=1e-9)
    np.testing.assert_allclose(found.last, [each.last for each in expected], rtol=1e-9)
    assert found.preemptions == engine.preemptions
    assert (found.preemptions > 0) == np.isfinite(cache)


def test_prompts_that_go_first_hold_up_decodes():
    case, log = case_of(), ([0.0, 0.05, 0.1], [100, 9000, 9000], [200, 20, 20])
    beside, first = replay(case, *log), replay(case, *log, Engine(prefill_first=True))
    assert first.ttft[1:].max() < beside.ttft[1:].max() * 1.01
    assert first.tpot[0] > beside.tpot[0]
    with pytest.raises(InputError, match="speculation: not modelled in a replay"):
        replay(case_of(speculation=Speculation(2, 0.5)), *log)


def case_of(plan=None, **options):
    plan = Parallelism(8) if plan is None else plan
    return Scenario(DENSE, make_cluster(), Workload(), plan, None, Serving(**options))


def test_requests_that_never_meet_are_those_of_one_at_a_time():
    case = case_of().replace(workload=Workload(input_tokens=1500.0, output_tokens=200.0))
    alone = serve(case, Load(concurrency=1))
    found = replay(case, [100.0, 0.0, 200.0], [1500] * 3, [200] * 3)
    assert found.ttft == pytest.approx([float(alone.ttft.mean)] * 3, rel=1e-2)
    assert found.tpot == pytest.approx([float(alone.tpot.mean)] * 3, rel=1e-2)
    assert found.end_to_end == pytest.approx(found.ttft + 199 * found.tpot, rel=1e-9)
    assert found.makespan == pytest.approx(200 + found.end_to_end[2], rel=1e-9)
    assert found.throughput == pytest.approx(600 / found.makespan, rel=1e-9)


def test_replicas_take_requests_in_turn_and_cached_prefixes_save_time():
    two, one = case_of(Parallelism(4, data=2)), case_of(Parallelism(4))
    both = replay(two, [0.0] * 4, [1000, 2000, 3000, 500], [20] * 4)
    for turn, prompts in enumerate(([1000, 3000], [2000, 500])):
        own = replay(one, [0.0] * 2, prompts, [20] * 2)
        assert both.ttft[turn::2] == pytest.approx(own.ttft, rel=1e-2)
    plain = replay(one, [0.0], [4000], [20])
    cached = replay(case_of(Parallelism(4), prefix_hit=0.75), [0.0], [4000], [20])
    assert cached.ttft[0] < 0.5 * plain.ttft[0]
    assert cached.tpot[0] == pytest.approx(plain.tpot[0], rel=1e-2)


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (([], [], []), "arrivals, prompts, outputs: 0, 0, 0 numbers"),
        (([0.0], [5, 6], [7]), "arrivals, prompts, outputs: 1, 2, 1 numbers"),
        (([-1.0], [5], [7]), "arrivals: -1"),
        (([0.0], [5.5], [7]), "prompts: 5.5"),
        (([0.0], [5], [0]), "outputs: 0"),
        (([0.0], [5], [1]), "outputs: 1 token each"),
        (([0.0], [2e9], [7]), "prompts: the cache has room for"),
    ],
)
def test_logs_that_make_no_sense(log, said):
    arrivals, prompts, outputs = log
    with pytest.raises(InputError, match=said):
        replay(case_of(), arrivals, prompts, outputs, Engine())
