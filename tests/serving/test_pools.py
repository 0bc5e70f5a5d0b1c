"""Prefill and decode pools under a load, against simulated ones, and their laws."""

import numpy as np
import pytest
from mean_field_cases import demand_for
from serving_simulator import CLOCKS, lengths, two_pools
from support import make_cluster
from whole_models import DENSE

from diffgenz import (
    Engine,
    InputError,
    Load,
    Objectives,
    Parallelism,
    Pool,
    Scenario,
    Serving,
    Speculation,
    Workload,
    best_pools,
    disaggregate,
    max_rate,
    serve_disaggregated,
)
from diffgenz.core.errors import NoSolution
from diffgenz.core.verb import as_if_traced
from diffgenz.serving.disaggregated_load import figures_of
from diffgenz.serving.iteration_table import CHUNKS, DECODES, LEAST, IterationTable
from diffgenz.serving.pools import Pools

CASES = [
    # clocks, kind, prompt, output, budget, slots, workers, s of the link for each token
    (("small", "large"), "constant", 2048, 128, 8192, 64, (2, 1), 2e-6),
    (("large", "small"), "lognormal", 1024, 256, 2048, 256, (1, 2), 40e-6),
    (("small", "small"), "lognormal", 512, 64, 2048, 16, (1, 2), 1e-6),
]


IDS = ["prefill", "link", "slots"]


def pools_for(case) -> Pools:
    """The pools of a case."""
    (first, second), kind, prompt, output, budget, slots, workers, link = case
    demand = demand_for(kind, prompt, output)
    some = slots ** (np.arange(DECODES) / (DECODES - 1))
    tokens = LEAST * (budget / LEAST) ** (np.arange(CHUNKS) / (CHUNKS - 1))
    alone = np.log(CLOCKS[first](0, 0, tokens, tokens * demand.pairs))
    table = IterationTable(
        slots=np.float64(slots),
        budget=np.float64(budget),
        alone=np.log(CLOCKS[second](some, some * demand.context, 0, 0)),
        mixed=np.broadcast_to(alone, (DECODES, CHUNKS)),
        pair=np.float64(CLOCKS[first].pair),
    )
    return Pools(
        demand=demand,
        fine=demand_for(kind, prompt, output, fine=True),
        table=table,
        slots=np.float64(slots),
        cache=np.float64(1e9),
        prefills=np.float64(workers[0]),
        decodes=np.float64(workers[1]),
        transfer=np.float64(link),
        latency=np.float64(1e-3),
    )


def simulated(case, rate, count):
    """Mean TTFT, P99 of it, mean TPOT and end to end, and the standard error of mean TTFT."""
    clocks, kind, prompt, output, budget, slots, workers, link = case
    rng = np.random.default_rng(5)
    arrivals = np.cumsum(rng.exponential(1 / rate, count))
    prompts, outputs = lengths(kind, prompt, count, rng), lengths(kind, output, count, rng)
    times = [CLOCKS[clock] for clock in clocks]
    first, last = two_pools(
        times, workers, budget, slots, (link, 1e-3), arrivals, prompts, outputs, rng
    )
    kept = slice(int(0.15 * count), int(0.925 * count))
    ttft = (first - arrivals)[kept]
    tpot = ((last - first) / (outputs - 1))[kept]
    batches = np.array([each.mean() for each in np.array_split(ttft, 20)])
    error = batches.std(ddof=1) / np.sqrt(20)
    whole = (last - arrivals)[kept].mean()
    return ttft.mean(), np.percentile(ttft, 99), tpot.mean(), whole, error


def found_for(pools, rate):
    """The same of the mean field."""
    with as_if_traced():
        result = figures_of(pools, Load(rate=rate), None).result
    figures = result.ttft.mean, result.ttft.p99, result.tpot.mean, result.end_to_end.mean
    return [float(each) for each in figures], float(result.residual)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_it_agrees_with_simulated_pools(case):
    """Mean TTFT within 8 % and two standard errors, TPOT 2 %, end to end 4 %, P99 TTFT 25 %."""
    pools = pools_for(case)
    with as_if_traced():
        most = float(np.min(pools.sustained))
    for share, count in ((0.2, 1200), (0.7, 3000)):
        ttft, tail, tpot, whole, error = simulated(case, share * most, count)
        (own_ttft, own_tail, own_tpot, own_whole), residual = found_for(pools, share * most)
        assert residual < 1e-6
        assert abs(own_ttft - ttft) < 0.08 * ttft + 2 * error, (share, own_ttft, ttft, error)
        assert abs(own_tpot / tpot - 1) < 0.02, (share, own_tpot, tpot)
        assert abs(own_tail / tail - 1) < 0.25, (share, own_tail, tail)
        assert abs(own_whole - whole) < 0.04 * whole + 2 * error, (share, own_whole, whole)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_the_slowest_stage_saturates_where_it_is_said_to(case):
    """Where all requests arrive at once, the middle ones leave at the rate of saturation."""
    pools = pools_for(case)
    with as_if_traced():
        most = float(np.min(pools.sustained))
    clocks, kind, prompt, output, budget, slots, workers, link = case
    rng, count = np.random.default_rng(3), 2500
    asked = (lengths(kind, mean, count, rng) for mean in (prompt, output))
    times = [CLOCKS[clock] for clock in clocks]
    _, last = two_pools(times, workers, budget, slots, (link, 1e-3), np.zeros(count), *asked, rng)
    ends = np.sort(last)[[int(0.25 * count), int(0.75 * count)]]
    assert abs(0.5 * count / (ends[1] - ends[0]) / most - 1) < 0.04


