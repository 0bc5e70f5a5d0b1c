"""Elasticities by the numbers of a routing: each in its own phase, and as large as it should be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import assert_close, make_cluster

from diffgenz import (
    Parallelism,
    PerPhase,
    PowerLaw,
    Scenario,
    Traced,
    Uniform,
    Workload,
    elasticities,
    estimate,
    load_model,
)
from diffgenz.inference.worth import worth

V3 = load_model("deepseek-ai/DeepSeek-V3")
PLAN = Parallelism(1, expert=64, attention_data=64)
ONE = Traced(rows=1.8, dispersion=1.3, variation=0.7, far=0.73, near=0.9, pair=1.4)
OTHER = Traced(rows=1.5, dispersion=1.1, variation=0.5, far=0.9, near=0.95, pair=1.2)


def case_of(routing):
    return Scenario(V3, make_cluster(), Workload(4096, 200, 20), PLAN, routing=routing)


def by_routing(card):
    return {name: float(e) for name, e in card.items() if name.startswith("routing.")}


@pytest.mark.parametrize(("metric", "own"), [("ttft", "prefill"), ("tpot", "decode")])
def test_a_phase_depends_on_its_own_numbers(metric, own):
    case = case_of(PerPhase(ONE, OTHER))
    card = elasticities(case, metric)
    found = by_routing(card)
    assert list(card)[-len(found) :] == list(found)  # hardware comes first
    assert {name.split(".")[1] for name, e in found.items() if e} == {own}
    assert found[f"routing.{own}.variation"] < 0 or metric == "ttft"
    for field in ("rows", "far", "pair"):
        assert found[f"routing.{own}.{field}"] > 0.005
    changed = worth(case, [metric], list(found), 0.01)[metric]
    now = float(getattr(estimate(case), metric))
    for name, e in found.items():
        assert_close(changed[name], now * (1.01**e - 1), rtol=0.03, atol=2e-6 * now)


def test_numbers_of_hardware_have_the_elasticities_that_they_have_alone():
    alike = elasticities(case_of(Traced(rows=1.0)), "tpot")
    told = elasticities(case_of(Traced(pair=np.float32(1.0))), "tpot")
    assert not by_routing(alike)
    assert set(told) - set(alike) == {"routing.pair"}
    assert_close({name: told[name] for name in alike}, alike, rtol=1e-3, atol=1e-5)


def test_the_spread_of_popularity():
    assert by_routing(elasticities(case_of(PowerLaw(0.6)), "tpot"))["routing.spread"] > 0.01
    assert by_routing(elasticities(case_of(PowerLaw(0.0)), "tpot")) == {"routing.spread": 0}
    assert not by_routing(elasticities(case_of(Uniform()), "tpot"))


@pytest.mark.slow
def test_derivatives_are_the_differences():
    case = case_of(ONE)
    expected = elasticities(case, "tpot")
    found = elasticities(jax.tree.map(jnp.asarray, case), "tpot")
    assert list(found) == list(expected)
    assert_close(found, expected, rtol=1e-3, atol=1e-4)
