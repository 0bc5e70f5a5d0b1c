"""`front` between objectives: what it holds, and its hypervolume by hand."""

import numpy as np
import pytest

import diffgenz as dgz
from diffgenz.studies.optimize.front import _worth_having
from diffgenz.studies.optimize.scalarized import towards, within

OVER = {"memory_bandwidth": (1e12, 16e12), "peak_flops[bf16]": (2e14, 4e15)}
QUANTITIES = {"unit_cost": "2500 + 2.5e-12 * peak_flops[bf16] + 3e-10 * memory_bandwidth"}


def question():
    return dgz.Scenario(
        dgz.load_model("meta-llama/Llama-3.1-8B"),
        dgz.load_platform("h100_sxm", 1, "none"),
        dgz.Workload(16, 512, 64),
    )


def solve(*objectives, **changes):
    asked = {"quantities": QUANTITIES, "points": 4} | changes
    return dgz.front(question(), OVER, objectives, **asked)


def at(numbers, workload=None):
    """Time per token and first token as `estimate` has them, smooth."""
    case = question()
    case = case if workload is None else case.replace(workload=workload)
    chip = case.platform.accelerator
    peaks = dict(chip.peak_flops) | {"bf16": numbers["peak_flops[bf16]"]}
    chip = chip.replace(peak_flops=peaks, memory_bandwidth=numbers["memory_bandwidth"])
    platform = case.platform.replace(accelerator=chip)
    found = dgz.estimate(case.replace(platform=platform, smooth_batch=True))
    return float(found.tpot), float(found.ttft)


def test_a_front_of_two_is_what_it_says_and_nothing_beats_it():
    found = solve("unit_cost", "tpot")
    values = np.array([point.values for point in found.points])
    assert len(values) >= 5
    assert (np.diff(values[:, 0]) > 0).all()
    assert (np.diff(values[:, 1]) < 0).all()
    for point in found.points:
        assert point.values[1] == pytest.approx(at(point.numbers)[0], rel=1e-5)
    # the cheapest is the corner of the box; no draw beats any point
    assert values[0, 0] == pytest.approx(2500 + 2.5e-12 * 2e14 + 3e-10 * 1e12, rel=1e-6)
    rng = np.random.default_rng(0)
    for _ in range(20):
        numbers = {name: np.exp(rng.uniform(*np.log(ends))) for name, ends in OVER.items()}
        cost = 2500 + 2.5e-12 * numbers["peak_flops[bf16]"] + 3e-10 * numbers["memory_bandwidth"]
        tpot, _ = at(numbers)
        assert not ((cost < values[:, 0] * 0.9999) & (tpot < values[:, 1] * 0.9999)).any()
    assert found.hypervolume > 0


@pytest.mark.slow
def test_a_front_of_three_has_that_of_two_on_its_edge():
    two = solve("unit_cost", "tpot")
    three = solve("unit_cost", "tpot", "ttft")
    assert len(three.points) > len(two.points)
    values = np.array([point.values for point in three.points])
    for i, one in enumerate(values):
        beaten = (np.delete(values, i, 0) <= one).all(axis=1)
        assert not beaten.any()
    assert values[:, 0].min() == pytest.approx(two.points[0].values[0], rel=1e-6)
    for point in three.points:
        assert point.values[1:] == pytest.approx(at(point.numbers), rel=1e-5)


def test_ways_by_hand():
    """A limit of 1 on the second of two; and from (0, 0) in directions to (2, 4)."""
    points = np.array([[0.5, 0.9], [0.2, 1.5]])
    assert within(np.array([[1.0]])).reached(points)[:, 0].tolist() == [0.5, np.inf]
    ways = towards(np.zeros(2), np.array([2.0, 4.0]), 2)
    np.testing.assert_allclose(ways.slope, [[0.5, 3.0], [1.5, 1.0]])
    np.testing.assert_allclose(ways.reached(points), [[1.0, 0.9], [0.5, 1.5]])
    assert len(towards(np.zeros(3), np.ones(3), 4).slope) == 10
    three = towards(np.zeros(3), np.ones(3), 4).slope
    np.testing.assert_allclose(three.sum(axis=1), 1)
    assert three.min() > 0


def test_what_another_equals_and_clearly_beats_is_left_out():
    values = np.array([[0.0, 1.0], [0.05, 1 - 1e-6], [0.5, 0.5], [0.5 + 5e-4, 0.5 - 5e-4]])
    assert _worth_having(values).tolist() == [True, False, True, True]


def test_the_worst_of_a_mix_is_an_objective_without_a_kink():
    """Two parts that differ in context: their worst TPOT is that of the longer one, as said."""
    mix = dgz.Mix((question(), question().replace(workload=dgz.Workload(16, 4096, 64))), (1, 1))
    found = dgz.front(mix, OVER, ("unit_cost", "tpot"), quantities=QUANTITIES, points=2)
    assert all(point.kkt < 1e-3 for point in found.points)
    assert len(found.points) >= 3
    numbers = found.points[-1].numbers
    longer = at(numbers, dgz.Workload(16, 4096, 64))[0]
    assert found.points[-1].values[1] == pytest.approx(longer, rel=1e-5)


def test_hypervolumes_by_hand():
    points = np.array([[0.0, 2.0], [1.0, 0.5], [3.5, 0.0]])
    # 4 x 3: columns of heights 1, 2.5, 3 from 0, 1, 3.5
    assert dgz.hypervolume(points, np.array([4.0, 3.0])) == pytest.approx(1 + 2.5 * 2.5 + 0.5 * 3)
    cube = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    # of 2 x 2 x 2 each beats 4, each pair 2 of them, all three 1
    assert dgz.hypervolume(cube, np.full(3, 2.0)) == pytest.approx(3 * 4 - 3 * 2 + 1)
    assert dgz.hypervolume(np.array([[5.0, 0.0]]), np.array([4.0, 3.0])) == 0


@pytest.mark.parametrize(
    ("objectives", "changes", "words"),
    [
        (("tpot",), {}, "are no two"),
        (("tpot", "tpot <= 1"), {}, "is a condition; name a number"),
        (("tpot", "unit_cost"), {"points": 1}, "points: 1 is not allowed"),
        (("tpot", "unit_cost"), {"more": [True]}, "more: 1 for 2 objectives"),
        (("tpot", "unit_costs"), {}, "'unit_costs' is not known"),
    ],
)
def test_what_cannot_be_used_is_refused(objectives, changes, words):
    with pytest.raises(dgz.InputError) as error:
        solve(*objectives, **changes)
    assert words in str(error.value)


def test_limits_that_nothing_meets_leave_no_front():
    with pytest.raises(dgz.NoSolution, match="no plan meets the limits"):
        solve("unit_cost", "tpot", subject_to=["fits", "ttft <= 1e-6"])