CHAT = Workload(batch=8, input_tokens=3000, output_tokens=200)
CASE = Scenario(DENSE, make_cluster(8), CHAT)
PREFILL = Pool(make_cluster(16), Parallelism(4), 3)
DECODE = Pool(make_cluster(64), Parallelism(8), 2)


def test_an_idle_load_takes_the_phases_and_latencies_grow():
    link = {"link_bandwidth": 5e10, "link_latency": 1e-3}
    phases = disaggregate(CASE, PREFILL, DECODE, **link)
    idle = serve_disaggregated(CASE, Load(rate=1e-3), PREFILL, DECODE, **link)
    assert np.isclose(float(idle.result.ttft.mean), float(phases.ttft), rtol=0.02)
    assert np.isclose(float(idle.transfer), float(phases.transfer), rtol=1e-5)
    assert np.allclose(idle.sustained[1], phases.sustained[1], rtol=1e-5)
    alone = disaggregate(CASE.replace(workload=CHAT.replace(batch=1)), PREFILL, DECODE, **link)
    assert np.isclose(float(idle.result.tpot.mean), float(alone.tpot), rtol=0.01)
    most = float(idle.result.saturation_rate)
    found = [
        serve_disaggregated(CASE, Load(rate=share * most), PREFILL, DECODE, **link).result
        for share in (0.3, 0.9)
    ]
    for name in ("ttft", "tpot", "end_to_end"):
        assert np.all(np.diff([float(getattr(each, name).mean) for each in found]) > 0)


def test_what_pools_cannot_serve():
    link = {"link_bandwidth": 5e10}
    with pytest.raises(InputError, match="rate: 1e\\+06 requests/s are too many; the .* stage"):
        serve_disaggregated(CASE, Load(rate=1e6), PREFILL, DECODE, **link)
    with pytest.raises(InputError, match="concurrency: pools are modelled at a rate"):
        serve_disaggregated(CASE, Load(concurrency=4), PREFILL, DECODE, **link)
    guessing = CASE.replace(serving=Serving(speculation=Speculation(2, 0.5)))
    with pytest.raises(InputError, match="speculation: not modelled in pools"):
        serve_disaggregated(guessing, Load(rate=1.0), PREFILL, DECODE, **link)
    first = Engine(prefill_first=True)
    with pytest.raises(InputError, match="prefill_first: not modelled in pools"):
        serve_disaggregated(CASE, Load(rate=1.0), PREFILL, DECODE, **link, engine=first)
    small = Pool(make_cluster(8), Parallelism(1))
    long = CASE.replace(workload=Workload(input_tokens=30e6, output_tokens=200))
    with pytest.raises(InputError, match="memory: the weights"):
        serve_disaggregated(long, Load(rate=1e-4), PREFILL, small, **link)
    slow = serve_disaggregated(CASE, Load(rate=1e-3), PREFILL, DECODE, link_bandwidth=1e6)
    assert slow.bottleneck == "transfer"
    given = serve_disaggregated(
        CASE, Load(rate=5.0), PREFILL, DECODE, **link, objectives=Objectives(ttft=1e3)
    ).result
    assert np.isclose(float(given.goodput), 5.0)


def test_the_best_split_is_that_of_all_that_can_be_tried():
    """Each split is also served by itself, just below and just above its highest rate."""
    prefill, decode = Pool(make_cluster(8), Parallelism(2)), Pool(make_cluster(8), Parallelism(4))
    link = {"link_bandwidth": 5e10}
    idle = serve_disaggregated(CASE, Load(rate=1e-3), prefill, decode, **link).result
    promise = Objectives(ttft=2 * float(idle.ttft.mean), tpot=1.5 * float(idle.tpot.mean))
    found = best_pools(CASE, promise, prefill, decode, accelerators=8, per="total", **link)
    assert found[0].rate == max(each.rate for each in found)
    assert all(each.accelerators == 2 * each.prefill + 4 * each.decode for each in found)
    best = found[0]
    for p, d in {(2, 1), (1, 1)} - {(best.prefill, best.decode)}:
        pools = prefill.replace(workers=p), decode.replace(workers=d)
        most = float(serve_disaggregated(CASE, Load(rate=1e-3), *pools, **link).sustained.min())
        if most > best.rate:
            high = Load(rate=1.001 * best.rate)
            result = serve_disaggregated(CASE, high, *pools, **link).result
            limits = promise.limits.items()
            assert any(float(getattr(result, name).mean) > limit for name, limit in limits)
    pools = prefill.replace(workers=best.prefill), decode.replace(workers=best.decode)
    just = serve_disaggregated(CASE, Load(rate=0.999 * best.rate), *pools, **link).result
    assert all(float(getattr(just, name).mean) <= limit for name, limit in promise.limits.items())
    alone = [
        float(max_rate(CASE.replace(platform=each.platform, plan=each.plan), promise))
        for each in pools
    ]
    together = best.prefill * alone[0] + best.decode * alone[1]
    assert np.isclose(best.aggregated, together, rtol=1e-5)


def test_splits_that_cannot_be():
    pools, link = (PREFILL, DECODE), {"link_bandwidth": 5e10}
    loose = Objectives(ttft=10.0)
    with pytest.raises(InputError, match="accelerators: 8 are too few; .* takes 4 \\+ 8"):
        best_pools(CASE, loose, *pools, accelerators=8, **link)
    with pytest.raises(InputError, match="per: 'gpu' is not known"):
        best_pools(CASE, loose, *pools, accelerators=16, per="gpu", **link)
    with pytest.raises(NoSolution, match="no split meets them"):
        best_pools(CASE, Objectives(ttft=1e-7), *pools, accelerators=12, **link)
