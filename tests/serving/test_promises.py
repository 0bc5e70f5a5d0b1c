"""Replicas for a load, routers, and the probability of meeting objectives."""

import jax
import numpy as np
import pytest
from support import make_cluster
from whole_models import DENSE

from diffgenz import (
    Engine,
    InputError,
    Load,
    Objectives,
    Parallelism,
    Scenario,
    Workload,
    load_platform,
    max_rate,
    probability_of_meeting,
    replicas_for,
    serve,
)
from diffgenz.core.differences import as_double, in_double
from diffgenz.core.errors import NoSolution
from diffgenz.inference.uncertainty import drawn_library, steps_of, uncertain_in, with_kernels
from diffgenz.serving.serve import saturation_rate

CHAT = Workload(input_tokens=1500, output_tokens=200)
CASE = Scenario(DENSE, make_cluster(), CHAT, Parallelism(4))
IDLE = serve(CASE, Load(rate=1e-3))
PROMISE = Objectives(ttft=2.5 * float(IDLE.ttft.p90), tpot=1.6 * float(IDLE.tpot.p90))


def meets(result, of):
    limits = PROMISE.limits.items()
    return all(float(getattr(getattr(result, name), of)) <= limit for name, limit in limits)


@pytest.mark.parametrize(
    ("load", "router"),
    [(Load(rate=2e3, burstiness=4.0), "round_robin"), (Load(concurrency=3e3), "random")],
)
def test_one_replica_fewer_misses_the_objectives(load, router):
    engine = Engine(router=router)
    found = replicas_for(CASE, load, PROMISE, engine)
    assert found.count > 2
    for count, good in ((found.count, True), (found.count - 1, False)):
        each = serve(CASE, load.share_of(count, router), engine)
        assert meets(each, "mean") is good
    assert float(found.each.ttft.p99) == float(serve(CASE, found.share, engine).ttft.p99)


def test_replicas_of_poisson_arrivals_are_the_rate_over_the_highest_one():
    most = float(max_rate(CASE, PROMISE))
    for rate in (2.999 * most, 3.001 * most):
        assert replicas_for(CASE, Load(rate=rate), PROMISE).count == np.ceil(rate / most)


def test_replicas_are_those_of_a_plan_with_as_many():
    """A deployment of two replicas is two deployments of one, whatever the arrivals."""
    engine = Engine(router="round_robin")
    load = Load(rate=600.0, burstiness=3.0)
    both = serve(CASE.replace(plan=Parallelism(4, data=2)), load, engine)
    one = serve(CASE, load.share_of(2, "round_robin"), engine)
    assert np.isclose(float(both.ttft.p99), float(one.ttft.p99), rtol=1e-5)
    assert np.isclose(float(both.throughput), 2 * float(one.throughput), rtol=1e-5)


@pytest.mark.parametrize("bursts", [0.4, 4.0])
def test_routers_thin_arrivals_as_drawn_ones_are_thinned(bursts):
    rng = np.random.default_rng(1)
    gaps = rng.gamma(1 / bursts, bursts / 6.0, 200_000)
    times, load = np.cumsum(gaps), Load(rate=6.0, burstiness=bursts)
    for router, mine in (
        ("random", times[rng.random(times.size) < 1 / 3]),
        ("round_robin", times[::3]),
    ):
        share, apart = load.share_of(3, router), np.diff(mine)
        assert np.isclose(float(share.rate), 1 / apart.mean(), rtol=0.02)
        assert np.isclose(float(share.burstiness), apart.var() / apart.mean() ** 2, rtol=0.05)


def test_out_of_reach_of_any_number_of_replicas():
    with pytest.raises(NoSolution, match="all but idle"):
        replicas_for(CASE, Load(rate=10.0), Objectives(ttft=1e-6))
    with pytest.raises(InputError, match="router: 'fair' is not known"):
        Engine(router="fair")


FITTED = Scenario(DENSE, load_platform("h100_sxm", accelerators=4), CHAT, Parallelism(4))
MOST = float(saturation_rate(FITTED, Load(rate=1.0)))


def test_draws_are_what_serve_says_of_each_of_them():
    """Each draw is a platform of its own; the limit is the middle of what `serve` finds there."""
    load, draws = Load(rate=0.6 * MOST), 3
    essence, library, fits = uncertain_in(FITTED, "test")
    found = []
    for i in range(draws):
        with in_double():
            many = drawn_library(library, fits, steps_of(fits, draws, 3))
            one = with_kernels(as_double(essence), _row(many, i, draws))
        found.append(float(serve(one, load).ttft.p90))
    for limit, share in ((np.median(found) * 1.00001, 2 / 3), (np.min(found) * 0.999, 0.0)):
        given = probability_of_meeting(
            FITTED, load, Objectives(ttft=limit), of="p90", draws=draws, seed=3
        )
        assert given.value == share
        assert np.isclose(given.standard_error, np.sqrt(share * (1 - share) / draws))


def _row(library, i, draws):
    def pick(leaf):
        return np.asarray(leaf)[i] if np.shape(leaf) == (draws,) else leaf

    return jax.tree.map(pick, library)


def test_a_load_near_saturation_is_met_as_often_as_the_engine_can_take_it():
    loose = Objectives(ttft=1e6)
    at_most = probability_of_meeting(FITTED, Load(rate=MOST), loose, draws=10)
    assert 0 < at_most.value < 1
    assert probability_of_meeting(FITTED, Load(rate=MOST), loose, draws=10) == at_most
    assert probability_of_meeting(FITTED, Load(rate=3 * MOST), loose, draws=2).value == 0


def test_probabilities_that_cannot_be_told():
    with pytest.raises(InputError, match="kernels of .* are not fitted"):
        probability_of_meeting(CASE, Load(rate=1.0), PROMISE)
    with pytest.raises(InputError, match="draws: 1 is not allowed"):
        probability_of_meeting(FITTED, Load(rate=1.0), PROMISE, draws=1)
    with pytest.raises(InputError, match="of: 'p95' is not known"):
        probability_of_meeting(FITTED, Load(rate=1.0), PROMISE, of="p95")
