"""Ranges of shadow prices, checked by solving again: closed forms by hand, and a real problem."""

import pytest
from small_llama import small

import diffgenz as dgz


def solve(over, objective, limits, quantities, **changes):
    case = dgz.Scenario(small(), dgz.load_platform("h100_sxm", 1, "none"), dgz.Workload(1, 16, 4))
    return dgz.optimize(
        case, over, objective, subject_to=limits, quantities=quantities, starts=1, **changes
    )


def test_a_range_ends_where_another_limit_begins():
    """a + b is least with a b >= L at a = b = sqrt L: 2 sqrt L, until a + 5 = 8, which is L = 9.

    To first order, ln((a + 5) / 8) is reached at L = 4 exp(7 ln(8 / 7)) = 10.2.
    """
    asked = {"a": (0.01, 100), "b": (0.01, 100)}, "a + b", ["a * b >= 4", "a + 5 <= 8"]
    first = solve(*asked, {"a": "1", "b": "1"}, check_prices=False).best.prices
    (price,) = solve(*asked, {"a": "1", "b": "1"}).best.prices
    assert first[0].high == pytest.approx((8 / 7) ** 7, rel=1e-3)
    assert (first[0].resolved, first[0].low_elasticity) == (None, None)
    assert price.elasticity == pytest.approx(0.5, rel=1e-5)
    assert price.resolved == pytest.approx(0.5, rel=1e-5)
    assert price.high == pytest.approx(9 / 4, rel=0.06)
    assert price.high <= 9 / 4 * (1 + 1e-6)
    assert price.low == pytest.approx(1 / 8)  # as far as it is looked
    assert price.high_elasticity == pytest.approx(0.5, rel=1e-4)


def test_a_bound_holds_until_the_optimum_is_inside():
    """3 x + 12 / x is least at 2; with x >= B it rises by (3 B - 12 / B) / (3 B + 12 / B) %."""

    def slope(bound):
        return (3 * bound - 12 / bound) / (3 * bound + 12 / bound)

    (price,) = solve({"x": (4, 400)}, "3 * x + 12 / x", ["x <= 1e4"], {"x": "1"}).best.prices
    assert (price.name, price.bound) == ("x", "lower")
    assert price.elasticity == pytest.approx(slope(4), rel=1e-5)
    assert price.resolved == pytest.approx(slope(4), rel=1e-4)
    assert price.low == pytest.approx(0.5, rel=0.06)
    assert 4 * price.low >= 2 * (1 - 1e-6)
    assert price.low_elasticity == pytest.approx(slope(4 * price.low), abs=1e-5)
    assert price.high == pytest.approx(8)  # as far as it is looked
    assert price.high_elasticity == pytest.approx(slope(32), rel=1e-4)


def test_what_must_be_more_than_a_number_has_its_range_on_its_own_side():
    """x is largest with 6 >= x y >= ..., y >= 2: 3; the limit holds until y's bound lets go."""
    found = solve(
        {"x": (0.1, 5), "y": (2, 50)}, "x", ["x * y <= 6"], {"x": "1", "y": "3"}, maximise=True
    )
    prices = {price.name: price for price in found.best.prices}
    limit, bound = prices["x * y <= 6"], prices["y"]
    assert limit.elasticity == pytest.approx(1, rel=1e-5)
    assert limit.high == pytest.approx(10 / 6, rel=0.05)  # where x is at its bound of 5
    assert bound.elasticity == pytest.approx(-1, rel=1e-5)
    assert bound.low == pytest.approx(3 / 5, rel=0.05)
    for price in (limit, bound):
        assert price.resolved == pytest.approx(price.elasticity, rel=1e-3)


@pytest.mark.slow
def test_prices_of_a_platform_are_those_of_solving_again():
    """Close by and at the end of the range alike."""
    case = dgz.Scenario(
        dgz.load_model("meta-llama/Llama-3.1-8B"),
        dgz.load_platform("h100_sxm", 2, "none"),
        dgz.Workload(32, 512, 64),
        plan=dgz.Parallelism(2),
    )
    over = {"peak_flops[bf16]": (2e14, 4e15), "memory_bandwidth": (1e12, 16e12), "batch": (1, 4096)}
    cost = "2500 + 2.5e-12 * peak_flops[bf16] + 3e-10 * memory_bandwidth"

    def best(ttft, check_prices=False):
        return dgz.optimize(
            case,
            over,
            "cost / throughput",
            subject_to=["fits", f"ttft <= {ttft!r}"],
            quantities={"cost": cost},
            plans=dgz.Parallelism(2),
            starts=1,
            check_prices=check_prices,
        ).best

    found = best(0.2, check_prices=True)
    for price in found.prices:
        assert price.resolved == pytest.approx(price.elasticity, rel=0.01), price.name
        assert price.low < 1 < price.high
    price = next(price for price in found.prices if price.name.startswith("ttft"))
    near = best(0.2 * price.high)
    same = next(each for each in near.prices if each.name.startswith("ttft"))
    assert same.elasticity == pytest.approx(price.high_elasticity, rel=0.01)
    assert {each.name for each in near.prices} == {each.name for each in found.prices}
