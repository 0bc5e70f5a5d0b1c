"""Formulas give the slopes that differences give, whatever they are made of."""

import numpy as np
import pytest
from small_llama import small

import diffgenz as dgz
from diffgenz.studies.expressions import Expression
from diffgenz.studies.optimize.duals import Dual
from diffgenz.studies.optimize.optimize import problems_of
from diffgenz.studies.optimize.slopes import compiled_slopes, point_at

FORMULAS = (
    "a + 2 * b - a / b",
    "-a * b ** 2 + 3 ** a",
    "a ** b",
    "log(a) * exp(b / 3) - sqrt(a * b)",
    "max(a, b) + min(a, 2, b)",
    "abs(a - b) / (1 + abs(b - 5))",
    "floor(a) * b + ceil(b)",
)


@pytest.mark.parametrize("text", FORMULAS)
def test_slopes_are_those_of_differences(text):
    formula, step = Expression(text), 1e-6
    a, b = np.random.default_rng(0).uniform(1.1, 2.9, (2, 16))
    one, none = np.ones(16), np.zeros(16)
    names = {"a": Dual(a, np.stack([one, none])), "b": Dual(b, np.stack([none, one]))}
    found = formula(names.__getitem__)

    def at(a, b):
        return formula({"a": a, "b": b}.__getitem__)

    np.testing.assert_allclose(found.value, at(a, b), rtol=1e-14)
    slopes = (at(a + step, b) - at(a - step, b), at(a, b + step) - at(a, b - step))
    np.testing.assert_allclose(
        np.broadcast_to(found.slopes, (2, 16)), np.array(slopes) / (2 * step), atol=1e-7
    )


def test_equal_numbers_share_the_slope_of_their_maximum():
    """As differences have it, and JAX."""
    number = Dual(np.array([2.0]), np.array([[1.0]]))
    assert np.maximum(number, 2.0).slopes == 0.5
    assert np.minimum(2.0, number).slopes == 0.5


def test_comparisons_have_no_slopes():
    number = Dual(np.array([1.0, 3.0]), np.ones((1, 2)))
    assert (number <= 2.0).tolist() == [True, False]


def test_names_of_every_kind_mean_the_same_where_metrics_are_compiled():
    """Free, derived from itself, chosen, of the plan, of the mix, of a quantity, fixed."""
    case = dgz.Scenario(small(), dgz.load_platform("h100_sxm", 2, "none"), dgz.Workload(4, 64, 16))
    mix = dgz.Mix((case, case.replace(workload=dgz.Workload(8, 128, 8))), (1, 2))
    over = {
        "memory_bandwidth": (1e11, 1e14),
        "scenarios[1].workload.batch": (1, 64),
        "shares[0]": (0.5, 2),
        "clock": (1e9, 2e9),
    }
    derived = {"launch_latency": "launch_latency * memory_bandwidth / 3e12"}
    quantities = {"clock": "1.5e9", "sites": "2", "price": "sites * 1e3 + memory_bandwidth / 1e9"}
    limits = [
        "fits",
        "tpot <= 0.02",
        "max(ttft[0], scenarios[1].workload.batch / 100) <= launch_latency * 1e6",
        "scenarios[0].plan.tensor * memory_capacity <= 1e12 * clock / 1e9",
    ]
    asked = over, "price / throughput * clock ** 0.1", False, limits, derived, quantities
    choices = {"sites": dgz.axes.values(2, 4), "memory_capacity": dgz.axes.values(4e10, 8e10)}
    plans = [dgz.Parallelism(1), dgz.Parallelism(2)]
    problem = problems_of(mix, asked, plans, choices)[0][0]
    layouts = np.arange(len(problem.layouts))
    x = np.random.default_rng(0).uniform(problem.low, problem.high, (len(layouts), 4))
    compiled, plain = compiled_slopes(problem, 8)(x, layouts), point_at(problem, x, layouts)
    for one, other in zip(compiled, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)
