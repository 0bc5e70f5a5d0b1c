"""Plans that are left out by their Lagrangian bound are never the best, by brute force."""

import numpy as np
import pytest

from diffgenz.studies.optimize.pruning import BEHIND, KEPT, Pruning, bounds_of
from diffgenz.studies.optimize.sqp import LEFT, Point, descend

PLANS, N, M, TERMS = 20, 3, 3, 4
LOW, HIGH = np.full(N, -2.0), np.full(N, 2.0)


def geometric_programs(seed):
    """What is at x of some plans: each has random posynomials of its own; all are met at x = 0."""
    rng = np.random.default_rng(seed)
    exponents = rng.normal(size=(PLANS, 1 + M, TERMS, N))
    coefficients = rng.uniform(0.1, 2, (PLANS, 1 + M, TERMS))
    coefficients[:, 1:] /= coefficients[:, 1:].sum(axis=2, keepdims=True)
    coefficients[:, 0] *= np.exp(rng.uniform(0, 1, PLANS))[:, None]

    def at(x, plans):
        terms = coefficients[plans] * np.exp(np.einsum("lkti,li->lkt", exponents[plans], x))
        total = terms.sum(axis=2)
        slopes = np.einsum("lkt,lkti->lki", terms / total[:, :, None], exponents[plans])
        values = np.log(total)
        return Point(values[:, 0], values[:, 1:], slopes[:, 0], slopes[:, 1:])

    return at


@pytest.fixture(scope="module", params=range(4))
def program(request):
    """What is at x, the starts, their plans, and the optimum of every plan."""
    at = geometric_programs(request.param)
    plan = np.repeat(np.arange(PLANS), 4)
    start = np.random.default_rng(9).uniform(LOW, HIGH, (len(plan), N))
    found = descend(
        lambda x, lanes: at(x, plan[lanes]), start, LOW, HIGH, np.ones(M), tolerance=1e-9
    )
    f = np.where(found.violation <= 1e-7, found.point.f, np.inf).reshape(PLANS, 4)
    return at, start, plan, f.min(axis=1)


def test_a_bound_is_below_the_optimum_at_any_point_and_multipliers(program):
    at, _, _, optimum = program
    rng = np.random.default_rng(1)
    for plan in range(PLANS):
        x, lam = rng.uniform(LOW, HIGH, (500, N)), rng.exponential(1.0, (500, M))
        bounds = bounds_of(x, at(x, np.full(500, plan)), lam, LOW, HIGH)
        assert bounds.max() <= optimum[plan] + 1e-7


def solved(at, start, plan, pruning, tolerance):
    """All lanes solved, but for those that `pruning` leaves."""
    return descend(
        lambda x, lanes: at(x, plan[lanes]),
        start,
        LOW,
        HIGH,
        np.ones(M),
        tolerance=tolerance,
        leaves=pruning,
    )


def test_what_is_left_out_is_behind_and_the_best_is_found(program):
    at, start, plan, optimum = program
    pruning = Pruning(plan, np.ones(PLANS, bool), LOW, HIGH)
    found = solved(at, start, plan, pruning, 1e-9)
    left = pruning.left
    assert left.any()
    assert (optimum[left] > optimum.min() + BEHIND).all()
    assert (optimum[left] > np.sort(optimum)[KEPT - 1]).all()
    assert (found.status[~left[plan]] != LEFT).all()
    kept = found.point.f.reshape(PLANS, 4)[~left]
    np.testing.assert_allclose(kept, np.repeat(optimum[~left][:, None], 4, axis=1), atol=1e-7)


def test_few_plans_are_all_solved(program):
    at, start, plan, _ = program
    few = plan < KEPT
    pruning = Pruning(plan[few], np.ones(KEPT, bool), LOW, HIGH)
    found = solved(at, start[few], plan, pruning, 1e-6)
    assert (found.status != LEFT).all()


def test_a_plan_that_is_not_convex_is_never_left(program):
    at, start, plan, _ = program
    convex = np.arange(PLANS) % 2 == 0
    pruning = Pruning(plan, convex, LOW, HIGH, others=[-1e9] * KEPT)
    found = solved(at, start, plan, pruning, 1e-6)
    np.testing.assert_array_equal(found.status == LEFT, convex[plan])
