"""`optimize` on a small platform: what it finds, and what limits cost."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optimize_cases import ASKED, OVER, TWO, question, solve
from scipy.optimize import minimize
from small_llama import small

import diffgenz as dgz
from diffgenz.core.smooth import HARD
from diffgenz.studies.optimize.compiled import Compiled
from diffgenz.studies.optimize.layouts import Layout, layouts_of
from diffgenz.studies.optimize.parts import estimates_of
from diffgenz.studies.optimize.problem import Problem
from diffgenz.studies.optimize.slopes import point_at
from diffgenz.studies.optimize.sqp import descend


@pytest.fixture(scope="module")
def found():
    return solve()


def problem_of(subject_to=ASKED["subject_to"], case=None, objective=ASKED["objective"]):
    case = question() if case is None else case
    plans = [Layout(plan) for plan in layouts_of(case, None)]
    made = Problem(case, OVER, objective, False, subject_to, {}, ASKED["quantities"], plans)
    return made.hardened(sharpness=8, smooth_batch=True)


def labels_of(problem):
    return [problem.label(place) for place in range(len(problem.layouts))]


def test_every_plan_is_solved_and_the_best_comes_first(found):
    assert {each.plan for each in found.plans} == {"tp 2", "pp 2", "dp 2"}
    values = [each.value for each in found.plans]
    assert values == sorted(values)
    for each in found.plans:
        assert each.kkt <= 1e-7
        assert each.meeting == each.starts == 2
        assert each.certified == each.convexity.holds


def test_it_agrees_with_slsqp(found):
    problem = problem_of()
    names = [variable.name for variable in problem.variables]
    labels = labels_of(problem)
    mine = found.best
    plan = labels.index(mine.plan)

    @functools.cache
    def point(x):
        return point_at(problem, np.asarray(x)[None], np.array([plan]))

    def at(x):
        return point(tuple(x))

    end = minimize(
        lambda x: at(x).f[0],
        np.random.default_rng(plan).uniform(problem.low, problem.high),
        jac=lambda x: at(x).g[0],
        bounds=list(zip(problem.low, problem.high, strict=True)),
        constraints={
            "type": "ineq",
            "fun": lambda x: -at(x).c[0],
            "jac": lambda x: -at(x).rows[0],
        },
        method="SLSQP",
        options={"ftol": 1e-9},
    )
    assert end.success
    assert mine.value == pytest.approx(np.exp(end.fun), rel=1e-4)
    x = np.log([mine.numbers[name] for name in names])
    assert np.exp(at(x).f[0]) == pytest.approx(mine.value, rel=1e-9)
    assert at(x).c.max() <= 1e-7


def test_compiled_slopes_are_jax_derivatives():
    problem = problem_of()
    x = np.random.default_rng(0).uniform(problem.low, problem.high, (3, 4))
    plans = np.array([0, 1, 2])
    with jax.enable_x64(True):

        def rows(x, own):
            return jnp.stack(problem.rows(*problem.with_layout(problem.double, own, jnp.exp(x))))

        tables = problem.table_at(plans)
        slopes = jax.jit(jax.vmap(jax.jacfwd(rows)))(x, tables)
    found = Compiled(problem)(x, plans)
    at_once = point_at(problem, x, plans)
    for one, other in zip(found, at_once, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found.g, slopes[:, 0], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found.rows, slopes[:, 1:], rtol=1e-6, atol=1e-7)


def again(problem, near, plan):
    """ln of the best value, by one lane from an optimum that is near."""
    names = [variable.name for variable in problem.variables]
    x = np.log([[near.numbers[name] for name in names]])
    x = np.clip(x, problem.low, problem.high)
    end = descend(
        lambda x, lanes: point_at(problem, x, np.full(len(x), plan)),
        x,
        problem.low,
        problem.high,
        problem.weights,
        tolerance=1e-8,
    )
    assert end.violation[0] < 1e-7
    return end.point.f[0]


def test_prices_are_what_solving_again_finds(found):
    best = found.best
    plan = labels_of(problem_of()).index(best.plan)
    limits = [price for price in best.prices if not price.bound and price.value is not None]
    assert len(limits) >= 2
    for price in limits[:2]:
        h = min(2e-3, -np.log(price.low) / 2, np.log(price.high) / 2)
        assert h > 0
        ends = []
        for factor in (np.exp(h), np.exp(-h)):
            texts = [
                f"{text.split('<=')[0]} <= {float(price.value * factor)!r}"
                if text == price.name
                else text
                for text in ASKED["subject_to"]
            ]
            ends.append(again(problem_of(texts), best, plan))
        slope = (ends[0] - ends[1]) / (2 * h)
        assert price.elasticity == pytest.approx(slope, rel=0.01)
        assert price.price == pytest.approx(slope * best.value / price.value, rel=0.01)


def test_hardware_that_is_not_free_has_the_elasticity_of_solving_again(found):
    case = question()
    plan = labels_of(problem_of()).index(found.best.plan)
    values = []
    for factor in (1.01, 1 / 1.01):
        chip = case.platform.accelerator
        chip = chip.replace(launch_latency=float(chip.launch_latency) * factor)
        moved = case.replace(platform=case.platform.replace(accelerator=chip))
        values.append(again(problem_of(case=moved), found.best, plan))
    slope = (values[0] - values[1]) / (2 * np.log(1.01))
    assert found.elasticities["accelerator.launch_latency"] == pytest.approx(slope, rel=0.01)


def test_the_exact_optimum_is_confirmed_by_estimate(found):
    exact = found.exact
    case = exact.scenario
    assert case.sharpness == HARD
    assert not case.smooth_batch
    assert float(case.workload.batch) == exact.numbers["batch"] == round(exact.numbers["batch"])
    now = dgz.estimate(case)
    assert bool(now.memory.fits)
    assert float(now.tpot) <= 0.004
    assert float(now.ttft) <= 0.2
    numbers = exact.numbers
    cost = 2500 + 2.5e-12 * numbers["peak_flops[bf16]"] + 3e-10 * numbers["memory_bandwidth"]
    cost += 1e-9 * numbers["network[0].bandwidth"]
    assert cost <= 9000
    assert exact.value == pytest.approx(cost / float(now.throughput), rel=1e-5)
    assert exact.value == pytest.approx(found.best.value, rel=0.03)
    told = (1 + exact.rounding / 100) * (1 + exact.hardness / 100)
    assert exact.plan == found.best.plan
    assert exact.value / found.best.value == pytest.approx(told, rel=1e-6)


def test_nothing_near_the_exact_optimum_is_better(found):
    """A sweep around it: no whole batch and hardware within the limits does better."""
    exact = found.exact
    case = exact.scenario
    for factor in (0.97, 0.99, 1.01, 1.03):
        for name in ("peak", "memory", "both"):
            chip = case.platform.accelerator
            peaks = dict(chip.peak_flops)
            peaks["bf16"] = float(peaks["bf16"]) * (factor if name != "memory" else 1)
            width = float(chip.memory_bandwidth) * (factor if name != "peak" else 1)
            chip = chip.replace(peak_flops=peaks, memory_bandwidth=width)
            now = dgz.estimate(case.replace(platform=case.platform.replace(accelerator=chip)))
            cost = 2500 + 2.5e-12 * peaks["bf16"] + 3e-10 * width
            cost += 1e-9 * exact.numbers["network[0].bandwidth"]
            meets = float(now.tpot) <= 0.004 and float(now.ttft) <= 0.2 and cost <= 9000
            if meets:
                assert cost / float(now.throughput) >= exact.value * (1 - 2e-4)


@pytest.mark.slow
def test_more_can_be_asked_for_too(found):
    least = found
    plan = {"tp 2": TWO, "pp 2": dgz.Parallelism(1, 2), "dp 2": dgz.Parallelism(1, data=2)}
    most = solve(objective="throughput / unit_cost", maximise=True, plans=[plan[least.best.plan]])
    assert most.best.value == pytest.approx(1 / least.best.value, rel=1e-6)
    for one, other in zip(least.best.prices, most.best.prices, strict=True):
        assert one.name == other.name
        assert one.elasticity == pytest.approx(-other.elasticity, abs=1e-5)


def test_an_slo_that_cannot_be_met_says_what_is_least_violated():
    """Of the limits, that on a time gives way and not those on hardware."""
    limits = ["fits", "unit_cost <= 4000"]
    found = solve(subject_to=[*limits, "tpot <= 1e-5"], plans=TWO)
    assert found.best is None
    assert found.exact is None
    (violation,) = found.infeasible[0].violations
    assert violation.limit == "tpot <= 1e-05"
    least = again(problem_of(limits, objective="tpot"), found.infeasible[0], 2)
    assert violation.factor * 1e-5 == pytest.approx(np.exp(least), rel=1e-3)
    assert found.verdict.startswith("no plan meets all limits")
    assert "tpot <= 1e-05 to" in found.verdict
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_number_without_influence_is_named_and_stays():
    over = {name: OVER[name] for name in ("memory_bandwidth",)}
    over |= {"network[1].bandwidth": (1e10, 1e12)}
    found = solve(over=over, subject_to=["fits"], plans=TWO)
    assert found.best.uninfluential == ("network[1].bandwidth",)
    now = float(question().platform.network[1].bandwidth)
    assert found.best.numbers["network[1].bandwidth"] == pytest.approx(now)


def test_a_bound_that_is_reached_has_a_price():
    over = {"memory_bandwidth": (1e12, 2e12)}
    found = solve(objective="tpot", over=over, subject_to=["fits"], plans=TWO)
    (price,) = found.best.prices
    assert (price.name, price.bound, price.value) == ("memory_bandwidth", "upper", 2e12)
    wide = dgz.elasticities(case_with_bandwidth(found.best.numbers["memory_bandwidth"]), "tpot")[
        "accelerator.memory_bandwidth"
    ]
    assert price.elasticity == pytest.approx(float(wide), rel=1e-3)


def case_with_bandwidth(bandwidth):
    case = question(smooth_batch=True)
    chip = case.platform.accelerator.replace(memory_bandwidth=bandwidth)
    return case.replace(platform=case.platform.replace(accelerator=chip))


@pytest.mark.slow
def test_a_mix_has_one_limit_for_each_part():
    mix = dgz.Mix((question(), question(workload=dgz.Workload(32, 2048, 16))), (3, 1))
    over = {name: OVER[name] for name in ("memory_bandwidth", "peak_flops[bf16]")}
    over |= {f"scenarios[{part}].workload.batch": (1, 4096) for part in (0, 1)}
    asked = ASKED | {"subject_to": ["fits", "ttft <= 0.5", "unit_cost <= 9000"]}
    found = dgz.optimize(mix, over, **asked, plans=TWO, starts=2, check_prices=False)
    names = {price.name for price in found.best.prices}
    assert {"ttft[0] <= 0.5", "ttft[1] <= 0.5"} <= names
    assert found.exact.violation < 1e-3
    batches = [found.exact.numbers[f"scenarios[{part}].workload.batch"] for part in (0, 1)]
    assert batches == [round(batch) for batch in batches]
    both = [dgz.estimate(part) for part in found.exact.scenario.scenarios]
    assert all(float(each.ttft) <= 0.5 for each in both)


def test_a_quantity_that_is_a_plain_number_may_be_free():
    """The least of 3 clock + 12 / clock is at 2; its bound from below has the price by hand."""
    changes = {"objective": "3 * clock + 12 / clock", "subject_to": ["tpot <= 1"], "plans": TWO}
    changes["quantities"] = {"clock": "5"}
    best = solve(over={"clock": (0.1, 100)}, **changes).best
    assert best.numbers["clock"] == pytest.approx(2, rel=1e-6)
    assert best.value == pytest.approx(12, rel=1e-9)
    assert best.certified
    bound = solve(over={"clock": (4, 100)}, **changes)
    (price,) = bound.best.prices
    assert price.price == pytest.approx(3 - 12 / 4**2, rel=1e-5)
    assert bound.exact.numbers == {"clock": pytest.approx(4)}


def test_what_a_chip_takes_to_build_is_an_objective_and_a_limit():
    """The cheapest die within an envelope of power: its cost is that of `technology_of`."""
    over = {"memory_bandwidth": (1e12, 8e12), "peak_flops[bf16]": (0.1e15, 2e15)}
    within = ["fits", "tpot <= 0.004", "tdp <= 800", "die_area <= 900"]
    found = solve(objective="unit_cost", quantities={}, over=over, subject_to=within, plans=TWO)
    build = dgz.technology_of(found.exact.scenario.platform)
    assert float(build.unit_cost) == pytest.approx(found.exact.value, rel=1e-5)
    assert build.tdp <= 800
    assert build.die_area <= 900
    prices = {price.name: price for price in found.best.prices}
    assert prices["tpot <= 0.004"].elasticity < 0  # a looser limit makes it cheaper
    bare = question()
    accelerator = bare.platform.accelerator.replace(design=None)
    bare = bare.replace(platform=bare.platform.replace(accelerator=accelerator))
    with pytest.raises(dgz.InputError, match="design: the file of .* does not say how it is built"):
        dgz.optimize(bare, over=over, objective="unit_cost", subject_to=within)


def test_the_largest_batch_at_a_limit_is_whole_and_one_more_exceeds_it():
    changes = {"objective": "batch", "maximise": True, "subject_to": ["fits", "tpot <= 0.008"]}
    found = solve(over={"batch": (1, 4096)}, plans=TWO, **changes)
    batch = found.exact.numbers["batch"]
    assert batch == round(batch)

    def tpot(batch, case=found.exact.scenario):
        workload = case.workload.replace(batch=batch)
        return float(dgz.estimate(case.replace(workload=workload)).tpot)

    assert tpot(batch) <= 0.008 < tpot(batch + 1)
    (price,) = found.best.prices
    assert price.name == "tpot <= 0.008"
    smooth, best = question(smooth_batch=True), found.best.value
    slope = (tpot(best + 2, smooth) - tpot(best - 2, smooth)) / 4
    assert price.price == pytest.approx(1 / slope, rel=0.01)


def test_parts_of_a_mix_are_estimated_together_as_alone():
    parts = [question(workload=dgz.Workload(n, 512 * n, 64)) for n in (1, 2, 5)]
    parts.append(question(plan=dgz.Parallelism(2, overlap=0.5)))
    mix = dgz.Mix(tuple(parts), (1, 1, 1, 1))
    for each, part in zip(estimates_of(mix), parts, strict=True):
        alone = dgz.estimate(part)
        for name in ("ttft", "tpot", "throughput", "energy_per_output_token"):
            one, other = (float(np.squeeze(getattr(x, name))) for x in (each, alone))
            assert one == pytest.approx(other, rel=1e-6)


def test_a_small_model_is_solved_by_hand():
    """One matrix-bound number: TPOT is inversely proportional to bandwidth but for latencies."""
    case = dgz.Scenario(small(), dgz.load_platform("h100_sxm", 1, "none"), dgz.Workload(1, 16, 4))
    chip = case.platform.accelerator.replace(launch_latency=0.0)
    case = case.replace(platform=case.platform.replace(accelerator=chip), sharpness=HARD)
    found = dgz.optimize(
        case,
        {"memory_bandwidth": (1e11, 1e13)},
        "memory_bandwidth",
        subject_to=["tpot <= 1e-6"],
        starts=2,
        check_prices=False,
    )
    (price,) = found.best.prices
    assert found.best.certified
    assert "global optimum" in found.best.certificate
    now = dgz.estimate(found.exact.scenario)
    assert float(now.tpot) == pytest.approx(1e-6, rel=1e-4)
    assert price.elasticity == pytest.approx(-1, rel=0.2)
